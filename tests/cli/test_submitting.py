"""`firstwords submission` shows what there is, writes a complete file, and refuses another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from firstwords.cli.submitting import submission
from firstwords.errors import FirstwordsError
from firstwords.evaluation.babylm_counts import full_counts
from firstwords.run_folder import RunFolder
from tests.evaluation.submission_results import write_results, write_supplement


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with results of some tasks, trained on two million words."""
    monkeypatch.setenv("FIRSTWORDS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FIRSTWORDS_DATA", raising=False)
    write_supplement(tmp_path / "data")
    run = RunFolder(tmp_path / "runs" / "mine")
    write_results(tmp_path / "data", run.stage("evaluation"), (1, 2), {"blimp_supplement": "supplement"})
    (run.path / "recipe.toml").write_text("")
    run.set_done("training", "x", 1.0, {"words_seen": 2_000_300})
    return tmp_path / "runs"


def test_what_lacks_is_shown_and_nothing_written(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FirstwordsError, match="not complete"):
        submission("mine", track="strict-small", data=(workspace.parent / "data",), workspace=workspace)
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert rows["blimp_supplement"].split() == ["blimp_supplement", "5,218", "2", "of", "2", "complete"]
    assert rows["comps"].endswith("there is no result comps.babylm-2025")
    assert "2,000,300 words" in rows["The"], "the checkpoints that training never reached are not asked for"
    assert not list((workspace / "mine").glob("submission*"))


def test_what_there_is_can_be_written(workspace: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = {"track": "strict-small", "data": (workspace.parent / "data",), "workspace": workspace, "partial": True}
    submission("mine", **options)
    path = workspace / "mine" / "submission-2025.strict-small.json"
    assert capsys.readouterr().out.rstrip().endswith(f"partial: {path}")
    content = json.loads(path.read_text())
    assert len(content["blimp_supplement"]["hypernym"]["predictions"]) == full_counts("blimp_supplement")["hypernym"]
    submission("mine", **options, to=tmp_path / "other.json", json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["path"] == str(tmp_path / "other.json")
    assert told["complete"] is False
    assert told["checkpoints"] == [1, 2]
    assert json.loads((tmp_path / "other.json").read_text()) == content


def test_a_model_that_no_run_made_and_a_name_of_nothing(workspace: Path, tmp_path: Path) -> None:
    other = workspace / "evaluated" / "org--model"
    write_results(tmp_path / "data", other / "evaluation", (), {"blimp_supplement": "supplement"})
    submission("org/model", track="strict", data=(tmp_path / "data",), workspace=workspace, partial=True)
    assert (other / "submission-2025.strict.json").is_file()
    with pytest.raises(FirstwordsError, match="no run 'min'") as caught:
        submission("min", track="strict", workspace=workspace)
    assert caught.value.do == "did you mean 'mine'?"
