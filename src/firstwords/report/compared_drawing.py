"""How far models lie apart, drawn with plain characters: for a terminal, a mail, a Markdown file without pictures."""

from __future__ import annotations

from collections.abc import Sequence

from firstwords.report.compared import LETTERS, By, Compared, is_sure, line_name, rows_by

_CHANCE = 0.5
_LEAST_SCALE = 30
"""Columns of a drawing; names that leave fewer are not drawn."""
_LEGEND = "= is a sure difference (p at most 0.05), - is none that is sure, : is chance"


def drawing(found: Compared, by: By, width: int = 80) -> list[str]:
    """A line for each phenomenon on a scale of percents: a letter a model, and what is between them; chance dotted.

    Empty where there are no lines, and where their names leave no room.
    """
    rows = [rows_by(one, by) for one in found.comparisons]
    named = {
        line_name(row, by): [row.a.estimate, *(of[place].b.estimate for of in rows)]
        for place, row in enumerate(rows[0])
    }
    margin = max(map(len, named), default=0) + 2
    room = width - margin
    if not named or room < _LEAST_SCALE:
        return []
    shares = [share for of in named.values() for share in of]
    # From one multiple of ten to another, chance always between them.
    low, high = int(10 * min(_CHANCE, *shares)), -int(-10 * max(_CHANCE, *shares) // 1)
    scale = _Scale(low / 10, max(high, low + 1) / 10, room)
    sure = {line_name(row, by) for of in rows for row in of if is_sure(row)}
    lines = [" " * margin + scale.numbers()]
    lines += [name.ljust(margin) + scale.line(of, joined=name in sure) for name, of in named.items()]
    return [line.rstrip() for line in [*lines, _LEGEND]]


class _Scale:
    """Columns for shares from `low` to `high`."""

    def __init__(self, low: float, high: float, width: int) -> None:
        self._low, self._high, self._width = low, high, width

    def _place(self, share: float) -> int:
        return round((share - self._low) / (self._high - self._low) * (self._width - 4))

    def numbers(self) -> str:
        """The percents, each beginning where it stands."""
        text = ""
        for ten in range(round(10 * self._low), round(10 * self._high) + 1):
            text = text.ljust(self._place(ten / 10)) + str(10 * ten)
        return text

    def line(self, shares: Sequence[float], *, joined: bool) -> str:
        """The letters of models at their shares; those that would stand on one another share a star."""
        signs = [" "] * (self._width - 3)
        signs[self._place(_CHANCE)] = ":"
        places = [self._place(share) for share in shares]
        for place in range(min(places), max(places)):
            signs[place] = "=" if joined else "-"
        for letter, place in zip(LETTERS, places, strict=False):
            signs[place] = letter if places.count(place) == 1 and len(letter) == 1 else "*"
        return "".join(signs)
