"""Scores are those of the plain formula, however sentences are batched."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from firstwords.errors import FirstwordsError
from firstwords.evaluation.cpu_model import CpuModel
from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.prefixes import prefix_batches
from firstwords.evaluation.reader import Line
from firstwords.evaluation.scoring import token_log_probs
from firstwords.evaluation.subject import line_scores
from firstwords.model.attention import Layout
from firstwords.model.hub import save_folder
from firstwords.model.llama import Llama
from firstwords.model.native import native_loops
from firstwords.settings import ModelSettings
from firstwords.tokens.tokenizer import Vocabulary

VOCABULARY = 150
SHAPES = {
    "plain": ModelSettings(hidden=32, layers=2, heads=2, intermediate=48, positions=40, init_std=0.3),
    "grouped, tied": ModelSettings(
        hidden=48, layers=2, heads=4, kv_heads=2, intermediate=64, positions=40, tied_embeddings=True, dropout=0.5
    ),
}


@pytest.fixture(params=SHAPES)
def model(request: pytest.FixtureRequest) -> Llama:
    return Llama(SHAPES[request.param], VOCABULARY, seed=3)


def random_sequences(count: int, seed: int, alphabet: int = 4) -> list[list[int]]:
    """Sentences of few different tokens: many begin alike, some are the same, some the beginning of others."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 1 + alphabet, rng.integers(2, 30)).tolist() for _ in range(count)]


Scorer = Callable[..., np.ndarray]


@pytest.fixture
def score(model: Llama, vocabulary: Vocabulary) -> Scorer:
    """Scores sequences of ids by `model`."""

    def of(sequences: Sequence[Sequence[int]], **options: Any) -> np.ndarray:
        return line_scores(
            OwnModel("small", model, vocabulary), [Line(tuple(ids), 1, len(ids)) for ids in sequences], **options
        )

    return of


def one_by_one(model: Llama, ids: list[int]) -> list[float]:
    """The formula, one sentence at a time, over all logits, without dropout."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        log_probs_TV = model(torch.tensor(ids), Layout.of([len(ids)])).double().log_softmax(dim=1)
    model.train(was_training)
    return [log_probs_TV[place, token].item() for place, token in enumerate(ids[1:])]


@pytest.fixture(params=["laid out anew", "as it trains"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways that a model is scored on a CPU: much text at once, and little."""
    anew = request.param == "laid out anew"
    if anew and native_loops() is None:
        pytest.skip("there is no C++ compiler that works here")
    monkeypatch.setattr("firstwords.evaluation.scoring._MUCH", 0 if anew else 10**9)
    return request.param


@pytest.mark.usefixtures("way")
def test_scores_are_those_of_the_plain_formula(model: Llama, score: Scorer) -> None:
    sequences = random_sequences(150, seed=0)
    expected = [one_by_one(copy.deepcopy(model).double(), ids) for ids in sequences]
    assert model.training, "dropout is on in the caller's model"
    for tokens, reference in zip(token_log_probs(model, sequences), expected, strict=True):
        np.testing.assert_allclose(tokens, reference, atol=1e-5, rtol=1e-5)
    assert model.training, "and is so afterwards"
    sums = score(sequences)
    assert sums.dtype == np.float64
    np.testing.assert_allclose(sums, [sum(reference) for reference in expected], atol=1e-4)
    np.testing.assert_allclose(score(sequences, mean=True), list(map(np.mean, expected)), atol=1e-5)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("nodes", [1, 7, 100, 10_000])
def test_batch_size_does_not_matter(model: Llama, nodes: int) -> None:
    sequences = random_sequences(120, seed=1)
    expected = token_log_probs(model, sequences)
    for tokens, reference in zip(token_log_probs(model, sequences, nodes=nodes), expected, strict=True):
        np.testing.assert_allclose(tokens, reference, atol=1e-5)


@pytest.mark.usefixtures("way")
def test_logits_are_made_in_pieces(monkeypatch: pytest.MonkeyPatch, model: Llama, score: Scorer) -> None:
    sequences = random_sequences(100, seed=2)
    expected = score(sequences)
    monkeypatch.setattr("firstwords.evaluation.scoring._CPU_LOGITS", 1)
    np.testing.assert_allclose(score(sequences), expected, atol=1e-5)


@settings(max_examples=50)
@given(
    st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=9).map(tuple), min_size=1, max_size=40, unique=True),
    st.integers(1, 60),
)
def test_a_batch_has_each_beginning_once_and_predicts_every_token(sequences: list[tuple[int, ...]], nodes: int) -> None:
    met: list[int] = []
    for batch in prefix_batches(sequences, nodes):
        chosen = [sequences[number] for number in batch.sequences]
        assert len(batch.ids_N) == len({ids[:end] for ids in chosen for end in range(1, len(ids))})
        assert batch.ids_N[batch.nodes_M].tolist() == [token for ids in chosen for token in ids[:-1]]
        assert batch.targets_M.tolist() == [token for ids in chosen for token in ids[1:]]
        expand, pick = batch.layout.expand, batch.layout.pick
        assert expand is not None and pick is not None
        assert expand[pick].tolist() == list(range(len(batch.ids_N)))
        met += batch.sequences.tolist()
    assert sorted(met) == list(range(len(sequences)))


