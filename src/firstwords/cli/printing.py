"""How results look: aligned columns without borders, the same on a screen, in a pipe and in a file."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

_NARROWEST = 12
"""Columns that would become narrower are not broken."""


def use_utf8() -> None:
    """Write UTF-8 whatever the locale: a model may answer in any script."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="backslashreplace")


def print_json(value: Any) -> None:
    """One JSON value on stdout."""
    print(json_text(value))


def json_text(value: Any) -> str:
    """One JSON value as all commands write it."""
    return json.dumps(value, indent=1, ensure_ascii=False)


def print_columns(
    rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), wrap: bool = False, repeated: int | None = None
) -> None:
    """Rows in aligned columns on stdout.

    right: numbers of the columns that are aligned to the right. A table that is wider than the screen is broken; in a
    pipe a row always stays one line. wrap: break its cells. repeated: break it into tables below one another, each of
    which begins with so many of its first columns.
    """
    width = _screen_width() if sys.stdout.isatty() else None
    if width is not None and repeated is not None:
        tables = [column_lines(table, right=right) for table in _stacked(rows, repeated, width)]
        print("\n\n".join("\n".join(lines) for lines in tables))
        return
    for line in column_lines(rows, right=right, width=width if wrap else None):
        print(line)


def _stacked(rows: Sequence[Sequence[str]], repeated: int, width: int) -> Iterator[list[list[str]]]:
    """The table in parts that fit the width, as far as a single column does."""
    widths = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)]
    start = repeated
    while start < len(widths):
        end = start + 1
        while end < len(widths) and sum(widths[:repeated]) + sum(widths[start : end + 1]) - 2 <= width:
            end += 1
        yield [[*row[:repeated], *row[start:end]] for row in rows]
        start = end


def column_lines(rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), width: int | None = None) -> list[str]:
    """Rows in aligned columns. width: that of a line, for which cells are broken; None for as wide as they are.

    The first column is never broken, and none where the others would become too narrow to be read.
    """
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(max(map(len, rows)))]
    if width is not None:
        widths = [widths[0], *_narrowed(widths[1:], width - widths[0] - 2 * (len(widths) - 1))]
    lines = []
    for row in rows:
        cells = [
            row[0:1],
            *([cell] if len(cell) <= room else textwrap.wrap(cell, room) for cell, room in _rest(row, widths)),
        ]
        for line in range(max(map(len, cells))):
            parts = [cell[line] if line < len(cell) else "" for cell in cells]
            padded = [
                part.rjust(room) if column in right else part.ljust(room)
                for column, (part, room) in enumerate(zip(parts, widths, strict=False))
            ]
            lines.append("  ".join(padded).rstrip())
    return lines


def _rest(row: Sequence[str], widths: Sequence[int]) -> Iterator[tuple[str, int]]:
    return zip(row[1:], widths[1:], strict=False)


def _narrowed(widths: Sequence[int], room: int) -> list[int]:
    """Widths that together fit `room`: the widest give way, all to the same width."""
    if sum(widths) <= room:
        return list(widths)
    most = max(widths)
    while most >= _NARROWEST and sum(min(width, most) for width in widths) > room:
        most -= 1
    return [min(width, most) for width in widths] if most >= _NARROWEST else list(widths)


def _screen_width() -> int:
    return shutil.get_terminal_size((80, 24)).columns
