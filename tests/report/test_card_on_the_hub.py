"""The card of a trained run is one that the Hub accepts, and its head gives back the numbers of the evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from firstwords import pipeline
from firstwords.recipe import Recipe
from firstwords.run_folder import RunFolder
from tests.local_hub import LocalHub, local_hub

PROTOCOLS = ("firstwords", "lm-eval", "minicons")


@pytest.fixture(scope="module")
def run(tiny_run: RunFolder) -> RunFolder:
    """The tiny run's model under three protocols; only what is not measured yet is made."""
    suites = "[" + ", ".join(f'"grammar.{protocol}"' for protocol in PROTOCOLS) + "]"
    recipe = Recipe.load(tiny_run.path / "recipe.toml").override({"evaluation.suites": suites})
    return pipeline.run(recipe, workspace=tiny_run.path.parent, name="three-protocols", offline=True)


@pytest.fixture(scope="module")
def card(run: RunFolder) -> ModelCard:
    return ModelCard.load(run.stage("export") / "README.md")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """The server to which `validate()` posts; it checks what the Hub's specification of a card's head requires."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with local_hub() as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        yield server


def test_every_result_parses_back_to_the_numbers_of_the_evaluation(card: ModelCard, run: RunFolder) -> None:
    found = {result.dataset_config: result for result in card.data.eval_results}
    assert found.keys() == {f"grammar.{protocol}" for protocol in PROTOCOLS}, "protocols are not thrown together"
    for name, result in found.items():
        overall = run.result(name)["overall"]
        assert result.metric_value == overall["accuracy"]
        assert result.metric_args == {key: overall[key] for key in ("low", "high", "pairs")}
        assert result.dataset_name.endswith(f"protocol {name.removeprefix('grammar.')}")
    values = [result.metric_value for result in found.values()]
    assert len(set(values)) > 1, "the protocols' numbers differ, so none can stand for another"


def test_the_raw_head_says_the_same_as_the_parsed_one(card: ModelCard, run: RunFolder) -> None:
    text = (run.stage("export") / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    name, results = model_index_to_eval_results(head["model-index"])
    assert name == run.name == card.data.model_name
    assert results == card.data.eval_results
    again = ModelCard(str(card))
    assert again.data.eval_results == card.data.eval_results, "and it survives being written anew"


def test_the_hub_accepts_it(card: ModelCard, card_file: Path, hub: LocalHub) -> None:
    card.validate()
    ModelCard.load(card_file).validate()
    assert hub.requests == ["POST /api/validate-yaml"] * 2


@pytest.mark.parametrize(
    ("number", "field", "value", "says"),
    [
        (0, "dataset_type", None, r"results\[0\].dataset.type"),
        (1, "task_type", None, r"results\[1\].task.type"),
        (2, "metric_value", "good", "a type and a value"),
        (None, "license", ["mit"], "license"),
    ],
)
def test_a_head_that_is_not_as_it_must_be_is_refused(
    card: ModelCard, hub: LocalHub, number: int | None, field: str, value: object, says: str
) -> None:
    """So that being accepted means something."""
    spoilt = ModelCard(str(card))
    setattr(spoilt.data if number is None else spoilt.data.eval_results[number], field, value)
    with pytest.raises(ValueError, match=says):
        spoilt.validate()
