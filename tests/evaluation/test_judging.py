"""Accuracies, ties and intervals are what they say, and a result is written whole or not at all."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from firstwords.errors import FirstwordsError
from firstwords.evaluation.judging import (
    Accuracies,
    Evaluation,
    JudgedPair,
    check_lengths,
    evaluate_suite,
    judge,
    write_evaluation,
)
from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.pairs import MinimalPair, Suite, load_suite
from firstwords.evaluation.protocols import PROTOCOLS, find_protocol
from firstwords.evaluation.reader import Line, Reader
from firstwords.evaluation.subject import line_scores
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings, TokenizerSettings, TokenSettings
from firstwords.tokens.tokenizer import Vocabulary, learn_tokenizer

SHAPE = ModelSettings(hidden=32, layers=2, heads=2, intermediate=48, positions=128, init_std=0.2)


def pair(good: str, bad: str, uid: str = "agreement", pair_id: str = "0") -> MinimalPair:
    return MinimalPair(uid, pair_id, good, bad, "agreement", "morphology")


def suite(*pairs: MinimalPair) -> Suite:
    return Suite("mine", pairs, "a test", "0" * 64, None, ("made up",))


@pytest.fixture(scope="module")
def model(vocabulary: Vocabulary) -> OwnModel:
    return OwnModel("small", Llama(SHAPE, vocabulary.size, seed=1), vocabulary)


def evaluate(model: OwnModel, suite: Suite, protocol: str = "firstwords") -> Evaluation:
    (found,) = evaluate_suite(model, suite, [protocol])
    return found


PAIRS = (
    pair("The cat sleeps.", "The cat sleep.", pair_id="a"),
    pair("Some dogs run.", "Some dogs runs.", pair_id="b"),
    pair("A bird sings.", "A bird sings.", uid="song", pair_id="a"),
)


def judged(uid: str, phenomenon: str, *differences: float) -> list[JudgedPair]:
    return [
        JudgedPair(MinimalPair(uid, str(number), "good", "bad", phenomenon, "syntax"), difference, 0.0)
        for number, difference in enumerate(differences)
    ]


@pytest.mark.parametrize("name", ["firstwords", "blimp", "card"])
def test_the_likelier_sentence_is_chosen(name: str, model: OwnModel, vocabulary: Vocabulary) -> None:
    result = evaluate(model, suite(*PAIRS), name)
    start = [] if name == "card" else [vocabulary.bos_id]
    for one in result.judged:
        sequences = [start + ids for ids in vocabulary.encode([one.pair.good, one.pair.bad])]
        good, bad = line_scores(model, [Line(tuple(ids), 1, len(ids)) for ids in sequences])
        assert one.good_score == pytest.approx(good, abs=1e-4)
        assert one.bad_score == pytest.approx(bad, abs=1e-4)
        assert one.choice == ("tie" if good == bad else "good" if good > bad else "bad")


def test_identical_sentences_are_a_tie_that_counts_as_the_protocol_says(model: OwnModel) -> None:
    same = suite(*(pair("A bird sings.", "A bird sings.", pair_id=str(number)) for number in range(4)))
    for name, share in (("firstwords", 0.5), ("blimp", 0.0), ("card", 0.0)):
        result = evaluate(model, same, name)
        assert result.overall.accuracy == share
        assert (result.counts.pairs, result.counts.ties, result.counts.identical_pairs) == (4, 4, 4)
        assert result.overall.ties == 4


def test_sentences_that_only_the_tokenizer_cannot_tell_apart_are_counted(model: OwnModel) -> None:
    # Two ways to write é; the tokenizer's normalizer makes them one.
    result = evaluate(model, suite(*PAIRS, pair("A caf\u00e9.", "A cafe\u0301.", pair_id="c")))
    assert (result.counts.identical_pairs, result.counts.identical_tokens, result.counts.ties) == (1, 2, 2)


def test_means_by_paradigm_phenomenon_field_and_overall() -> None:
    pairs = [
        *judged("one", "agreement", 1, 1, 1, -1),
        *judged("two", "agreement", 1, -1),
        *judged("three", "islands", -1, -1, 0, -1),
    ]
    accuracies = judge(pairs, find_protocol("firstwords"))
    assert {name: part.accuracy for name, part in accuracies.paradigms.items()} == {
        "one": 0.75,
        "two": 0.5,
        "three": 0.125,
    }
    assert {name: part.accuracy for name, part in accuracies.phenomena.items()} == {
        "agreement": 0.625,
        "islands": 0.125,
    }
    assert accuracies.fields["syntax"].accuracy == pytest.approx((0.75 + 0.5 + 0.125) / 3)
    assert accuracies.mean_of_paradigms.accuracy == pytest.approx((0.75 + 0.5 + 0.125) / 3)
    assert accuracies.mean_of_phenomena.accuracy == pytest.approx((0.625 + 0.125) / 2)
    assert accuracies.pooled.accuracy == pytest.approx(4.5 / 10)
    assert accuracies.overall == accuracies.mean_of_paradigms
    assert (accuracies.overall.pairs, accuracies.overall.ties, accuracies.paradigms["three"].ties) == (10, 1, 1)
    by_card = judge(pairs, find_protocol("card"))
    assert by_card.overall == by_card.pooled
    assert by_card.overall.accuracy == 0.4


def simulated(shares: Sequence[float], pairs: int, rng: np.random.Generator) -> Accuracies:
    """A suite of one phenomenon in which each paradigm has its own chance of a right judgement."""
    right, wrong = [[judged(f"p{number}", "x", sign)[0] for number in range(len(shares))] for sign in (1, -1)]
    found = []
    for number, share in enumerate(shares):
        successes = rng.binomial(pairs, share)
        found += [right[number]] * successes + [wrong[number]] * (pairs - successes)
    return judge(found, find_protocol("firstwords"))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Simulated judgements: 95% intervals hold the truth in 93 to 97% of many suites."""
    suites, truth = 1_500, 0.7
    rng = np.random.default_rng(0)
    held = {"pooled": 0, "same paradigms": 0, "other paradigms": 0}
    for _ in range(suites):
        found = simulated([truth] * 4, 60, rng)
        held["pooled"] += found.pooled.low <= truth <= found.pooled.high
        held["same paradigms"] += found.phenomena["x"].low <= truth <= found.phenomena["x"].high
        found = simulated(list(rng.beta(7, 3, size=19)), 20, rng)
        held["other paradigms"] += found.overall.low <= truth <= found.overall.high
    for name, count in held.items():
        assert 0.93 <= count / suites <= 0.97, name


