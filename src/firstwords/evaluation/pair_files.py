"""Rows of files that people write: JSON lines, and tables with commas or tabs. Complaints name file and line."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstwords.corpus.reading import is_encodable
from firstwords.errors import FirstwordsError

JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
TABLE_ENDINGS = (".csv", ".tsv", ".tab")
ENDINGS = (*JSON_ENDINGS, *TABLE_ENDINGS)


@dataclass(frozen=True, slots=True)
class Row:
    """One row with its values by key or column. place: file and line, as messages name it."""

    values: Mapping[str, Any]
    number: int
    """Of the line on which it begins, counted from 1."""
    place: str

    def text(self, key: str) -> str:
        """The text under `key`. Raises FirstwordsError where it is missing, blank or no text."""
        value = self.values.get(key)
        if not isinstance(value, str) or not value.strip():
            raise malformed(f"the line has no text under '{key}'", self.place)
        return value

    def number_of(self, key: str) -> float:
        """The number under `key`. Raises FirstwordsError where there is none."""
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise malformed(f"the line has no number under '{key}'", self.place)
        return float(value)


def rows(path: Path) -> Iterator[Row]:
    """The rows of a file whose ending says how it is read.

    Raises FirstwordsError for another ending, bytes that are no UTF-8, a line that is no JSON object, and a row that
    has more or fewer cells than the header.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise FirstwordsError(
            f"a file of minimal pairs ends in .jsonl, .csv or .tsv, not in '{path.suffix}'",
            where=str(path),
            do="save it in one of these forms",
        )
    return json_rows(path) if ending in JSON_ENDINGS else table_rows(path)


def json_rows(path: Path) -> Iterator[Row]:
    """One row for each line that is not blank; each is a JSON object."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise malformed(f"the line is no JSON: {error.msg} at column {error.colno}", place) from None
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets
            raise malformed(f"the line cannot be read: {error}", place) from None
        if not isinstance(values, dict):
            raise malformed("the line is no JSON object", place)
        if "\\u" in line and any(isinstance(text, str) and not is_encodable(text) for text in values.values()):
            raise malformed("the line has half of a surrogate pair, which is no character", place)
        yield Row(values, number, place)


def table_rows(path: Path) -> Iterator[Row]:
    """The rows of a table after its header; cells without the white space around them, blank rows left out.

    Cells that hold the delimiter, a line break or quotation marks stand in quotation marks, as spreadsheets write
    them. In a .csv file the delimiter is the comma, semicolon or tab that the header has most of.
    """
    text = read_text(path)
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(path, text), strict=True)
    columns: list[str] | None = None
    while True:
        number = reader.line_num + 1
        place = f"{path}:{number}"
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise FirstwordsError(
                f"the row cannot be read: {error}",
                where=place,
                do="write a cell that begins with a quotation mark in quotation marks, and double those within",
            ) from None
        if not any(cells):
            continue
        if columns is None:
            columns = _header(cells, place)
        elif len(cells) != len(columns):
            raise FirstwordsError(
                f"the row has {len(cells)} cells, and the header has {len(columns)}: {', '.join(columns)}",
                where=place,
                do="correct that row; a cell that holds the delimiter stands in quotation marks",
            )
        else:
            yield Row(dict(zip(columns, cells, strict=True)), number, place)


_LONGEST_CELL = 2**31 - 1
"""Characters; the csv module's own limit is less than a story."""


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark. Raises FirstwordsError with the line that is no UTF-8."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Where there is a byte order mark, the decoder counts from behind it.
        start = error.start + (len(data) - len(error.object))
        line, byte = data.count(b"\n", 0, start) + 1, start - (data.rfind(b"\n", 0, start) + 1)
        raise FirstwordsError(
            f"the line is no valid UTF-8 (byte {byte + 1})",
            where=f"{path}:{line}",
            do="save the file as UTF-8",
        ) from None


def malformed(what: str, place: str) -> FirstwordsError:
    """A line that is not what its file should hold."""
    return FirstwordsError(what, where=place, do="correct that line: a JSON object with the keys of its test set")


def _delimiter(path: Path, text: str) -> str:
    if path.suffix.lower() != ".csv":
        return "\t"
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t", key=header.count)


def _header(cells: list[str], place: str) -> list[str]:
    twice = sorted({cell for cell in cells if cells.count(cell) > 1})
    if twice:
        raise FirstwordsError(f"the header has the column '{twice[0]}' twice", where=place, do="rename one of them")
    return cells