def test_sharing_leaves_no_trace_in_the_model(model: Llama) -> None:
    ids = torch.tensor([1, 2, 3])
    model.eval()
    before = model(ids, Layout.of([3]))
    for batch in prefix_batches([(1, 2, 3), (1, 2, 4)], 100):
        assert len(model.hidden(batch.ids_N, batch.layout)) == 2
    assert torch.equal(model(ids, Layout.of([3])), before)


def test_a_model_is_laid_out_anew_where_much_is_scored(monkeypatch: pytest.MonkeyPatch, model: Llama) -> None:
    if native_loops() is None:
        pytest.skip("there is no C++ compiler that works here")
    made: list[CpuModel] = []
    monkeypatch.setattr(CpuModel, "__init__", spied(CpuModel.__init__, made))
    few, many = random_sequences(20, seed=6), random_sequences(500, seed=6)
    token_log_probs(model, few)
    assert not made
    token_log_probs(model, many)
    assert len(made) == 1


def spied(initialize: Callable[..., None], made: list[CpuModel]) -> Callable[..., None]:
    def call(self: CpuModel, *args: Any) -> None:
        made.append(self)
        initialize(self, *args)

    return call


def test_scores_are_float32s_even_under_autocast(model: Llama, score: Scorer) -> None:
    sequences = random_sequences(30, seed=4)
    expected = score(sequences)
    with torch.autocast("cpu", torch.bfloat16):
        assert score(sequences).tolist() == expected.tolist()


def test_equal_to_transformers(vocabulary: Vocabulary, tokenizer_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = Llama(SHAPES["plain"], vocabulary.size, seed=5)
    save_folder(model, vocabulary, tokenizer_folder, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    sequences = vocabulary.encode(["The cat sleeps near the tree.", "The cat sleep near the tree.", "Some dogs run."])
    subject, lines = OwnModel("small", model, vocabulary), [Line(tuple(ids), 1, len(ids)) for ids in sequences]
    for ids, found in zip(sequences, line_scores(subject, lines), strict=True):
        with torch.no_grad():
            loss = theirs(torch.tensor([ids]), labels=torch.tensor([ids])).loss.item()
        assert found == pytest.approx(-loss * (len(ids) - 1), abs=1e-4)


def test_equal_sentences_score_equal_and_are_scored_once(score: Scorer) -> None:
    told: list[tuple[int, int]] = []
    scores = score([[1, 2, 3], [1, 2, 4], [1, 2, 3]], progress=lambda *done: told.append(done))
    assert scores[0] == scores[2] != scores[1]
    assert told[-1] == (2, 2)


def test_a_model_of_nans_gets_no_score(model: Llama, score: Scorer) -> None:
    with torch.no_grad():
        model.norm.weight[0] = torch.nan
    with pytest.raises(FirstwordsError, match="not finite") as caught:
        score([[1, 2], [1, 3]], describe=lambda number: f"sentence number {number}")
    assert caught.value.exit_code == 3
    assert caught.value.where == "sentence number 0"


def test_one_broken_embedding_spoils_the_sentences_that_have_it_and_no_other(model: Llama, score: Scorer) -> None:
    if model.shape.tied_embeddings:
        pytest.skip("a broken row of tied embeddings spoils all logits")
    with torch.no_grad():
        model.embedding.weight[9] = torch.inf
    with pytest.raises(FirstwordsError) as caught:
        score([[4, 2, 3], [1, 9, 3], [2, 9]])
    assert caught.value.where == "line 1", "where it is only predicted it does no harm"


def test_a_sentence_longer_than_the_context_is_refused_not_cut(model: Llama, score: Scorer) -> None:
    positions = model.shape.positions
    assert np.isfinite(score([[1] * (positions + 1)])).all(), "the last token is only predicted"
    with pytest.raises(FirstwordsError, match="context is too short") as caught:
        score([[1, 2], [1] * (positions + 2)], describe="number {}".format)
    assert (caught.value.where, caught.value.exit_code) == ("number 1", 2)


def test_only_what_is_asked_for_is_scored(model: Llama) -> None:
    sequences = [*random_sequences(60, seed=5), [1, 2, 3, 4], [1, 2, 3, 4]]
    first = [1 + number % (len(ids) - 1) for number, ids in enumerate(sequences)]
    whole = token_log_probs(model, sequences)
    for tokens, reference, start in zip(
        token_log_probs(model, sequences, first_scored=first), whole, first, strict=True
    ):
        np.testing.assert_allclose(tokens[start - 1 :], reference[start - 1 :], atol=1e-5)
    (alone,) = token_log_probs(model, [[1, 2, 3, 4]], first_scored=[3])
    assert np.isnan(alone[:2]).all()


def test_half_precision_weights_are_refused(model: Llama) -> None:
    with pytest.raises(FirstwordsError, match="float32"):
        token_log_probs(model.half(), [[1, 2]])


def test_nothing_to_score_is_nothing(model: Llama) -> None:
    assert token_log_probs(model, []) == []
