"""The model card says what the run's files say, and the Hub's own reader understands it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from firstwords import pipeline
from firstwords.errors import FirstwordsError
from firstwords.recipe import Recipe
from firstwords.report.card import write_card
from firstwords.run_folder import RunFolder

from .conftest import TINY

SUITE = "grammar.firstwords"


@pytest.fixture(scope="session")
def card(card_file: Path) -> ModelCard:
    return ModelCard.load(card_file)


@pytest.fixture(scope="session")
def result(tiny_run: RunFolder) -> dict:
    return json.loads((tiny_run.stage("evaluation") / f"{SUITE}.json").read_text())


def test_the_hub_reads_the_numbers_of_the_run_from_the_head(card: ModelCard, result: dict) -> None:
    (found,) = card.data.eval_results
    assert found.metric_value == result["overall"]["accuracy"]
    assert found.metric_args == {key: result["overall"][key] for key in ("low", "high", "pairs")}
    assert found.metric_type == "accuracy"
    assert "firstwords" in found.dataset_name
    assert card.data.model_name == "tiny"
    assert card.data.license == "apache-2.0"
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "text-generation"


def test_the_head_survives_being_written_again(card: ModelCard, tmp_path: Path) -> None:
    card.save(tmp_path / "again.md")
    again = ModelCard.load(tmp_path / "again.md")
    assert again.data.to_dict() == card.data.to_dict()
    assert again.text.strip() == card.text.strip()


def test_every_accuracy_stands_with_its_interval_pairs_and_protocol(card: ModelCard, result: dict) -> None:
    percents = re.findall(r"\d+\.\d%\**(.{0,40})", card.text.replace("\n", " "))
    assert len(percents) > len(result["paradigms"])
    for after in percents:
        assert re.match(r" ?[|(] ?(95% interval )?\d+\.\d to \d+\.\d", after), after
    assert "protocol `firstwords`" in card.text
    assert result["statement"] in card.text


def test_the_tables_hold_every_phenomenon_and_paradigm(card: ModelCard, result: dict, tiny_run: RunFolder) -> None:
    def cells(accuracy: dict) -> str:
        share, low, high = (100 * accuracy[key] for key in ("accuracy", "low", "high"))
        return f"{share:.1f}% | {low:.1f} to {high:.1f} | {accuracy['pairs']:,} |"

    untrained = json.loads((tiny_run.stage("evaluation") / f"untrained.{SUITE}.json").read_text())
    for name, accuracy in result["phenomena"].items():
        before = untrained["phenomena"][name]
        assert f"| {name.replace('_', ' ')} | {cells(accuracy)} {100 * before['accuracy']:.1f}% (" in card.text
    for name, accuracy in result["paradigms"].items():
        assert f"| `{name}` | {cells(accuracy)}" in card.text


def test_every_row_of_a_table_has_its_cells(card: ModelCard) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", card.text, re.MULTILINE)
    assert len(tables) >= 6
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1, table


def test_strongest_and_weakest_are_computed(card: ModelCard, result: dict) -> None:
    ranked = sorted(result["phenomena"], key=lambda name: result["phenomena"][name]["accuracy"])
    for line, name in (("Strongest: ", ranked[-1]), ("Weakest: ", ranked[0])):
        named = re.search(line + r"([a-z ]+?) \d", card.text)[1].replace(" ", "_")
        assert result["phenomena"][named]["accuracy"] == result["phenomena"][name]["accuracy"]


def test_text_recipe_and_losses_are_those_of_the_run(card: ModelCard, tiny_run: RunFolder) -> None:
    corpus = json.loads((tiny_run.stage("corpus") / "corpus.json").read_text())
    training = tiny_run.mark("training").facts
    said = [corpus["train"]["sha256"], corpus["dev"]["sha256"], f"{training['parameters']:,} parameters"]
    said += [f"{corpus['train'][key]:,} {key}" for key in ("bytes", "words")]
    said += [f"| {name} | {facts['train']['bytes']:,} |" for name, facts in corpus["sources"].items()]
    said += [f"| steps | {training['steps']:,} (2 epochs;"]
    said += ["| learning rate | 0.01, warm-up 5 steps, then cosine to 0 |"]
    said += [f"{training['last_dev_loss']:.3f}", f"{training['best_dev_loss']:.3f}", training["precision"]]
    for text in said:
        assert text in card.text, text


def test_artificial_text_is_labelled(card: ModelCard) -> None:
    assert "wiki, talk: Artificial text" in card.text
    assert "artificial-text" in card.data.tags


def test_the_code_on_the_card_runs(
    card: ModelCard, card_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = re.search(r"```python\n(.*?)```", card.text, re.DOTALL)[1]
    monkeypatch.chdir(card_file.parent)
    exec(compile(code, "the card", "exec"), {})
    assert capsys.readouterr().out.strip().startswith("The teacher")


def test_a_text_of_ones_own_is_known_by_its_checksum_and_not_by_its_path(tiny_run: RunFolder, tmp_path: Path) -> None:
    """And a card without test sets says so, in a head that the Hub reads."""
    text = tmp_path / "private" / "tales.txt"
    text.parent.mkdir()
    text.write_text((tiny_run.stage("corpus") / "train.txt").read_text())
    values = Recipe.parse(TINY.encode(), "tiny.toml").to_values()
    values["corpus"] |= {"budget": "20 kB", "sources": {"tales": {"at": str(text), "license": "CC0"}}}
    values["evaluation"] = {"suites": []}
    values["training"]["max-steps"] = 3
    run = pipeline.run(Recipe.build(values, "tales"), workspace=tmp_path / "runs", offline=True)
    found = ModelCard.load(run.path / "model" / "README.md")
    source = json.loads((run.stage("corpus") / "corpus.json").read_text())["sources"]["tales"]
    assert source["files"][0]["sha256"] in found.text
    assert str(tmp_path) not in found.text
    assert "| CC0 |" in found.text
    assert "rtificial" not in found.content
    assert found.data.eval_results is None
    assert "It was not tested." in found.text


def test_a_run_that_is_not_trained_has_no_card(tiny_run: RunFolder, tmp_path: Path) -> None:
    recipe = Recipe.parse(TINY.encode(), "tiny.toml")
    run = pipeline.run(recipe, workspace=tmp_path / "runs", until="tokens", offline=True)
    with pytest.raises(FirstwordsError, match="no training stage"):
        write_card(run, {}, tmp_path / "README.md")
    assert not (tmp_path / "README.md").exists()


def test_the_report_loads_no_training_code() -> None:
    check = "import firstwords.report.card, sys; sys.exit('torch' in sys.modules or 'huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_a_test_set_of_ones_own_is_on_the_card_under_its_own_name(tiny_run: RunFolder, tmp_path: Path) -> None:
    pair = {"sentence_good": "The cats sleep.", "sentence_bad": "The cats sleeps.", "UID": "own", "pairID": "0"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    suites = json.dumps([f"{tmp_path / 'pairs.jsonl'}.firstwords"])
    recipe = Recipe.load(tiny_run.path / "recipe.toml").override({"evaluation.suites": suites})
    run = pipeline.run(recipe, workspace=tiny_run.path.parent, name="own-pairs", offline=True)
    assert "**pairs, protocol `firstwords`" in (run.path / "model" / "README.md").read_text()


def test_results_that_were_deleted_are_made_again(tiny_run: RunFolder) -> None:
    results = tiny_run.path / "evaluation"
    before = json.loads((results / "grammar.firstwords.json").read_text())["overall"]
    shutil.rmtree(results)
    pipeline.run(Recipe.load(tiny_run.path / "recipe.toml"), workspace=tiny_run.path.parent, offline=True)
    assert json.loads((results / "grammar.firstwords.json").read_text())["overall"] == before
