"""How results look: aligned columns without borders, the same on a screen, in a pipe and in a file."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

_NARROWEST_LAST_COLUMN = 24


def use_utf8() -> None:
    """Write UTF-8 whatever the locale: a model may answer in any script."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="backslashreplace")


def print_json(value: Any) -> None:
    """One JSON value on stdout."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def print_columns(rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), wrap: bool = False) -> None:
    """Rows in aligned columns on stdout.

    right: numbers of the columns that are aligned to the right. wrap: break the last column at the screen's width; in a
    pipe a row always stays one line.
    """
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(max(map(len, rows)))]
    indent = sum(widths[:-1]) + 2 * (len(widths) - 1)
    room = _screen_width() - indent if wrap and sys.stdout.isatty() else None
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        if room is not None and len(row) == len(widths) and room >= _NARROWEST_LAST_COLUMN:
            first, *others = textwrap.wrap(row[-1], room) or [""]
            print("  ".join([*cells[:-1], first]).rstrip())
            for line in others:
                print(" " * indent + line)
        else:
            print("  ".join(cells).rstrip())


def _screen_width() -> int:
    return shutil.get_terminal_size((80, 24)).columns
