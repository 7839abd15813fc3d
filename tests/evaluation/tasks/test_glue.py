"""A copy of the model learns GLUE's tasks from their files, reads pairs whole, and says how sure the result is."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from firstwords.errors import FirstwordsError
from firstwords.evaluation.hf_models import MaskedModel
from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.tasks.fine_tuning import OFFICIAL, FineTuning, encode_pairs
from firstwords.evaluation.tasks.glue import (
    COLLECTION,
    MNLI,
    MRPC,
    PROTOCOL,
    RTE,
    TASKS,
    WSC,
    GlueTask,
    _mcc,
    _resampled,
    _table,
    _values,
    mean_over_tasks,
)
from firstwords.evaluation.tasks.task import Lookup, TaskData, TaskResult, write_task_result
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings
from firstwords.tokens.tokenizer import Vocabulary

SHAPE = ModelSettings(hidden=32, layers=2, heads=2, intermediate=48, positions=64, init_std=0.2)
QUICK = FineTuning(epochs=6, batch=16, learning_rate=3e-3)
NOUNS = ("cat", "dog", "bird", "girl", "boy", "teacher")
PLACES = ("tree", "house", "river", "car")


@pytest.fixture(scope="module")
def subject(vocabulary: Vocabulary) -> OwnModel:
    return OwnModel("small", Llama(SHAPE, vocabulary.size, seed=1), vocabulary)


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def telling_pairs(count: int, seed: int, keys: tuple[str, str] = ("sentence1", "sentence2")) -> list[dict[str, Any]]:
    """Label 1 where somebody sings, 0 where somebody sleeps; both texts begin and end alike whatever the label is."""
    drawn = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        label = int(drawn.integers(2))
        noun, place = drawn.choice(NOUNS), drawn.choice(PLACES)
        first = f"The {noun} {'sings' if label else 'sleeps'} near the {place}."
        rows.append({keys[0]: first, keys[1]: f"Some {drawn.choice(NOUNS)}s run.", "label": label, "idx": len(rows)})
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toy files of three tasks, one folder down, as the organisers' data has them."""
    top = tmp_path_factory.mktemp("data")
    for part, count in (("train", 160), ("valid", 60)):
        seed = len(part)
        write(top / "glue_filtered" / f"mrpc.{part}.jsonl", telling_pairs(count, seed))
        write(top / "glue_filtered" / f"rte.{part}.jsonl", telling_pairs(count, seed))
        pairs = telling_pairs(count, seed, ("premise", "hypothesis"))
        write(
            top / "glue_filtered" / f"mnli.{part}.jsonl",
            [row | {"label": 2 * row["label"]} for row in pairs],
        )
    return top


def load(task: GlueTask, folder: Path) -> TaskData:
    return task.load(Lookup((folder,), folder / "cache"))


def run(task: GlueTask, subject: OwnModel | MaskedModel, folder: Path, **settings: Any) -> TaskResult:
    quick = replace(task, settings=replace(QUICK, **settings))
    return quick.evaluate(subject, load(task, folder), PROTOCOL)


@pytest.fixture(scope="module")
def mrpc(subject: OwnModel, folder: Path) -> TaskResult:
    return run(MRPC, subject, folder)


def test_a_task_that_hangs_on_one_word_within_the_text_is_learnt(mrpc: TaskResult) -> None:
    # The word stands neither first nor last: a causal model that is read at position 0 stays at the floor.
    floor = mrpc.more["floors"]["majority class"]
    assert 0.5 <= floor < 0.7
    assert mrpc.overall.value > 0.95
    assert mrpc.overall.low is not None and mrpc.overall.low > floor
    assert mrpc.more["F1"]["value"] > mrpc.more["floors"]["F1 of always 1"]
    assert mrpc.more["MCC"]["value"] > 0.9
    losses = [epoch["loss"] for epoch in mrpc.more["epochs"]]
    assert losses[-1] < losses[0] / 2