def test_an_interval_is_never_a_point_and_stays_within_0_and_1() -> None:
    for sign in (1, -1):
        perfect = judge([*judged("one", "x", *[sign] * 20), *judged("two", "x", *[sign] * 20)], PROTOCOLS["firstwords"])
        for part in (perfect.overall, perfect.phenomena["x"], perfect.pooled, perfect.paradigms["one"]):
            assert 0 <= part.low <= part.accuracy <= part.high <= 1
            assert part.high - part.low > 0.03


def test_a_model_that_never_saw_bos_is_told(model: OwnModel, small_text: Path, tmp_path: Path) -> None:
    assert evaluate(model, suite(*PAIRS)).notes == ("made up",)
    without = tmp_path / "without"
    learn_tokenizer(
        TokenizerSettings(vocabulary=300), TokenSettings(add_bos=False), small_text, without, max_length=256
    )
    never = OwnModel("never", model.model, Vocabulary.load(without))
    warned = evaluate(never, suite(*PAIRS)).notes
    assert warned[0] == "made up"
    assert "beginning-of-sequence" in warned[1]
    assert evaluate(never, suite(*PAIRS), "card").notes == ("made up",)


def test_a_result_is_written_with_all_that_it_depends_on(model: OwnModel, tmp_path: Path) -> None:
    result = evaluate(model, suite(*PAIRS), "card")
    path = write_evaluation(result, tmp_path)
    assert path.name == "mine.card.json"
    written = json.loads(path.read_text())
    assert written["statement"] == find_protocol("card").statement
    assert written["overall"]["accuracy"] == result.overall.accuracy
    assert written["phenomena"]["agreement"].keys() == {"accuracy", "low", "high", "pairs", "ties"}
    assert written["data"] == {"origin": "a test", "sha256": "0" * 64, "license": None}
    assert written["counts"]["identical_pairs"] == 1
    assert written["floors"] == {"random": 0.5}
    assert written["dtype"] == "float32"
    assert written["versions"].keys() == {"firstwords", "torch", "tokenizers", "transformers", "python"}
    with (tmp_path / "mine.card.pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(one["uid"], one["pair_id"]) for one in rows] == [("agreement", "a"), ("agreement", "b"), ("song", "a")]
    for one, row in zip(result.judged, rows, strict=True):
        assert (float(row["good_score"]), float(row["bad_score"])) == (one.good_score, one.bad_score)
        assert row["choice"] == one.choice
    assert write_evaluation(result, tmp_path, "untrained.mine.card").name == "untrained.mine.card.json"
    assert sorted(entry.suffix for entry in tmp_path.iterdir()) == [".csv", ".csv", ".json", ".json"]


def test_a_model_of_nans_and_a_pair_longer_than_the_context_give_no_result(vocabulary: Vocabulary) -> None:
    broken = Llama(SHAPE, vocabulary.size)
    with torch.no_grad():
        broken.norm.weight.fill_(torch.nan)
    with pytest.raises(FirstwordsError, match="not finite") as caught:
        evaluate(OwnModel("broken", broken, vocabulary), suite(*PAIRS))
    assert caught.value.exit_code == 3
    assert caught.value.where == "'The cat sleeps.' (mine: agreement, pair a)"

    short = Llama(SHAPE.model_copy(update={"positions": 4}), vocabulary.size)
    with pytest.raises(FirstwordsError, match="too short") as caught:
        evaluate(
            OwnModel("short", short, vocabulary), suite(pair("The cat sleeps near the tree.", "The cat.", pair_id="77"))
        )
    assert caught.value.exit_code == 2
    assert "pair 77" in (caught.value.where or "")


LENGTHS = ("The cat sleeps.", "x" * 40, "q " * 9, "\u00e9" * 7, "The cat near the trees sleeps. " * 3, "\U0001f600" * 5)


@pytest.mark.parametrize("named", ["firstwords", "blimp", "card"])
def test_what_is_too_long_is_found_before_training_whatever_is_not_tokenized(
    named: str, vocabulary: Vocabulary
) -> None:
    protocol, reader = find_protocol(named), Reader.of(vocabulary)
    for text in LENGTHS:
        lines, _ = protocol.lines(reader, [text])
        taken = lines[0].stop - 1
        pairs = suite(pair("The cat.", text, pair_id="the long one"))
        check_lengths(pairs, protocol, reader, max(taken, 8))
        for positions in (taken - 1, taken // 2):
            with pytest.raises(FirstwordsError, match="too short") as caught:
                check_lengths(pairs, protocol, reader, positions)
            assert positions < 4 or "the long one" in (caught.value.where or "")


def test_an_untrained_model_is_at_chance_on_blimp(shared_data: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    blimp = load_suite("blimp", [shared_data], tmp_path, offline=True)
    sample = replace(blimp, pairs=blimp.pairs[::25])
    untrained = Llama(SHAPE.model_copy(update={"init_std": 0.02}), vocabulary.size, seed=2)
    overall = evaluate(OwnModel("untrained", untrained, vocabulary), sample).overall
    assert overall.low < 0.5 < overall.high
    assert overall.high - overall.low < 0.15
