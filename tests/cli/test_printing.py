"""Tables on a screen and in a pipe: nothing is lost, and on a screen nothing is wider than it."""

from __future__ import annotations

import sys

import pytest

from firstwords.cli.printing import column_lines, print_columns

ROWS = [
    ["", "model-a", "model-b"],
    ["sources", "simple_wiki, bnc_spoken, open_subtitles", "simple_wiki, bnc_spoken, open_subtitles"],
    ["seed", "1", "2"],
]


@pytest.mark.parametrize("width", [50, 64, 80, 200])
def test_cells_are_broken_to_the_width_and_no_word_is_lost(width: int) -> None:
    lines = column_lines(ROWS, width=width)
    assert max(map(len, lines)) <= width
    assert sorted(" ".join(lines).split()) == sorted(word for row in ROWS for cell in row for word in cell.split())
    assert lines[0].index("model-b") == next(line for line in lines if line.startswith("seed")).index("2")


def test_where_columns_would_be_too_narrow_to_read_nothing_is_broken() -> None:
    assert column_lines(ROWS, width=20) == column_lines(ROWS)


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, **options: object) -> list[str]:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_columns(ROWS, **options)  # type: ignore[arg-type]
    return capsys.readouterr().out.splitlines()


def test_a_table_of_numbers_is_stacked_and_its_first_columns_stand_in_each_part(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(capsys, monkeypatch, repeated=1)
    assert max(map(len, lines)) <= 60
    assert [line.split()[0] for line in lines if line] == ["model-a", "sources", "seed", "model-b", "sources", "seed"]
    assert lines[3] == ""


def test_in_a_pipe_a_row_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_columns(ROWS, wrap=True)
    print_columns(ROWS, repeated=1)
    assert len(capsys.readouterr().out.splitlines()) == 2 * len(ROWS)
