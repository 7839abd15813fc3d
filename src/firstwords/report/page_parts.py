"""What pages are put together from: tables to be sorted, numbers as people read them, parts that may be missing."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from firstwords.errors import FirstwordsError
from firstwords.report.chart_parts import Chart


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: what is read, and what the column is sorted by where that is not the text.

    topic: it begins a row that is a heading of those below it.
    """

    text: str
    by: float | None = None
    topic: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a heading for each column; cells that have a number to be sorted by are aligned to the right."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    foot: tuple[tuple[Cell, ...], ...] = ()
    """Rows that stay below however the others are sorted."""
    sortable: bool = True

    @property
    def numeric(self) -> tuple[bool, ...]:
        """For each column, whether it holds numbers."""
        return tuple(any(row[column].by is not None for row in self.rows) for column in range(len(self.head)))


@dataclass(frozen=True, slots=True)
class Block:
    """One thing under a heading: sentences, charts, tables, and what the template knows by name, in this order."""

    title: str = ""
    said: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    folded: bool = False
    """Closed until it is asked for."""
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a page. missing: why it has no blocks."""

    name: str
    title: str
    blocks: tuple[Block, ...] = ()
    missing: str = ""


def part(name: str, title: str, build: Callable[[], Sequence[Block] | str], problems: list[str]) -> Part:
    """Build a part: its blocks, or the sentence that says why there are none.

    What cannot be read leaves the part with a sentence about it, which is also added to `problems`: the rest of a page
    is worth reading when one file is damaged.
    """
    try:
        built = build()
    except (FirstwordsError, OSError, ValueError, LookupError, TypeError, AttributeError, csv.Error) as error:
        why = f"{title}: its files cannot be read ({_told(error)})"
        problems.append(why)
        return Part(name, title, missing=f"{why}.")
    return Part(name, title, missing=built) if isinstance(built, str) else Part(name, title, tuple(built))


def _told(error: Exception) -> str:
    if isinstance(error, FirstwordsError):
        return error.what if error.where is None else f"{error.what}: {error.where}"
    return f"{type(error).__name__}: {error}"


def table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[Cell | str]],
    foot: Sequence[Sequence[Cell | str]] = (),
    *,
    sortable: bool = True,
) -> Table:
    """A table of cells; plain text is sorted as text."""
    cells, below = (
        tuple(tuple(Cell(cell) if isinstance(cell, str) else cell for cell in row) for row in part)
        for part in (rows, foot)
    )
    return Table(caption, tuple(head), cells, below, sortable)


def facts(caption: str, rows: Sequence[tuple[str, str]]) -> Table:
    """Two columns: what, and what it is."""
    return table(caption, ("what", "value"), [row for row in rows if row[1]], sortable=False)


def whole(number: float | None) -> Cell:
    """`1,234`, or a dash where there is none."""
    return Cell("–") if number is None else Cell(f"{number:,.0f}", number)


def decimal(number: float | None, digits: int = 3) -> Cell:
    """`2.408`, or a dash where there is none."""
    return Cell("–") if number is None else Cell(f"{number:,.{digits}f}", number)


def percent(share: float | None) -> Cell:
    """`97.8` of a share from 0 to 1, or a dash where there is none."""
    return Cell("–") if share is None else Cell(f"{100 * share:.1f}", share)


def interval(low: float, high: float) -> Cell:
    """`95.5 to 98.7` of shares from 0 to 1, sorted by the lower end."""
    return Cell(f"{100 * low:.1f} to {100 * high:.1f}", low)


def plain(name: str) -> str:
    """`filler_gap_dependency` -> `filler gap dependency`."""
    return name.replace("_", " ")


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "nothing"
