"""`firstwords evaluate` as a user calls it: runs with checkpoints, models of others, pairs of one's own, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from firstwords.cli import main
from firstwords.report.results import read_results
from firstwords.run_folder import RunFolder
from tests.end_to_end.test_bad_input import RECIPE, write_recipe

PAIRS = "good,bad,construction,frequency\n" + "".join(
    f'"The {noun} sleeps near the {place}.","The {noun} sleep near the {place}.",agreement,{frequency}\n'
    f'"Some {noun}s run, quietly.","Some {noun} run, quietly.",number,{frequency}\n'
    for noun in ("cat", "dog", "bird", "girl")
    for place, frequency in (("tree", "high"), ("river", "low"))
)

Ran = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that kept checkpoints by words seen, and pairs in a CSV file."""
    folder = tmp_path_factory.mktemp("workspace")
    write_recipe(folder, RECIPE.replace("max-steps = 3", "max-steps = 6\ncheckpoint-words = [20, 60]"))
    (folder / "pairs.csv").write_text(PAIRS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("FIRSTWORDS_WORKSPACE", raising=False)
        patch.delenv("FIRSTWORDS_DATA", raising=False)
        assert main(["run", "tiny.toml"]) == 0
    return folder


@pytest.fixture
def run(workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ran:
    """Calls the command in the workspace; returns exit code, stdout and stderr."""
    monkeypatch.chdir(workspace)
    monkeypatch.delenv("FIRSTWORDS_WORKSPACE", raising=False)
    monkeypatch.delenv("FIRSTWORDS_DATA", raising=False)

    def of(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(words))
        out, err = capsys.readouterr()
        return code, out, err

    return of


OWN = ("--suite", "pairs.csv", "--good", "good", "--bad", "bad", "--by", "construction,frequency")


def test_every_kept_checkpoint_is_measured_once(run: Ran, workspace: Path) -> None:
    code, out, err = run("evaluate", "tiny", *OWN)
    assert code == 0, err
    results = workspace / "runs" / "tiny" / "evaluation"
    names = sorted(path.name for path in results.glob("*.json"))
    assert names == [
        "pairs.firstwords.floors.json",
        "pairs.firstwords.json",
        "pairs.firstwords.overlap.json",
        "words-20.pairs.firstwords.json",
        "words-60.pairs.firstwords.json",
    ]
    assert "agreement" in out and "above chance from" in out and "20" in out
    assert "without grammar: random 50.0, unigram frequency" in out
    assert "overlap: " in out and "stand in the training text" in out
    assert "adds BOS" in err, "what the preflight found is told"
    written = json.loads((results / "pairs.firstwords.json").read_text())
    assert written["groups"]["frequency"].keys() == {"high", "low"}
    assert written["groups"]["frequency"]["high"]["pairs"] == 8
    assert written["tokenizer"]["adds_bos"] is True
    assert written["model"]["checkpoint"] == "last"
    before = {path: path.stat().st_mtime_ns for path in results.iterdir()}
    code, again, _ = run("evaluate", "tiny", *OWN)
    assert (code, again) == (0, out)
    assert {path: path.stat().st_mtime_ns for path in results.iterdir()} == before, "nothing is scored twice"


def test_changed_pairs_of_the_same_name_are_scored_anew(run: Ran, workspace: Path) -> None:
    assert run("evaluate", "tiny", *OWN)[0] == 0
    result = workspace / "runs" / "tiny" / "evaluation" / "pairs.firstwords.json"
    before = json.loads(result.read_text())
    (workspace / "pairs.csv").write_text(PAIRS + '"A cat sings.","A cat sing.",agreement,high\n')
    try:
        assert run("evaluate", "tiny", *OWN, "--checkpoint", "last")[0] == 0
    finally:
        (workspace / "pairs.csv").write_text(PAIRS)
    after = json.loads(result.read_text())
    assert after["overall"]["pairs"] == before["overall"]["pairs"] + 1
    assert after["data"]["sha256"] != before["data"]["sha256"]


def test_pairs_grouped_in_another_way_are_another_result(run: Ran) -> None:
    groups = []
    for by in ("construction,frequency", "construction", "construction,frequency"):
        code, out, err = run("evaluate", "tiny", *OWN[:-1], by, "--checkpoint", "last", "--json")
        assert code == 0, err
        (result,) = json.loads(out).values()
        groups.append(list(result["groups"]))
    assert groups == [["construction", "frequency"], ["construction"], ["construction", "frequency"]]


def test_pairs_that_grew_between_checkpoints_make_no_curve_together(run: Ran, workspace: Path) -> None:
    grown = workspace / "grown.csv"
    words = ("--suite", "grown.csv", "--good", "good", "--bad", "bad", "--by", "construction")
    grown.write_text(PAIRS)
    assert run("evaluate", "tiny", *words, "--checkpoint", "words-20")[0] == 0
    assert run("evaluate", "tiny", *words, "--checkpoint", "last")[0] == 0
    grown.write_text(PAIRS + '"A cat sings.","A cat sing.",singing,high\n')
    code, out, err = run("evaluate", "tiny", *words, "--checkpoint", "words-60")
    assert code == 0, err
    title, header, *rows, note = out.split("\n\n")[0].strip().splitlines()
    assert note.startswith("without the checkpoints at 20 words, which were measured on other pairs")
    assert title.startswith("grown.firstwords") and header.split() == ["60", "above", "chance", "from"]
    assert [row.split()[0] for row in rows] == ["agreement", "number", "singing", "overall"]
    results = read_results(RunFolder(workspace / "runs" / "tiny"))[0]
    assert results["pairs.firstwords"].beside and not results["grown.firstwords"].beside, "floors of other pairs"


def test_a_checkpoint_that_is_asked_for_is_shown(run: Ran) -> None:
    code, out, err = run("evaluate", "tiny", *OWN, "--checkpoint", "best")
    assert code == 0, err
    assert "tiny best" in out and "agreement" in out


def test_folders_of_one_name_have_results_of_their_own(run: Ran, workspace: Path) -> None:
    import shutil

    for place in ("one", "two"):
        shutil.copytree(workspace / "runs" / "tiny" / "model", workspace / place / "final", dirs_exist_ok=True)
    for folder, count in (("one/final", 1), ("two/final", 2), ("./one/final", 2), (str(workspace / "one/final"), 2)):
        code, _, err = run("evaluate", folder, *OWN)
        assert code == 0, err
        found = sorted((workspace / "runs" / "evaluated").glob("final*"))
        assert len(found) == count and found[0].name == "final", folder


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_scored(
    run: Ran, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device", "the folder")

    monkeypatch.setattr("firstwords.assessment.TemporaryFile", full)
    monkeypatch.setattr("firstwords.evaluation.judging.evaluate_suite", None)
    code, _, err = run("evaluate", "runs/tiny/model", *OWN, "--protocol", "blimp")
    assert code == 2 and "No space left on device" in err


def test_a_model_folder_is_measured_under_several_protocols(run: Ran, workspace: Path) -> None:
    protocols = ("--protocol", "firstwords", "--protocol", "lm-eval", "--protocol", "minicons")
    code, out, err = run("evaluate", "runs/tiny/model", *OWN, *protocols)
    assert code == 0, err
    results = workspace / "runs" / "evaluated" / "model" / "evaluation"
    assert sorted(path.name for path in results.glob("*.json")) == [
        "pairs.firstwords.json",
        "pairs.lm-eval.json",
        "pairs.minicons.json",
    ]
    assert "pairs.lm-eval: accuracy in %" in out
    assert run("evaluate", "tiny", *OWN, "--checkpoint", "last")[0] == 0
    exported = json.loads((results / "pairs.firstwords.json").read_text())
    own = json.loads((workspace / "runs" / "tiny" / "evaluation" / "pairs.firstwords.json").read_text())
    assert exported["paradigms"] == own["paradigms"], "the exported folder is the run's model"


def test_json_is_the_results_themselves(run: Ran, workspace: Path) -> None:
    code, out, _ = run("evaluate", "tiny", *OWN, "--checkpoint", "words-20", "--json")
    assert code == 0
    (name,) = found = json.loads(out)
    assert name == "words-20.pairs.firstwords"
    path = workspace / "runs" / "tiny" / "evaluation" / f"{name}.json"
    assert found[name] == json.loads(path.read_text())


def test_another_model_of_others(run: Ran, workspace: Path) -> None:
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(workspace / "runs" / "tiny" / "model")
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(workspace / "gpt")
    tokenizer.save_pretrained(workspace / "gpt")
    code, out, err = run("evaluate", "gpt", *OWN, "--protocol", "lm-eval", "--device", "cpu")
    assert code == 0, err
    assert "pairs.lm-eval" in out
    written = json.loads((workspace / "runs/evaluated/gpt/evaluation/pairs.lm-eval.json").read_text())
    assert written["model"]["class"] == "GPT2LMHeadModel"
    assert written["dtype"] == "float32"


def test_a_list_describes_every_test_set_and_protocol(run: Ran) -> None:
    code, out, _ = run("evaluate", "--list")
    assert code == 0
    for word in ("blimp-filtered", "entity-tracking", "babylm-2025", "pll-word-l2r", "--suite FILE.csv"):
        assert word in out
    code, out, _ = run("evaluate", "--list", "--json")
    assert {"blimp", "zorro", "wug-past-tense"} <= {one["name"] for one in json.loads(out)["test_sets"]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("evaluate",), "no model is named"),
        (("evaluate", "nobody"), "there is no model 'nobody'"),
        (("evaluate", "tiny", "--suite", "blimpp"), "did you mean 'blimp'"),
        (("evaluate", "tiny", "--suite", "grammar.frstwords"), "did you mean 'firstwords'"),
        (("evaluate", "tiny", "--suite", "pairs.csv"), "sentence_good"),
        (("evaluate", "tiny", "--suite", "pairs.csv", "--good", "god", "--bad", "bad"), "did you mean 'good'"),
        (("evaluate", "tiny", *OWN, "--protocol", "lm_eval"), "did you mean 'lm-eval'"),
        (("evaluate", "tiny", *OWN, "--protocol", "pll"), "not for causal models"),
        (("evaluate", "tiny", *OWN, "--checkpoint", "words-21"), "did you mean 'words-20'"),
        (("evaluate", "runs/tiny/model", *OWN, "--checkpoint", "last"), "is no run"),
        (("evaluate", "runs/tiny/corpus", *OWN), "no config.json"),
        (("evaluate", "tiny", "--suite", "missing.csv"), "there is no file or folder 'missing.csv'"),
        (("evaluate", "tiny", "--suite", "comps"), "--data"),
        (("evaluate", "tiny", "--suite", "babylm-2025", "--data", "runs"), "none of the test sets of 'babylm-2025'"),
        (("evaluate", "tiny", "--suite", "grammar", "--good", "nonsense"), "no file of pairs is to be measured"),
        (("evaluate", "./nothere", *OWN), "there is no model './nothere'"),
        (("evaluate", "runs/tiny/model", *OWN, "--device", "gpu"), "gpu"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_message(run: Ran, words: tuple[str, ...], message: str) -> None:
    code, out, err = run(*words)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert out == ""


def test_a_model_of_nans_has_no_result(run: Ran, workspace: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = workspace / "broken"
    folder.mkdir(exist_ok=True)
    for path in (workspace / "runs" / "tiny" / "model").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    code, _, err = run("evaluate", "broken", *OWN)
    assert code == 3
    assert "not finite" in err and "pairs: " in err
    assert not list((workspace / "runs/evaluated/broken").rglob("*.json")), "nothing is written as a result"