def test_labels_without_relation_to_the_texts_are_not_learnt(subject: OwnModel, tmp_path: Path) -> None:
    drawn = np.random.default_rng(5)
    for part, count in (("train", 160), ("valid", 200)):
        rows = [row | {"label": int(drawn.integers(2))} for row in telling_pairs(count, len(part))]
        write(tmp_path / f"rte.{part}.jsonl", rows)
    found = run(RTE, subject, tmp_path, epochs=2)
    assert found.overall.value < 0.65


def test_three_classes_have_an_accuracy_alone(subject: OwnModel, folder: Path) -> None:
    found = run(MNLI, subject, folder)
    assert found.overall.value > 0.95
    assert "F1" not in found.more and "MCC" not in found.more
    assert set(found.parts) == {"entailment", "contradiction"}


def test_two_runs_give_the_same_and_another_seed_does_not(subject: OwnModel, folder: Path, mrpc: TaskResult) -> None:
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    again = run(MRPC, subject, folder)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert again == mrpc
    other = run(MRPC, subject, folder, seed=43)
    assert other.more["epochs"] != mrpc.more["epochs"]


def test_the_subject_keeps_its_weights(subject: OwnModel, folder: Path) -> None:
    before = copy.deepcopy(subject.model.state_dict())
    mode = subject.model.training
    run(RTE, subject, folder, epochs=1)
    assert subject.model.training == mode
    for name, weight in subject.model.state_dict().items():
        assert torch.equal(weight, before[name]), name
        assert weight.grad is None


def test_rows_and_measures_agree(mrpc: TaskResult, folder: Path) -> None:
    lines = (folder / "glue_filtered" / "mrpc.valid.jsonl").read_text().splitlines()
    assert [row["id"] for row in mrpc.rows] == [f"mrpc_{number}" for number in range(60)]
    assert [row["gold"] for row in mrpc.rows] == [json.loads(line)["label"] for line in lines]
    right = [row["gold"] == row["pred"] for row in mrpc.rows]
    assert mrpc.overall.value == pytest.approx(np.mean(right))
    chosen = mrpc.more["epochs"][mrpc.more["chosen epoch"] - 1]
    assert chosen["accuracy"] == pytest.approx(mrpc.overall.value)
    assert chosen["F1"] == mrpc.more["F1"]["value"] == max(epoch["F1"] for epoch in mrpc.more["epochs"])
    shares = [(mrpc.parts[label].value, mrpc.parts[label].items) for label in MRPC.labels]
    assert sum(value * items for value, items in shares) == pytest.approx(sum(right))
    # Not the official set: it is said.
    assert any("mrpc has 60, not 204" in note for note in mrpc.notes)


def test_a_result_is_written_with_all_numbers(mrpc: TaskResult, folder: Path, tmp_path: Path) -> None:
    path = write_task_result(
        mrpc, tmp_path, "mrpc", task=MRPC, protocol=PROTOCOL, data=load(MRPC, folder), facts={"model": "small"}
    )
    kept = json.loads(path.read_text())
    assert kept["overall"]["value"] == mrpc.overall.value
    assert kept["more"]["settings"]["learning_rate"] == QUICK.learning_rate
    assert (tmp_path / "mrpc.items.csv").read_text().splitlines()[0] == "uid,id,gold,pred"


def test_progress_reaches_its_end(subject: OwnModel, folder: Path) -> None:
    told: list[tuple[int, int]] = []
    quick = replace(RTE, settings=replace(QUICK, epochs=2))
    quick.evaluate(subject, load(RTE, folder), PROTOCOL, lambda done, total: told.append((done, total)))
    assert told[0] == (16, 320) and told[-1] == (320, 320)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


# What the model reads.


def test_a_result_says_how_many_pairs_were_cut(subject: OwnModel, tmp_path: Path) -> None:
    for part, longer in (("train", 3), ("valid", 2)):
        rows = telling_pairs(40, 1)
        for row in rows[:longer]:
            row["sentence2"] *= 30
        write(tmp_path / f"rte.{part}.jsonl", rows)
    found = run(RTE, subject, tmp_path, epochs=1)
    assert found.more["cut"] == {"train": 3, "valid": 2}
    assert found.more["most tokens"] == SHAPE.positions
    assert any("3 of 40 training pairs and 2 of 40 judged ones are longer than 64 tokens" in n for n in found.notes)


