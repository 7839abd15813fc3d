"""Every task and collection can be found by its name, and says what it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from firstwords import assessment
from firstwords.errors import FirstwordsError
from firstwords.evaluation import tasks
from firstwords.evaluation.protocols import PROTOCOLS
from firstwords.evaluation.tasks import collection_names, find_collection, find_task, task_names
from firstwords.evaluation.tasks.task import Lookup, PairsTask

FOLDER = Path(__file__).parents[3] / "src" / "firstwords" / "evaluation" / "tasks"


@pytest.mark.parametrize("name", task_names())
def test_a_task_is_found_by_its_own_name_and_describes_itself(name: str) -> None:
    task = find_task(name)
    assert task.name == name
    assert all([task.title, task.license, task.citation, task.measures])
    if not isinstance(task, PairsTask):
        assert task.protocols
        assert all(task.protocols.values())
        assert callable(task.load)
        assert callable(task.evaluate)


@pytest.mark.parametrize("name", collection_names())
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("fast", [False, True])
def test_a_collection_names_tasks_with_protocols_that_fit_them(name: str, masked: bool, fast: bool) -> None:
    members = find_collection(name).members(fast=fast, masked=masked)
    assert len(set(members)) == len(members)
    assert members or (name == "glue" and fast), "checkpoints are not fine-tuned"
    for task_name, protocol in members:
        task = find_task(task_name)
        if isinstance(task, PairsTask):
            assert PROTOCOLS[protocol].masked == masked
        else:
            assert protocol in task.protocols


def test_every_file_of_the_folder_is_known() -> None:
    places = [*tasks._TASKS.values(), *tasks._COLLECTIONS.values()]
    shared = {"__init__", "task", "collection", "choices", "fine_tuning", "reading_surprisals"}
    known = {place.split(".")[0] for place in places} | shared
    assert {path.stem for path in FOLDER.glob("*.py")} <= known, "a task that is in no table cannot be asked for"


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(FirstwordsError, match="no test set 'wug-past'") as caught:
        find_task("wug-past")
    assert caught.value.do == "did you mean 'wug-past-tense'?"
    with pytest.raises(FirstwordsError, match="no collection of test sets 'babylm'") as caught:
        find_collection("babylm")
    assert "did you mean 'babylm-202" in (caught.value.do or "")


def test_describing_all_tasks_loads_nothing_heavy() -> None:
    code = (
        "import sys; from firstwords.evaluation.tasks import find_task, task_names\n"
        "[find_task(name).title for name in task_names()]\n"
        "print(sorted({'torch', 'scipy', 'statsmodels', 'transformers', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_result_is_asked_for_by_its_name(tmp_path: Path) -> None:
    tests = assessment.TestSets(Lookup((), tmp_path, offline=True))
    asked = assessment.expand(["grammar.card", "grammar"], ["lm-eval", "pll"], tests, masked=False)
    assert list(map(str, asked)) == ["grammar.card", "grammar.lm-eval", "grammar.pll"]
    assert list(map(str, assessment.expand(["grammar.card", "grammar"], [], tests, masked=False))) == [
        "grammar.card",
        "grammar.firstwords",
    ]


def test_a_file_of_ones_own_may_be_called_as_a_test_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tests = assessment.TestSets(Lookup((), tmp_path, offline=True))
    with pytest.raises(FirstwordsError, match=r"there is no file or folder 'grammar\.csv'"):
        assessment.expand(["grammar.csv"], [], tests, masked=False)
    Path("grammar.csv").write_text("sentence_good,sentence_bad\nThe cat sings.,The cat sing.\n")
    assert list(map(str, assessment.expand(["grammar.csv"], [], tests, masked=False))) == ["grammar.csv.firstwords"]
