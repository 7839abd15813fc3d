"""A plan says what the run then does, and warns of what would go wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from firstwords import pipeline
from firstwords.errors import FirstwordsError
from firstwords.launch import trial
from firstwords.launch.plan import Plan, make_plan
from firstwords.recipe import Recipe
from firstwords.tokens.batches import Batches
from firstwords.tokens.encoding import TokenFile

RECIPE = """
name = "small"
description = "A recipe of the tests"

[corpus]
budget = "60 kB"
dev-budget = "6 kB"

[corpus.sources.wiki]
at = "grammar:encyclopedic"

[corpus.sources.talk]
at = "grammar:conversation"

[tokenizer]
vocabulary = 300

[tokens]
context = 128

[model]
hidden = 32
layers = 1
heads = 2
intermediate = 64
positions = 128

[training]
epochs = 3
batch-size = 16
accumulation = 2
warmup-steps = 5
precision = "fp32"
device = "cpu"

[evaluation]
suites = ["grammar.firstwords"]
"""


def recipe(**settings: str) -> Recipe:
    """The recipe of the tests with dotted settings, `.` written `__`."""
    changes = {key.replace("__", ".").replace("_", "-"): value for key, value in settings.items()}
    return Recipe.parse(RECIPE.encode(), "small.toml").override(changes)


def plan_of(settings: Recipe, workspace: Path, *, measure: bool = False, data: tuple[Path, ...] = ()) -> Plan:
    return make_plan(settings, data, workspace / "cache", workspace=workspace, offline=True, measure=measure)


def remarks(plan: Plan, key: str) -> list[tuple[str, str]]:
    return [(remark.kind, remark.text) for remark in plan.remarks if remark.key == key]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return plan_of(recipe(), tmp_path_factory.mktemp("runs"), measure=True)


@pytest.mark.parametrize("examples", ["packed", "lines"])
def test_counts_are_those_of_the_run(tmp_path: Path, examples: str) -> None:
    settings = recipe(tokens__examples=examples)
    plan = plan_of(settings, tmp_path / "nothing here")
    run = pipeline.run(settings, workspace=tmp_path, until="tokens", offline=True)
    corpus = json.loads((run.stage("corpus") / "corpus.json").read_text())
    tokens = TokenFile(run.stage("tokens"), "train")
    batches = Batches(tokens, settings.tokens, settings.training, settings.seed)
    assert plan.exact
    assert (plan.text.train_bytes, plan.text.train_words) == (corpus["train"]["bytes"], corpus["train"]["words"])
    assert (plan.text.dev_bytes, plan.text.dev_words) == (corpus["dev"]["bytes"], corpus["dev"]["words"])
    assert (plan.text.tokens, plan.text.examples) == (tokens.facts.tokens, tokens.facts.examples)
    assert plan.text.vocabulary == 303
    assert plan.training.steps == batches.steps
    assert plan.training.words_seen == batches.words_seen(batches.steps)
    trained = sum(batches.step(step).targets for step in range(batches.steps))
    # Nothing predicts the first token of a line or of a document.
    unpredicted = tokens.facts.examples * settings.training.epochs if examples == "lines" else 0
    assert plan.training.tokens == pytest.approx(trained + unpredicted, rel=0.02)


def test_model_a_has_the_steps_of_its_card(shared_data: Path, tmp_path: Path) -> None:
    data = (shared_data / "cards" / "a", shared_data)
    plan = plan_of(Recipe.load("model-a"), tmp_path, data=data)
    assert plan.exact
    assert plan.training.steps == 3_575
    assert (plan.text.tokens, plan.text.examples, plan.text.vocabulary) == (513_497, 45_807, 16_002)
    assert plan.training.parameters == 26_450_304
    ((kind, text),) = remarks(plan, "tokenizer.all-bytes")
    assert kind == "warning"
    assert text.startswith("143 of the 256 bytes")
    ((kind, text),) = remarks(plan, "tokens.examples")
    assert kind == "note"
    assert "82%" in text


def test_of_a_large_budget_a_sample_tells_about_as_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = recipe(corpus__budget="400 kB", corpus__dev_budget="40 kB")
    exact = plan_of(settings, tmp_path)
    monkeypatch.setattr(trial, "_WHOLE_BYTES", 200_000)
    monkeypatch.setattr(trial, "_SAMPLE_BYTES", 100_000)
    sampled = plan_of(settings, tmp_path)
    assert exact.exact
    assert not sampled.exact
    assert "about" in str(sampled)
    assert sampled.training.steps == pytest.approx(exact.training.steps, rel=0.1)
    assert sampled.training.words_seen == pytest.approx(exact.training.words_seen, rel=0.1)
    assert sampled.text.train_bytes == pytest.approx(400_000, rel=0.02)


def test_the_dev_text_of_an_enormous_budget_is_sampled_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_SAMPLE_BYTES", 100_000)
    plan = plan_of(recipe(corpus__budget="900 GB", corpus__dev_budget="40 kB"), tmp_path)
    assert plan.text.train_bytes == pytest.approx(900e9, rel=0.02)
    assert plan.text.dev_tokens > 0


def test_times_and_memory_are_measured(measured: Plan) -> None:
    assert measured.training.tokens_per_second is not None
    assert measured.training.tokens_per_second > 0
    assert all(stage.seconds is not None for stage in measured.stages)
    assert measured.seconds == pytest.approx(sum(stage.seconds or 0 for stage in measured.stages))
    assert measured.suites == {"grammar.firstwords": 3_800}
    assert measured.training.memory_bytes > 0
    assert measured.training.measured_peak_bytes is not None


def test_a_plan_can_be_read_on_80_columns_and_as_json(measured: Plan) -> None:
    lines = str(measured).splitlines()
    assert max(map(len, lines)) <= 80
    for said in ("small: A recipe of the tests", f"{measured.training.steps:,} steps of 32 rows", "(3,800 pairs)"):
        assert said in str(measured)
    values = json.loads(json.dumps(measured.to_json(), allow_nan=False))
    assert values["training"]["steps"] == measured.training.steps
    assert values["seconds"] == measured.seconds


def test_what_a_run_of_the_workspace_has_done_is_not_planned_again(tmp_path: Path) -> None:
    run = pipeline.run(recipe(), workspace=tmp_path, until="tokens", offline=True)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    plan = plan_of(recipe(seed="1"), tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    done = {stage.name: stage.done_by for stage in plan.stages}
    assert done == {"corpus": run.name, "tokenizer": run.name, "tokens": run.name} | dict.fromkeys(
        ("training", "evaluation", "export")
    )
    assert "corpus done (in small)" in str(plan)
    assert plan.text == plan_of(recipe(), tmp_path / "elsewhere").text


def test_a_test_set_that_is_not_here_is_not_downloaded(tmp_path: Path) -> None:
    plan = plan_of(recipe(evaluation__suites='["blimp.firstwords"]'), tmp_path, measure=True)
    assert plan.suites == {"blimp.firstwords": None}
    assert plan.seconds is None
    assert "to be downloaded" in str(plan)
    assert not (tmp_path / "cache").exists()
    assert plan_of(recipe(), tmp_path).suites == {"grammar.firstwords": 3_800}


@pytest.mark.parametrize(
    ("settings", "key", "kind", "said"),
    [
        ({"training__warmup_steps": "5000"}, "training.warmup-steps", "warning", "never reaches its peak"),
        ({"training__epochs": "12"}, "training.epochs", "warning", "epochs are more than the 10"),
        ({"tokenizer__all_bytes": "false"}, "tokenizer.all-bytes", "warning", "of the 256 bytes are in no token"),
        ({"tokens__examples": "lines"}, "tokens.examples", "note", "padding"),
        ({"training__precision": "fp16"}, "training.precision", "note", "fp16 needs CUDA"),
        ({"model__positions": "256"}, "tokens.context", "note", "no example is longer than 128 tokens"),
        ({"tokenizer__vocabulary": "1400"}, "tokenizer.vocabulary", "warning", "large for the text"),
        ({"tokenizer__vocabulary": "30000"}, "tokenizer.vocabulary", "stop", "the text gives only"),
        ({"model__hidden": "65536"}, "training.device", "warning", "GB of memory"),
    ],
)
def test_bad_settings_are_remarked_on(settings: dict[str, str], key: str, kind: str, said: str, tmp_path: Path) -> None:
    found = remarks(plan_of(recipe(**settings), tmp_path), key)
    assert [each for each, _ in found] == [kind], found
    assert said in found[0][1]


def test_good_settings_give_no_remark(tmp_path: Path) -> None:
    assert [remark for remark in plan_of(recipe(), tmp_path).remarks if remark.kind != "note"] == []


@pytest.mark.parametrize("whole_bytes", [20_000_000, 100_000])
def test_a_budget_larger_than_the_sources(tmp_path: Path, whole_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan still tells the rest, whether the text was made whole or sampled."""
    monkeypatch.setattr(trial, "_WHOLE_BYTES", whole_bytes)
    monkeypatch.setattr(trial, "_SAMPLE_BYTES", 50_000)
    text = tmp_path / "tales.txt"
    text.write_text("\n\n".join(f"The cat number {number} sleeps and the dog sings again." for number in range(2_000)))
    values = recipe(corpus__budget="300 kB").to_values()
    values["corpus"]["sources"] = {"tales": {"at": str(text)}}
    plan = plan_of(Recipe.build(values, "small.toml"), tmp_path)
    ((kind, said),) = remarks(plan, "corpus.budget")
    assert kind == "stop"
    assert "tales has" in said
    assert plan.training.steps > 0
    assert not plan.exact


def test_a_missing_source_is_an_error_as_in_the_run(tmp_path: Path) -> None:
    values = recipe().to_values()
    values["corpus"]["sources"] = {"tales": {"at": str(tmp_path / "tales.txt")}}
    with pytest.raises(FirstwordsError, match="tales"):
        plan_of(Recipe.build(values, "small.toml"), tmp_path)