def test_a_shorter_length_can_be_asked_for(subject: OwnModel, folder: Path) -> None:
    assert run(RTE, subject, folder, epochs=1, most_tokens=12).more["cut"]["valid"] == 60


# Bad input.


def test_less_than_a_batch_cannot_be_trained_on(subject: OwnModel, tmp_path: Path) -> None:
    for part in ("train", "valid"):
        write(tmp_path / f"rte.{part}.jsonl", telling_pairs(5, 1))
    with pytest.raises(FirstwordsError, match="5 training items, less than one batch of 16"):
        run(RTE, subject, tmp_path)


def test_texts_without_a_token_are_named(tmp_path: Path, vocabulary: Vocabulary) -> None:
    from tokenizers import Tokenizer, processors

    bare = Tokenizer.from_str(vocabulary.tokenizer.to_str())
    bare.post_processor = processors.ByteLevel()
    subject = OwnModel("bare", Llama(SHAPE, vocabulary.size, seed=1), replace(vocabulary, tokenizer=bare))
    for part in ("train", "valid"):
        write(tmp_path / f"rte.{part}.jsonl", telling_pairs(20, 1))
    write(tmp_path / "rte.valid.jsonl", [*telling_pairs(1, 1), {"sentence1": "", "sentence2": "", "label": 0}])
    with pytest.raises(FirstwordsError) as caught:
        run(RTE, subject, tmp_path)
    assert caught.value.where == f"{tmp_path / 'rte.valid.jsonl'}:2"


def test_a_model_of_nans_has_no_result(vocabulary: Vocabulary, folder: Path) -> None:
    model = Llama(SHAPE, vocabulary.size, seed=1)
    with torch.no_grad():
        model.embedding.weight.fill_(math.nan)
    with pytest.raises(FirstwordsError) as caught:
        run(RTE, OwnModel("broken", model, vocabulary), folder)
    assert caught.value.exit_code == 3
    assert caught.value.where == "broken on glue-rte"


def test_an_unknown_protocol_is_refused(subject: OwnModel, folder: Path) -> None:
    with pytest.raises(FirstwordsError, match="no protocol 'lm-eval'"):
        RTE.evaluate(subject, load(RTE, folder), "lm-eval")


# The procedure.


def test_defaults_are_the_official_ones() -> None:
    assert {task.key: task.settings.batch for task in TASKS if task.settings.batch != 32} == {
        "boolq": 16,
        "multirc": 16,
    }
    assert {task.key: task.settings.epochs for task in TASKS if task.settings.epochs != 10} == {"wsc": 30}
    assert {task.key for task in TASKS if task.chosen_by == "F1"} == {"mrpc", "qqp"}
    assert (OFFICIAL.learning_rate, OFFICIAL.seed, OFFICIAL.most_tokens) == (3e-5, 42, 512)


def test_predictions_stay_with_their_items_whatever_their_lengths(subject: OwnModel, folder: Path) -> None:
    data = load(RTE, folder)
    lengthened = [
        replace(item, texts=(item.texts[0], item.texts[1] * (1 + number % 4)))
        for number, item in enumerate(data.items.valid)
    ]
    order = np.random.default_rng(3).permutation(len(lengthened))
    quick = replace(RTE, settings=replace(QUICK, epochs=3, scored_at_once=7))
    found = []
    for items in (lengthened, [lengthened[number] for number in order]):
        changed = replace(data, items=replace(data.items, valid=tuple(items)))
        found.append([row["pred"] for row in quick.evaluate(subject, changed, PROTOCOL).rows])
    assert len(set(found[0])) == 2
    assert found[1] == [found[0][number] for number in order]


# Measures.


