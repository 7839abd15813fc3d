"""The WUG tests: shares by softmax, Spearman's rho against people, an interval that holds what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from firstwords.errors import FirstwordsError
from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.scoring import token_log_probs
from firstwords.evaluation.tasks import find_task
from firstwords.evaluation.tasks.task import Lookup, NotFound, TaskData
from firstwords.evaluation.tasks.wug import WugItem, spearman
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings
from firstwords.tokens.tokenizer import Vocabulary

SHAPE = ModelSettings(hidden=32, layers=2, heads=2, intermediate=48, positions=256, init_std=0.2)
PAST = find_task("wug-past-tense")


@pytest.fixture(scope="module")
def model(vocabulary: Vocabulary) -> Llama:
    return Llama(SHAPE, vocabulary.size, seed=1)


def lookup(*folders: Path) -> Lookup:
    return Lookup(folders, Path("nowhere"), offline=True)


def expected_shares(model: Llama, vocabulary: Vocabulary, sentences: tuple[str, ...]) -> np.ndarray:
    found = token_log_probs(model, [[vocabulary.bos_id, *ids] for ids in vocabulary.encode(sentences)])
    scores = np.array([log_probs.sum(dtype=np.float64) for log_probs in found])
    return np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()


@pytest.mark.parametrize(("name", "items", "forms"), [("wug-adj-nominalization", 200, 2), ("wug-past-tense", 50, 3)])
def test_real_items_by_the_formula_of_2025(
    shared_data: Path, model: Llama, vocabulary: Vocabulary, name: str, items: int, forms: int
) -> None:
    task = find_task(name)
    data = task.load(lookup(shared_data))
    assert len(data.items) == items
    assert {len(item.sentences) for item in data.items} == {forms}
    result = task.evaluate(OwnModel("tiny", model, vocabulary), data, "babylm-2025")
    assert result.notes == []
    first = [expected_shares(model, vocabulary, item.sentences) for item in data.items]
    assert [row["prob"] for row in result.rows] == pytest.approx([own[0] for own in first], abs=1e-4)
    assert [row["pred"] for row in result.rows] == [
        item.sentences[int(own.argmax())] for item, own in zip(data.items, first, strict=True)
    ]
    rho = spearmanr([row["prob"] for row in result.rows], [item.ratio for item in data.items]).statistic
    assert result.overall.value == pytest.approx(rho, abs=1e-12)
    assert result.overall.low is not None and result.overall.high is not None
    assert result.overall.low < rho < result.overall.high
    assert result.rows[1]["id"].endswith("_1")


def items(*ratios: float) -> TaskData:
    nouns = ("cat", "dog", "bird", "girl", "boy", "teacher", "tree", "house")
    made = [
        WugItem((f"The {noun} sings.", f"The {noun} talks."), ratio, f"here:{number}")
        for number, (noun, ratio) in enumerate(zip(nouns, ratios, strict=False))
    ]
    return TaskData(tuple(made), "here", "0" * 64)


def test_the_context_is_what_the_protocol_says(model: Llama, vocabulary: Vocabulary) -> None:
    subject = OwnModel("tiny", model, vocabulary)
    data = items(0.1, 0.5, 0.9, 0.3)
    result = PAST.evaluate(subject, data, "firstwords")
    assert [row["prob"] for row in result.rows] == pytest.approx(
        [expected_shares(model, vocabulary, item.sentences)[0] for item in data.items], abs=1e-5
    )
    assert "beginning-of-sequence token before it" in result.statement
    assert "wug_past has 4, not 50" in result.notes[0]


def test_people_who_do_not_tell_items_apart_give_no_correlation(model: Llama, vocabulary: Vocabulary) -> None:
    result = PAST.evaluate(OwnModel("tiny", model, vocabulary), items(0.5, 0.5, 0.5), "firstwords")
    assert (result.overall.value, result.overall.low, result.overall.high) == (0.0, None, None)
    assert "no correlation" in result.notes[0]


def test_the_interval_is_the_same_each_time_and_covers() -> None:
    rng = np.random.default_rng(5)
    # Rank correlation of a bivariate normal distribution: 6/pi * asin(r/2).
    truth = 6 / np.pi * np.arcsin(0.6 / 2)
    inside = 0
    for _ in range(20):
        x, noise = rng.normal(size=(2, 60))
        measure, _ = spearman(x, 0.6 * x + 0.8 * noise)
        assert measure.low is not None and measure.high is not None
        inside += measure.low <= truth <= measure.high
    assert inside >= 16, "of 20 intervals at 95%, fewer would come once in thousands of times"
    assert spearman(x, noise) == spearman(x, noise)


def test_a_perfect_order_has_the_correlation_1() -> None:
    measure, notes = spearman(np.arange(20.0), np.arange(20.0) ** 3)
    assert measure.value == 1.0
    assert notes == []


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"sentences": "one only", "ratio": 0.5}, "no sentences, separated by tabs"),
        ({"sentences": "one\t ", "ratio": 0.5}, "no sentences, separated by tabs"),
        ({"sentences": "a\tb"}, "no number under 'ratio'"),
        ({"sentences": "a\tb", "ratio": 1.5}, "no share between 0 and 1"),
        ({"ratio": 0.5}, "no text under 'sentences'"),
    ],
)
def test_a_line_that_is_no_item_is_named(tmp_path: Path, row: dict, what: str) -> None:
    path = tmp_path / "wug_past_tense" / "wug_past_tense.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps({"sentences": "a\tb", "ratio": 0.5}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(FirstwordsError, match=what) as caught:
        PAST.load(lookup(tmp_path))
    assert caught.value.where == f"{path}:2"


def test_too_few_items_and_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "wug_past_tense.jsonl").write_text(json.dumps({"sentences": "a\tb", "ratio": 0.5}) + "\n")
    with pytest.raises(FirstwordsError, match="needs three items, and the file has 1"):
        PAST.load(lookup(tmp_path))
    with pytest.raises(NotFound, match="WUG adjective"):
        find_task("wug-adj-nominalization").load(lookup(tmp_path))
