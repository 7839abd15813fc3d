"""Entity tracking chooses as the formula says, on real questions and small ones, and counts ties as announced."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from firstwords.errors import FirstwordsError
from firstwords.evaluation.babylm_counts import full_counts
from firstwords.evaluation.hf_models import MaskedModel
from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.tasks import find_task
from firstwords.evaluation.tasks.choices import ChoiceProtocol, Question, answers, floors, mean_of
from firstwords.evaluation.tasks.task import Lookup, Measure, NotFound, TaskData, TaskResult, write_task_result
from firstwords.model.attention import Layout
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings
from firstwords.tokens.tokenizer import Vocabulary

SHAPE = ModelSettings(hidden=32, layers=2, heads=2, intermediate=48, positions=1024, init_std=0.2)
FULL, FAST = find_task("entity-tracking"), find_task("entity-tracking-fast")


@pytest.fixture(scope="module")
def model(vocabulary: Vocabulary) -> Llama:
    return Llama(SHAPE, vocabulary.size, seed=1)


@pytest.fixture(scope="module")
def subject(model: Llama, vocabulary: Vocabulary) -> OwnModel:
    return OwnModel("tiny", model, vocabulary)


def lookup(*folders: Path) -> Lookup:
    return Lookup(folders, Path("nowhere"), offline=True)


def question(operations: int, *options: str, given: str = "The tree contains the cat. The house contains ") -> dict:
    return {"numops": operations, "input_prefix": given, "options": list(options), "sample_id": 1, "example_id": 2}


ROWS = (
    question(0, "the dog.", "the cat and the bird.", "nothing."),
    question(0, "the girl and the boy.", "the cat.", "the dog."),
    question(3, "the teacher.", "the river.", "the car."),
)


def write(folder: Path, *rows: object, splits: Sequence[str] = ("regular", "ambiref", "move_contents")) -> Path:
    folder.mkdir(parents=True)
    for split in splits:
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def official_scores(model: Llama, vocabulary: Vocabulary, given: str, options: Sequence[str]) -> list[float]:
    """As the pipeline of 2025 scores: every option's text read whole, the option's tokens found by their characters."""
    scores = []
    for option in options:
        encoding = vocabulary.tokenizer.encode(given + option, add_special_tokens=True)
        ids, start = torch.tensor(encoding.ids), len(given)
        inside = torch.tensor([end > start for _, end in encoding.offsets])
        log_probs = model(ids[:-1], Layout.of([len(ids) - 1])).log_softmax(-1)
        own = log_probs.gather(-1, ids[1:, None]).squeeze(-1)
        scores.append(float(own[inside[1:]].double().sum()))
    return scores


def share(result: TaskResult, part: str) -> float:
    return result.parts[part].value


def test_the_real_questions_are_as_many_as_officially(shared_data: Path) -> None:
    data = FULL.load(lookup(shared_data))
    assert Counter(one.part for one in data.items) == full_counts("entity_tracking")
    left = [one for one in data.items if not any("nothing" in option for option in one.options)]
    assert Counter(one.part for one in left) == full_counts("entity_tracking_filtered")
    fast = FAST.load(lookup(shared_data))
    assert [one for one in data.items if one.part.startswith("regular")] == list(fast.items)
    assert floors(data.items) == pytest.approx({"random": 0.2, "shortest option": 0.332}, abs=1e-3)


def test_real_questions_are_answered_by_the_formula_of_2025(
    shared_data: Path, model: Llama, subject: OwnModel, vocabulary: Vocabulary
) -> None:
    data = FULL.load(lookup(shared_data))
    seen: Counter[str] = Counter()
    some = []
    for one in data.items:
        seen[one.part] += 1
        if seen[one.part] <= 2:
            some.append(one)
    result = FULL.evaluate(subject, replace(data, items=tuple(some)), "babylm-2025")
    right: dict[str, list[bool]] = {}
    for one, row in zip(some, result.rows, strict=True):
        with torch.no_grad():
            scores = official_scores(model, vocabulary, one.given, one.options)
        assert json.loads(row["scores"]) == pytest.approx(scores, abs=2e-3)
        assert row["pred"] == one.options[int(np.argmax(scores))]
        right.setdefault(one.part, []).append(int(np.argmax(scores)) == 0)
    splits = {
        split: np.mean([np.mean(found) for part, found in right.items() if part.startswith(split)])
        for split in ("regular", "ambiref", "move_contents")
    }
    assert {split: share(result, split) for split in splits} == pytest.approx(splits)
    assert result.overall.value == pytest.approx(np.mean(list(splits.values())))
    assert "ambiref_0_ops has 2, not 607" in result.notes[0]


def test_the_mean_is_of_splits_of_numbers_of_operations(subject: OwnModel, tmp_path: Path) -> None:
    folder = write(tmp_path / "entity_tracking", *ROWS)
    (folder / "regular.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    result = FULL.evaluate(subject, FULL.load(lookup(tmp_path)), "firstwords")
    assert share(result, "ambiref") == pytest.approx(
        (share(result, "ambiref_0_ops") + share(result, "ambiref_3_ops")) / 2
    )
    assert share(result, "regular") == share(result, "regular_0_ops")
    means = [share(result, split) for split in ("regular", "ambiref", "move_contents")]
    assert result.overall.value == pytest.approx(np.mean(means))
    assert result.overall.items == 7
    assert result.overall.low is not None and result.overall.high is not None
    assert 0 <= result.overall.low <= result.overall.value <= result.overall.high <= 1


def test_of_2026_questions_with_nothing_are_left_out(subject: OwnModel, tmp_path: Path) -> None:
    write(tmp_path / "entity_tracking_fast", *ROWS, splits=("regular",))
    data = FAST.load(lookup(tmp_path))
    assert len(FAST.evaluate(subject, data, "babylm-2025").rows) == 3
    result = FAST.evaluate(subject, data, "babylm-2026")
    assert [row["id"] for row in result.rows] == ["regular_0_ops_0", "regular_3_ops_0"]
    assert "regular_0_ops has 1, not 517" in result.notes[0]


@pytest.mark.parametrize(("protocol", "counted"), [("firstwords", 0.5), ("babylm-2025", 1.0), ("babylm-2026", 0.5)])
def test_equal_scores_count_as_announced(subject: OwnModel, tmp_path: Path, protocol: str, counted: float) -> None:
    write(tmp_path / "entity_tracking_fast", question(0, "the cat.", "the cat."), splits=("regular",))
    result = FAST.evaluate(subject, FAST.load(lookup(tmp_path)), protocol)
    assert result.overall.value == counted
    assert result.more["ties"] == 1
    assert result.rows[0]["right"] == counted


def test_the_context_is_what_the_protocol_says(subject: OwnModel, model: Llama, vocabulary: Vocabulary) -> None:
    one = Question("x", "The cat ", ("sleeps near the tree.", "sings."), 0, "here:1")
    (with_bos,) = answers(subject, [one], ChoiceProtocol("bos", first_wins=False), "x")
    (without,) = answers(subject, [one], ChoiceProtocol("none", first_wins=False), "x")
    assert with_bos.scores != pytest.approx(without.scores, abs=1e-3)
    (mean,) = answers(subject, [one], ChoiceProtocol("bos", first_wins=False, mean=True), "x")
    tokens = [
        sum(
            end > len(one.given)
            for _, end in vocabulary.tokenizer.encode(one.given + option, add_special_tokens=False).offsets
        )
        for option in one.options
    ]
    assert mean.scores == pytest.approx([score / n for score, n in zip(with_bos.scores, tokens, strict=True)], abs=1e-5)


def test_masked_models_read_on_both_sides(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *sorted(set(" ".join(map(str, ROWS)).replace("'", " ").split())),
    ]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    torch.manual_seed(0)
    bert = BertForMaskedLM(
        BertConfig(
            vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
    ).eval()
    masked = MaskedModel("bert", bert, fast)
    given, option = "The tree contains the cat .", " the dog"
    (answer,) = answers(
        masked, [Question("x", given, (option, " the"), 0, "here:1")], ChoiceProtocol("bos", False), "x"
    )
    ids = fast(given + option)["input_ids"]
    expected = 0.0
    for place in (len(ids) - 3, len(ids) - 2):
        row = torch.tensor([ids])
        row[0, place] = 4
        with torch.no_grad():
            expected += float(bert(row).logits[0, place].log_softmax(-1)[ids[place]])
    assert answer.scores[0] == pytest.approx(expected, abs=1e-4)
    write(tmp_path / "entity_tracking_fast", *ROWS, splits=("regular",))
    assert "all other tokens" in FAST.evaluate(masked, FAST.load(lookup(tmp_path)), "firstwords").statement


def test_the_result_is_written_with_a_row_for_each_question(subject: OwnModel, tmp_path: Path) -> None:
    write(tmp_path / "entity_tracking_fast", *ROWS, splits=("regular",))
    data = FAST.load(lookup(tmp_path))
    result = FAST.evaluate(subject, data, "babylm-2025")
    path = write_task_result(
        result, tmp_path, "fast.babylm-2025", task=FAST, protocol="babylm-2025", data=data, facts={}
    )
    values = json.loads(path.read_text())
    assert values["more"]["floors"]["random"] == pytest.approx(1 / 3)
    assert values["overall"]["value"] == result.overall.value
    lines = path.with_name("fast.babylm-2025.items.csv").read_text().splitlines()
    assert lines[0] == "uid,id,pred,right,scores"
    assert len(lines) == 4


def test_progress_ends_when_all_options_are_scored(subject: OwnModel, tmp_path: Path) -> None:
    write(tmp_path / "entity_tracking_fast", *ROWS, splits=("regular",))
    told: list[tuple[int, int]] = []
    FAST.evaluate(subject, FAST.load(lookup(tmp_path)), "firstwords", lambda done, total: told.append((done, total)))
    assert told == [(6, 9), (9, 9)]


def test_a_question_too_long_for_the_model_is_named(vocabulary: Vocabulary, tmp_path: Path) -> None:
    short = OwnModel("short", Llama(SHAPE.model_copy(update={"positions": 16}), vocabulary.size, seed=1), vocabulary)
    folder = write(tmp_path / "entity_tracking_fast", *ROWS, splits=("regular",))
    with pytest.raises(FirstwordsError, match="its context is too short") as caught:
        FAST.evaluate(short, FAST.load(lookup(tmp_path)), "firstwords")
    assert f"{folder / 'regular.jsonl'}:1" in (caught.value.where or "")


def test_a_model_of_nan_has_no_accuracy(vocabulary: Vocabulary, tmp_path: Path) -> None:
    broken = Llama(SHAPE, vocabulary.size, seed=1)
    with torch.no_grad():
        broken.unembedding.weight.fill_(torch.nan)
    write(tmp_path / "entity_tracking_fast", *ROWS, splits=("regular",))
    with pytest.raises(FirstwordsError, match="not finite") as caught:
        FAST.evaluate(OwnModel("broken", broken, vocabulary), FAST.load(lookup(tmp_path)), "babylm-2025")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"numops": 0, "input_prefix": "x"}, "no list of options"),
        (question(0, "only one."), "no list of options"),
        ({"input_prefix": "x", "options": ["a", "b"]}, "no number under 'numops'"),
        ({"numops": 0, "options": ["a", "b"]}, "no text under 'input_prefix'"),
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path: Path, row: dict, what: str) -> None:
    folder = write(tmp_path / "entity_tracking_fast", ROWS[0], row, splits=("regular",))
    with pytest.raises(FirstwordsError, match=what) as caught:
        FAST.load(lookup(tmp_path))
    assert caught.value.where == f"{folder / 'regular.jsonl'}:2"


def test_a_missing_split_is_named_and_a_missing_set_is_not_found(tmp_path: Path) -> None:
    write(tmp_path / "entity_tracking", ROWS[0], splits=("regular", "ambiref"))
    with pytest.raises(FirstwordsError, match=r"lacks 1 of its 3 paradigms: move_contents\.jsonl"):
        FULL.load(lookup(tmp_path))
    assert FAST.load(lookup(tmp_path)).items, "the fast set is a part of the full one"
    for task in (FULL, FAST):
        with pytest.raises(NotFound, match="entity tracking"):
            task.load(lookup())


def test_means_combine_intervals() -> None:
    mean = mean_of([Measure(0.5, 0.4, 0.6, 10), Measure(0.7, 0.6, 0.8, 20)])
    assert (mean.value, mean.items) == (0.6, 30)
    assert mean.low == pytest.approx(0.6 - np.hypot(0.1, 0.1) / 2)
    assert mean.high == pytest.approx(0.6 + np.hypot(0.1, 0.1) / 2)


def test_the_checksum_is_of_the_questions(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write(one / "entity_tracking_fast", *ROWS, splits=("regular",))
    write(other / "entity_tracking_fast", *ROWS[::-1], splits=("regular",))
    first, second = (FAST.load(lookup(folder)) for folder in (one, other))
    assert isinstance(first, TaskData)
    assert first.sha256 != second.sha256


def test_a_split_of_which_a_protocol_leaves_nothing_is_named(subject: OwnModel, tmp_path: Path) -> None:
    folder = write(tmp_path / "entity_tracking", *ROWS)
    (folder / "ambiref.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    data = FULL.load(lookup(tmp_path))
    with pytest.raises(FirstwordsError, match="every question of ambiref") as found:
        FULL.evaluate(subject, data, "babylm-2026")
    assert found.value.where == str(folder)
    assert FULL.evaluate(subject, data, "babylm-2025").overall.items
