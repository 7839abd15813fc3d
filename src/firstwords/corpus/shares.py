"""Who gives how much: sources take turns so that each has its share of a budget, and the budget is never exceeded."""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, Protocol

from firstwords.budget import Budget
from firstwords.errors import FirstwordsError

ShortSources = Literal["error", "redistribute", "accept"]
_UNITS = {
    "bytes": ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"), (1, "B")),
    "words": ((10**9, "B words"), (10**6, "M words"), (10**3, "k words"), (1, "words")),
}


class Supply(Protocol):
    """Documents of one source in the order in which they may be taken."""

    name: str
    weight: float

    def next_size(self, largest: float) -> int | None:
        """Size in the budget's unit of the next document that is no larger than `largest`; None when there is none."""

    def take(self) -> int:
        """Take that document; gives its number."""


@dataclass(slots=True)
class Taken:
    """Documents in the order in which they were taken; `used[s]` is the size of those of source s."""

    used: list[int]
    sources: array[int] = field(default_factory=lambda: array("H"))
    documents: array[int] = field(default_factory=lambda: array("Q"))


def take_in_turn(supplies: Sequence[Supply], budget: Budget, key: str, short_sources: ShortSources) -> Taken:
    """Always the next document of the source that is furthest behind its share, until the next one does not fit.

    So shares are met to within one document, and what was taken, in the order taken, is the round-robin. A source that
    ends before its share is an error, or the others go on without it ("redistribute"), or its share stays empty
    ("accept"). `key` is the recipe key of the budget, for the FirstwordsError.
    """
    total_weight = sum(supply.weight for supply in supplies)
    shares = [budget.amount * supply.weight / total_weight for supply in supplies]
    taken = Taken(used=[0] * len(supplies))
    left: float = budget.amount
    turns = [(0.0, number) for number in range(len(supplies))]  # a heap: how much of its share a source has had
    while turns:
        number = turns[0][1]
        supply = supplies[number]
        size = supply.next_size(largest=shares[number])
        if size is None:
            heapq.heappop(turns)
            lack = math.floor(shares[number]) - taken.used[number]
            if lack > 0 and short_sources == "error":
                raise _short(supply.name, taken.used[number], shares[number], budget, key, sum(taken.used))
            if lack > 0 and short_sources == "accept":
                left -= lack
            continue
        if size > left:
            return taken
        taken.sources.append(number)
        taken.documents.append(supply.take())
        taken.used[number] += size
        left -= size
        heapq.heapreplace(turns, (taken.used[number] / supply.weight, number))
    if short_sources == "redistribute" and left >= 1:
        raise sources_too_small(sum(taken.used), budget, key)
    return taken


def quotas(amount: int, weights: Iterable[float]) -> list[int]:
    """`amount` cut into whole parts by weight; what rounding leaves goes one each to the largest remainders.

    Equal remainders go in order: with equal weights amount // n, and one more for the first amount % n.
    """
    exact_weights = [Fraction(weight) for weight in weights]
    exact = [amount * weight / sum(exact_weights) for weight in exact_weights]
    parts = [math.floor(part) for part in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: parts[i] - exact[i])
    for i in by_remainder[: amount - sum(parts)]:
        parts[i] += 1
    return parts


def say_amount(amount: float, unit: Literal["bytes", "words"]) -> str:
    """`6.28 MB`, `812 kB`, `1.2 M words`: rounded down to three digits, so that a budget of so much can be met."""
    for size, name in _UNITS[unit]:
        if amount >= size:
            value = amount / size
            digits = 0 if size == 1 or value >= 100 else 1 if value >= 10 else 2
            return f"{math.floor(value * 10**digits) / 10**digits:.12g} {name}"
    return f"0 {_UNITS[unit][-1][1]}"


def short_chunks(name: str, available: int, quota: int, budget: Budget, possible: int) -> FirstwordsError:
    """The error for a source that has fewer bytes than its quota of raw chunks."""
    return _short(name, available, quota, budget, "corpus.budget", possible)


def sources_too_small(available: int, budget: Budget, key: str) -> FirstwordsError:
    """The error for a budget that all sources together cannot meet; `key` is its recipe key."""
    unit = budget.unit
    return FirstwordsError(
        f"the budget of {budget.text} cannot be met: all sources together have {say_amount(available, unit)}, "
        f"{say_amount(budget.amount - available, unit)} too little",
        where=key,
        do=f"lower it to {say_amount(available, unit)}, or add a source" if available else "add a source",
    )


def _short(name: str, has: int, share: float, budget: Budget, key: str, possible: int) -> FirstwordsError:
    unit = budget.unit
    lack = say_amount(math.ceil(share) - has, unit)
    lower = f"lower it to {say_amount(possible, unit)}, " if possible else ""
    large = "" if has else '; documents larger than the share are dropped (documents = "lines" makes small ones)'
    return FirstwordsError(
        f"the budget of {budget.text} cannot be met: {name} has {say_amount(has, unit)} of its share of "
        f"{say_amount(share, unit)}, {lack} too little{large}",
        where=key,
        do=f'{lower}add a source, or set corpus.short-sources = "redistribute"',
    )
