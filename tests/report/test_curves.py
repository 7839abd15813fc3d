"""Learning curves, of checkpoints that were measured on the same pairs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from firstwords.report.curves import curve_tables, learning_curves
from firstwords.report.page_results import result_blocks
from firstwords.run_folder import RunFolder, atomic_write_json

RESULT = "grammar.firstwords"


@pytest.fixture
def run(tiny_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A run with results of three checkpoints: the first on pairs that were changed later."""
    run = RunFolder(tmp_path / tiny_run.name)
    shutil.copytree(tiny_run.path, run.path)
    measured = run.result(RESULT)
    for number, pairs in enumerate(("0" * 64, measured["data"]["sha256"], measured["data"]["sha256"]), start=1):
        name = f"words-{number:04}M.{RESULT}"
        changed = measured | {"data": measured["data"] | {"sha256": pairs}}
        if number == 1:
            changed["phenomena"] = {"something else": next(iter(measured["phenomena"].values()))}
        atomic_write_json(run.result_path(name), changed)
        run.set_done(f"evaluation.{name}", "a fingerprint", 0.0, {})
    return run


def test_a_curve_holds_results_on_the_same_pairs_alone(run: RunFolder) -> None:
    curves = learning_curves(run, RESULT)
    assert curves is not None
    assert list(curves.overall.accuracies) == [2_000_000, 3_000_000]
    assert "something else" not in curves.phenomena
    table = curve_tables(run, [RESULT])[RESULT]
    assert table.note.startswith("without the checkpoints at 1M words, which were measured on other pairs")
    header, *rows = table.rows
    assert header == ["", "2M", "3M", "above chance from"]
    assert len(rows) == len(curves.phenomena) + 1
    assert all(len(row) == len(header) for row in rows)


def test_the_page_says_what_a_curve_leaves_out(run: RunFolder) -> None:
    blocks = result_blocks(run, None)
    assert any("1M words" in told for block in blocks for told in block.said)
    assert all("other pairs" not in chart.title for block in blocks for chart in block.charts)


def test_without_checkpoints_there_are_no_curves(tiny_run: RunFolder) -> None:
    assert learning_curves(tiny_run, RESULT) is None
    assert curve_tables(tiny_run, [RESULT]) == {}
