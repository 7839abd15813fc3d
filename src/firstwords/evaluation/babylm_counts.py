"""How many items every part of the BabyLM test sets has officially; babylm_counts.toml has the figures and source."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any


def full_counts(key: str) -> Mapping[str, int]:
    """Items of each part of a full test set, by its key in a submission, as in `blimp` or `entity_tracking`."""
    counts: dict[str, int] = _table()["full"][key]
    return counts


def fast_counts(key: str) -> Mapping[str, int]:
    """Items of each part of a fast test set. WUG, reading and Global PIQA have no smaller set than the full one.

    Of entity tracking, the fast set is the split `regular`.
    """
    each = _table()["fast_each"].get(key)
    if each is not None:
        return dict.fromkeys(full_counts(key), each)
    return {part: count for part, count in full_counts(key).items() if "_ops" not in part or part.startswith("regular")}


def aoa_count(year: int) -> int:
    """Words in context for the age of acquisition, at every checkpoint."""
    count: int = _table()["aoa"][str(year)]
    return count


def count_notes(found: Iterable[str], official: Mapping[str, int]) -> list[str]:
    """What must be said where items are not as many as officially.

    found: the part of every item. Upper and lower case of names are alike, as in the organisers' check.
    """
    counts = Counter(part.lower() for part in found)
    expected = {part.lower(): count for part, count in official.items()}
    differing = [
        f"{part} has {counts[part]:,}, not {expected.get(part, 0):,}"
        for part in sorted(counts.keys() | expected.keys())
        if counts[part] != expected.get(part, 0)
    ]
    if not differing:
        return []
    shown = "; ".join(differing[:5]) + (f"; and {len(differing) - 5} more" if len(differing) > 5 else "")
    return [f"Not as many items as the official test set has: {shown}. Results cannot be compared with others'."]


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(resources.files("firstwords.evaluation").joinpath("babylm_counts.toml").read_text("utf-8"))