def test_measures_are_what_they_are_called() -> None:
    drawn = np.random.default_rng(2)
    gold = drawn.integers(2, size=300)
    found = np.where(drawn.random(300) < 0.7, gold, 1 - gold)
    values = _values(gold, found, 2)
    precision, recall = gold[found == 1].mean(), found[gold == 1].mean()
    assert values["accuracy"] == pytest.approx((gold == found).mean())
    assert values["F1"] == pytest.approx(2 / (1 / precision + 1 / recall))
    # Matthews' correlation is Pearson's of two binary variables.
    assert values["MCC"] == pytest.approx(np.corrcoef(gold, found)[0, 1])


def test_measures_of_one_label_are_0_and_have_no_interval() -> None:
    gold = np.array([0, 1, 1, 0])
    assert _mcc(*_table(gold, np.ones(4, int))) == 0
    assert _values(gold, np.zeros(4, int), 2)["F1"] == 0
    measure = _resampled(gold, np.zeros(4, int), "F1")
    assert (measure.value, measure.low, measure.high, measure.items) == (0, None, None, 4)


@pytest.mark.parametrize("name", ["F1", "MCC"])
def test_the_bootstrap_of_tables_is_that_of_items(name: str) -> None:
    drawn = np.random.default_rng(4)
    gold = drawn.integers(2, size=120)
    found = np.where(drawn.random(120) < 0.75, gold, 1 - gold)
    measure = _resampled(gold, found, name)
    chosen = drawn.integers(120, size=(4_000, 120))
    values = [_values(gold[items], found[items], 2)[name] for items in chosen]
    low, high = np.quantile(values, (0.025, 0.975))
    assert measure.low == pytest.approx(low, abs=0.015)
    assert measure.high == pytest.approx(high, abs=0.015)


def test_the_mean_over_tasks_takes_accuracies_and_in_tables_f1(
    subject: OwnModel, folder: Path, mrpc: TaskResult
) -> None:
    rte = run(RTE, subject, folder, epochs=1)
    mean = mean_over_tasks({"glue-mrpc": mrpc, "glue-rte": rte, "blimp": mrpc})
    assert mean.accuracy.value == pytest.approx((mrpc.overall.value + rte.overall.value) / 2)
    assert mean.with_f1.value == pytest.approx((mrpc.more["F1"]["value"] + rte.overall.value) / 2)
    assert mean.accuracy.low is not None and mean.accuracy.low < mean.accuracy.value
    assert mean.missing == ("glue-boolq", "glue-mnli", "glue-multirc", "glue-qqp", "glue-wsc")
    with pytest.raises(FirstwordsError, match="no result of a GLUE task"):
        mean_over_tasks({"blimp": mrpc})


def test_the_collection_has_all_tasks_for_the_final_model_alone() -> None:
    asked = [(task.name, PROTOCOL) for task in TASKS]
    assert COLLECTION.members(fast=False, masked=True) == COLLECTION.members(fast=False, masked=False) == asked
    assert COLLECTION.members(fast=True, masked=False) == []


# Models of others.


def test_a_masked_model_is_read_at_its_first_token(vocabulary: Vocabulary, folder: Path) -> None:
    from tokenizers import Tokenizer, processors
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(vocabulary.tokenizer.to_str()),
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        mask_token="<mask>",
    )
    first, last = ("<s>", vocabulary.bos_id), ("</s>", vocabulary.eos_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[first, last]
    )
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    subject = MaskedModel("bert", BertForMaskedLM(config), tokenizer)
    found = run(RTE, subject, folder)
    assert found.overall.value > 0.95
    assert "at the first token" in found.statement
    rows = encode_pairs(subject.reader, [("The cat sleeps.", "Some dogs run.")], 64)
    assert rows.ids[0].tolist().count(vocabulary.eos_id) == 2


# The organisers' files.


def test_wsc_runs_from_end_to_end(shared_data: Path, subject: OwnModel) -> None:
    task = replace(WSC, settings=replace(WSC.settings, epochs=1))
    found = task.evaluate(subject, load(WSC, shared_data / "babylm-2025"), PROTOCOL)
    assert len(found.rows) == 52
    assert found.more["floors"]["majority class"] == pytest.approx(32 / 52)
    # All of the official test set; these texts are long for a tokenizer that knows hardly a word.
    assert not any("official" in note for note in found.notes)
    assert found.more["cut"]["valid"] > 0
