"""The main job, from text to a tested model that others can load, as users do it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import firstwords
from firstwords.cli import main
from firstwords.reporter import Silent
from firstwords.run_folder import RunFolder


class Stages(Silent):
    """Notes what became of each stage."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}

    def stage(self, name: str, state: str, note: str) -> None:
        self.states[name] = state


SHORTER = {
    "corpus.budget": "0.6 MB",
    "tokenizer.vocabulary": "1200",
    "training.max-steps": "350",
    "training.batch-size": "8",
    "training.eval-every-steps": "175",
    "training.device": "cpu",
}
"""The quickstart in a quarter of its time: enough to learn the easier constructions."""


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    recipe = firstwords.Recipe.load("quickstart").override(SHORTER)
    return firstwords.run(recipe, workspace=tmp_path_factory.mktemp("runs"), offline=True)


def result(run: RunFolder, name: str) -> dict[str, dict[str, float]]:
    return json.loads((run.path / "evaluation" / f"{name}.json").read_text())


def test_training_teaches_grammar_and_the_untrained_control_is_at_chance(quickstart: RunFolder) -> None:
    trained, untrained = (result(quickstart, name) for name in ("grammar.firstwords", "untrained.grammar.firstwords"))
    assert trained["overall"]["low"] > 0.6
    assert untrained["overall"]["low"] <= 0.5 <= untrained["overall"]["high"]


def test_the_exported_folder_serves_transformers(quickstart: RunFolder) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = quickstart.path / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    inputs = tokenizer("The teacher", return_tensors="pt")
    text = tokenizer.decode(model.generate(**inputs, max_length=50, temperature=0.7)[0], skip_special_tokens=True)
    assert text.startswith("The teacher")
    assert "artificial" in (folder / "README.md").read_text().lower()


def test_a_second_call_makes_nothing_and_a_changed_setting_only_what_depends_on_it(quickstart: RunFolder) -> None:
    workspace, stages = quickstart.path.parent, Stages()
    recipe = firstwords.Recipe.load("quickstart").override(SHORTER)
    again = firstwords.run(recipe, workspace=workspace, offline=True, reporter=stages)
    assert again.path == quickstart.path
    assert set(stages.states.values()) == {"kept"}

    changed = recipe.override({"training.max-steps": "2"})
    other = firstwords.run(changed, workspace=workspace, offline=True, until="training", reporter=stages)
    assert other.name == "quickstart-2"
    assert [stages.states[name] for name in ("corpus", "tokenizer", "tokens", "training")] == ["taken over"] * 3 + [
        "done"
    ]
    shared = [run.path / "corpus" / "train.txt" for run in (quickstart, other)]
    assert shared[0].samefile(shared[1])
    shutil.rmtree(other.path)


def test_show_and_generate_speak_of_the_run(quickstart: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = str(quickstart.path.parent)
    assert main(["show", quickstart.name, "--workspace", workspace, "--json"]) in (0, None)
    shown = json.loads(capsys.readouterr().out)
    assert "grammar.firstwords" in json.dumps(shown)
    assert main(["generate", quickstart.name, "The teacher", "--workspace", workspace, "--seed", "3"]) in (0, None)
    assert capsys.readouterr().out.startswith("The teacher")


def test_model_a_begins_as_its_card_began(shared_data: Path, tmp_path: Path) -> None:
    """Mix, vocabulary and examples to the byte; the first losses near the published log's."""
    dev = tmp_path / "dev.txt"
    dev.write_text("A dev loss on all of the card's text would take a minute.\n" * 9)
    settings = {"training.max-steps": "2", "training.device": "cpu", "training.compile": "false"}
    recipe = firstwords.Recipe.load("model-a").override(settings | {"corpus.dev-file": str(dev)})
    data = [shared_data / "cards" / "a", shared_data]
    run = firstwords.run(recipe, workspace=tmp_path, data=data, until="training", offline=True)
    corpus = json.loads((run.path / "corpus" / "corpus.json").read_text())
    assert corpus["train"]["sha256"] == "9ce10477c1bc5c4c96e2caf7051ca54382a1750861a370f426f92938aa317280"
    ours, card = (
        json.loads(path.read_text())
        for path in (run.path / "tokenizer" / "tokenizer.json", shared_data / "cards" / "a" / "tokenizer.json")
    )
    assert ours["model"]["vocab"] == card["model"]["vocab"]
    assert ours["model"]["merges"] == card["model"]["merges"]
    first = json.loads((run.path / "training" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["train_loss"] == pytest.approx(9.69 * 0.915, abs=0.15), "log(16,002), in the card's unit"
