"""Results side by side: only of the same data, and a damaged one is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from firstwords.errors import FirstwordsError
from firstwords.report.compared import Seed, compare_all
from firstwords.report.results import ModelResults, accuracy_tables, measure_table, read_results
from firstwords.run_folder import RunFolder
from tests.report.test_compared import CHOSEN
from tests.report.test_comparison import SUITE, change, flat, judgements, write

OTHER = "0123456789abcdef" * 4


@pytest.fixture
def runs(tmp_path: Path, tiny_run: RunFolder) -> list[RunFolder]:
    """Three copies of a run."""
    places = [tmp_path / name for name in ("a", "b", "c")]
    for place in places:
        shutil.copytree(tiny_run.path, place)
    return [RunFolder(place) for place in places]


def models(runs: list[RunFolder]) -> list[ModelResults]:
    return [ModelResults(run.name, *read_results(run)) for run in runs]


def of_other_data(values: dict[str, Any]) -> None:
    values["data"]["sha256"] = OTHER


def test_accuracies_on_other_pairs_stand_in_a_table_of_their_own(runs: list[RunFolder]) -> None:
    name = next(iter(accuracy_tables(models(runs))))
    change(runs[1].result_path(name), of_other_data)
    tables = accuracy_tables(models(runs))
    apart = tables[f"{name} on other data, 01234567"]
    assert [cell for cell in tables[name].rows[0] if "untrained" not in cell] == ["", "pairs", "a", "c"]
    assert apart.rows[0] == ["", "pairs", "b"]
    assert [row[2] for row in apart.rows[1:]] == [row[2] for row in tables[name].rows[1:]]
    assert all("b's text" not in line for line in tables[name].lines)


def test_tasks_on_other_data_stand_in_rows_of_their_own(runs: list[RunFolder]) -> None:
    task = {
        "suite": "reading",
        "metric": "explained",
        "overall": {"value": 0.5, "low": 0.4, "high": 0.6, "items": 9},
        "parts": {},
    }
    for run, sha256 in zip(runs, ("f" * 64, OTHER, "f" * 64), strict=True):
        mark = next((run.path / "done").glob("evaluation.*.json"))
        shutil.copyfile(mark, mark.with_name("evaluation.reading.plain.json"))
        run.result_path("reading.plain").write_text(json.dumps(task | {"data": {"sha256": sha256}}))
    value = "0.500 [0.400 0.600]"
    assert measure_table(models(runs)) == [
        ["", "metric", "a", "b", "c"],
        ["reading.plain", "explained", value, "-", value],
        ["reading.plain on other data, 01234567", "explained", "-", value, "-"],
    ]


def test_a_comparison_keeps_other_data_apart_too(tmp_path: Path) -> None:
    for name, share in (("a", 0.6), ("b", 0.8)):
        write(tmp_path / name, judgements(SUITE, flat(share), 1))
        path = write(tmp_path / name, judgements(SUITE, flat(share), 1), protocol="card")
    change(path, of_other_data)
    seeds = [[Seed.of_folder(name, tmp_path / name)] for name in ("a", "b")]
    facts = compare_all(seeds, CHOSEN).facts()["accuracy, 95% interval"]
    told = {label.split(" (")[0]: [cell == "-" for cell in cells] for label, cells in facts.items()}
    assert told == {
        "mine.firstwords": [False, False],
        "mine.card": [False, True],
        "mine.card on other data, 01234567": [True, False],
    }


@pytest.mark.parametrize("damage", [lambda values: values.pop("overall"), lambda values: values.update(phenomena=3)])
def test_a_damaged_result_is_named(runs: list[RunFolder], damage: Any) -> None:
    name = next(iter(read_results(runs[0])[0]))
    change(runs[0].result_path(name), damage)
    with pytest.raises(FirstwordsError, match=f"the result '{name}' is damaged") as error:
        read_results(runs[0])
    assert error.value.where == str(runs[0].result_path(name))
