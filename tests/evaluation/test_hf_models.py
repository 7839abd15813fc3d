"""Models of others are scored as the plain formula says, however they are batched, padded and tokenized."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from firstwords.errors import FirstwordsError
from firstwords.evaluation import hf_models
from firstwords.evaluation.hf_models import CausalModel, MaskedModel, _positions
from firstwords.evaluation.judging import evaluate_suite
from firstwords.evaluation.opening import open_folder
from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.pairs import MinimalPair, make_suite
from firstwords.evaluation.protocols import find_protocol
from firstwords.evaluation.reader import Line
from firstwords.evaluation.subject import Subject, line_log_probs, line_scores
from tests.evaluation.small_models import (
    POSITIONS,
    SENTENCES,
    SIZES,
    byte_level,
    model_of,
    naive_log_probs,
    save,
    tokenizer_of,
    wrapped,
)

CAUSAL, MASKED = ("gpt2", "llama", "gemma2"), ("bert", "roberta")
WAYS = {"gpt2": "states", "llama": "states", "gemma2": "picked", "bert": "picked", "roberta": "picked"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Subject, Any, Any]]:
    """A kind of model, opened from its folder, with the transformers model and tokenizer that are in it."""
    root = tmp_path_factory.mktemp("models")
    kept: dict[str, tuple[Subject, Any, Any]] = {}

    def make(kind: str) -> tuple[Subject, Any, Any]:
        if kind not in kept:
            tokenizer = tokenizer_of(kind)
            model = model_of(kind, len(tokenizer))
            kept[kind] = open_folder(save(model, tokenizer, root / kind)), model, tokenizer
        return kept[kind]

    return make


Made = Callable[[str], tuple[Subject, Any, Any]]


@pytest.mark.parametrize("kind", CAUSAL)
def test_a_causal_model_scores_as_one_sentence_at_a_time(kind: str, made: Made) -> None:
    subject, model, tokenizer = made(kind)
    assert (subject.masked, subject.positions, subject.dtype) == (False, POSITIONS, "float32")
    lines = subject.reader.lines(SENTENCES, "bos")
    for sentence, line, found in zip(SENTENCES, lines, line_log_probs(subject, lines), strict=True):
        ids = tokenizer(sentence)["input_ids"]
        assert list(line.ids) == ids
        np.testing.assert_allclose(found, naive_log_probs(model, ids), atol=1e-4)


def test_a_llama_takes_the_fast_path_and_equals_transformers(made: Made) -> None:
    subject, model, tokenizer = made("llama")
    assert isinstance(subject, OwnModel)
    theirs = CausalModel("theirs", copy.deepcopy(model), tokenizer)
    lines = subject.reader.lines(SENTENCES, "bos")
    for ours, other in zip(line_log_probs(subject, lines), line_log_probs(theirs, lines), strict=True):
        np.testing.assert_allclose(ours, other, atol=1e-4)


@pytest.mark.parametrize("kind", CAUSAL + MASKED)
def test_only_some_places_pass_the_head_where_the_model_allows_it(kind: str, made: Made) -> None:
    _, model, tokenizer = made(kind)
    subject = (MaskedModel if kind in MASKED else CausalModel)(kind, copy.deepcopy(model), tokenizer)
    lines = subject.reader.lines(SENTENCES, "both-sides")
    cheap = line_scores(subject, lines)
    assert subject._head._way == WAYS[kind]
    # All logits of a batch, as for a model that gives nothing else.
    subject._head._way = "whole"
    np.testing.assert_allclose(line_scores(subject, lines), cheap, atol=1e-4)


@pytest.mark.parametrize("kind", CAUSAL + MASKED)
def test_the_size_of_a_batch_changes_no_score(kind: str, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, _, _ = made(kind)
    many = [f"{first} {second}" for first in SENTENCES for second in SENTENCES[:2]]
    lines = subject.reader.lines(many, "both-sides")
    reference = line_log_probs(subject, lines)
    for tokens, logits in ((1, 300), (70, 2_000), (100_000, 2**22)):
        monkeypatch.setattr(hf_models, "_CPU_TOKENS", tokens)
        monkeypatch.setattr(hf_models, "_CPU_LOGITS", logits)
        for found, expected in zip(line_log_probs(subject, lines), reference, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["gemma2", "bert"])
def test_a_model_that_gives_all_its_logits_gets_batches_that_hold_few(
    kind: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model, tokenizer = made(kind)
    subject = (MaskedModel if kind == "bert" else CausalModel)(kind, copy.deepcopy(model), tokenizer)
    lines = subject.reader.lines(SENTENCES * 3, "both-sides")
    expected = line_scores(subject, lines)
    largest = 40 * len(tokenizer)
    monkeypatch.setattr(hf_models, "_CPU_WHOLE_LOGITS", largest)
    seen: list[int] = []
    subject.model.register_forward_hook(lambda _model, _given, out: seen.append(out.logits.numel()))
    for way in ("picked", "whole"):
        subject._head._way = way
        np.testing.assert_allclose(line_scores(subject, lines), expected, atol=1e-4)
    assert 0 < max(seen) <= largest


def test_the_side_of_the_padding_changes_no_score(tmp_path: Path) -> None:
    model = model_of("gpt2", 300)
    scores = []
    for side in ("left", "right"):
        folder = save(model, wrapped(byte_level("<s> $A"), padding_side=side), tmp_path / side)
        subject = open_folder(folder)
        scores.append(line_scores(subject, subject.reader.lines(SENTENCES, "bos")))
    assert scores[0].tolist() == scores[1].tolist()


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_a_sentence_longer_than_the_context_is_refused_and_never_cut(kind: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(kind)
    # As many folders have it: the tokenizer would cut and fill up every text.
    tokenizer.backend_tokenizer.enable_truncation(8)
    tokenizer.backend_tokenizer.enable_padding(length=12)
    tokenizer.model_max_length = 8
    model = model_of(kind, len(tokenizer))
    folder = save(model, tokenizer, tmp_path)
    assert '"max_length": 8' in (folder / "tokenizer.json").read_text()
    subject = open_folder(folder)
    protocol = "pll" if kind == "bert" else "firstwords"
    (line,), cut = find_protocol(protocol).lines(subject.reader, [SENTENCES[2]])
    assert (len(line.ids) > 20, cut) == (True, 0)
    with pytest.raises(FirstwordsError, match=f"and the model has {POSITIONS}: its context is too short") as caught:
        suite = make_suite("mine", [MinimalPair("u", "7", "The cat. " * 20, "A dog.", "u", "f")], "a test", None)
        evaluate_suite(subject, suite, [protocol])
    assert "pair 7" in (caught.value.where or "")


@pytest.mark.parametrize("kind", CAUSAL + MASKED)
def test_a_line_that_fills_all_positions_is_scored(kind: str, made: Made) -> None:
    subject, model, _ = made(kind)
    # The last token of a causal model is only predicted: it takes no position.
    length = POSITIONS if subject.masked else POSITIONS + 1
    ids = [3 + place % 50 for place in range(length)]
    (found,) = line_log_probs(subject, [Line(tuple(ids), 1, length, (None,) * length)])
    assert len(found) == length - 1
    if not subject.masked:
        np.testing.assert_allclose(found, naive_log_probs(model, ids), atol=1e-4)
    with pytest.raises(FirstwordsError, match=f"takes {POSITIONS + 1} positions"):
        line_log_probs(subject, [Line((*ids, 3), 1, length + 1, (None,) * (length + 1))])


@torch.no_grad()
def naive_masked(model: Any, tokenizer: Any, text: str, *, within_word: bool) -> list[float]:
    """The formula of Salazar et al. (2020), or that of Kauf and Ivanova (2023): one masked row at a time."""
    coded = tokenizer(text)
    ids, words = coded["input_ids"], coded.word_ids()
    found = []
    for place, word in enumerate(words):
        if word is None:
            continue
        hidden = [place] + [later for later in range(place + 1, len(ids)) if within_word and words[later] == word]
        row = torch.tensor([ids])
        row[0, hidden] = tokenizer.mask_token_id
        logits = model(input_ids=row, attention_mask=torch.ones_like(row)).logits[0, place].double()
        found.append(float(logits.log_softmax(0)[ids[place]]))
    return found


@pytest.mark.parametrize("within_word", [False, True])
@pytest.mark.parametrize("kind", MASKED)
def test_a_masked_model_scores_by_pseudo_log_likelihood(kind: str, within_word: bool, made: Made) -> None:
    subject, model, tokenizer = made(kind)
    assert isinstance(subject, MaskedModel)
    assert subject.positions == POSITIONS
    name = "pll-word-l2r" if within_word else "pll"
    expected = [naive_masked(model, tokenizer, text, within_word=within_word) for text in SENTENCES]
    lines, _ = find_protocol(name).lines(subject.reader, SENTENCES)
    for found, formula in zip(line_log_probs(subject, lines, within_word=within_word), expected, strict=True):
        np.testing.assert_allclose(found, formula, atol=1e-4)
    pairs = [MinimalPair("u", str(n), SENTENCES[n], SENTENCES[n + 1], "u", "f") for n in (0, 2, 4)]
    (result,) = evaluate_suite(subject, make_suite("mine", pairs, "a test", None), [name])
    for one, number in zip(result.judged, (0, 2, 4), strict=True):
        assert one.good_score == pytest.approx(sum(expected[number]), abs=1e-3)
        assert one.bad_score == pytest.approx(sum(expected[number + 1]), abs=1e-3)


@pytest.mark.parametrize("within_word", [False, True])
@pytest.mark.parametrize("kind", MASKED)
def test_sentences_that_differ_only_in_the_masked_token_get_scores_of_their_own(
    kind: str, within_word: bool, made: Made
) -> None:
    subject, model, tokenizer = made(kind)
    texts = ["The cat talk.", "The cat talk!", "The cat talk?", "The cat talk."]
    coded = [tokenizer(text)["input_ids"] for text in texts]
    assert [sum(a != b for a, b in zip(coded[0], ids, strict=True)) for ids in coded] == [0, 1, 1, 0]
    lines = subject.reader.lines(texts, "both-sides")
    for text, found in zip(texts, line_log_probs(subject, lines, within_word=within_word), strict=True):
        expected = naive_masked(model, tokenizer, text, within_word=within_word)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_two_masked_formulas_differ_where_words_have_several_tokens(made: Made) -> None:
    subject, _, _ = made("bert")
    lines = subject.reader.lines(["The teacher sleeps."], "both-sides")
    plain, by_word = (line_scores(subject, lines, within_word=within)[0] for within in (False, True))
    assert abs(plain - by_word) > 0.01


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
def test_a_model_of_nans_gives_no_score_and_exit_code_3(kind: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(kind)
    model = model_of(kind, len(tokenizer))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("ln_f.weight", "model.norm.weight", "transform.LayerNorm.weight")):
                weight.fill_(torch.nan)
    subject = open_folder(save(model, tokenizer, tmp_path))
    suite = make_suite("mine", [MinimalPair("u", "1", "The cat.", "A cat.", "u", "f")], "a test", None)
    with pytest.raises(FirstwordsError, match="not finite") as caught:
        evaluate_suite(subject, suite, ["pll" if subject.masked else "firstwords"])
    assert caught.value.exit_code == 3


def test_a_model_that_sees_what_it_is_to_predict_is_not_scored_as_causal(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("bert")
    folder = save(model_of("bert-lm", len(tokenizer)), tokenizer, tmp_path / "both-ways")
    with pytest.raises(FirstwordsError, match="sees the tokens that it is to predict") as caught:
        open_folder(folder)
    assert "ForMaskedLM" in (caught.value.do or "")
    decoder = model_of("bert-lm", len(tokenizer), is_decoder=True)
    subject = open_folder(save(decoder, tokenizer, tmp_path / "causal"))
    (line,) = subject.reader.lines(["The cat sleeps."], "tokenizer")
    (found,) = line_log_probs(subject, [line])
    np.testing.assert_allclose(found, naive_log_probs(decoder, list(line.ids)), atol=1e-4)


def test_half_precision_and_a_tokenizer_without_mask_are_refused() -> None:
    tokenizer = tokenizer_of("gpt2")
    with pytest.raises(FirstwordsError, match="float32 weights, not float16"):
        CausalModel("half", model_of("gpt2", len(tokenizer)).half(), tokenizer)
    with pytest.raises(FirstwordsError, match="no mask token"):
        MaskedModel("maskless", model_of("bert", 300), tokenizer)


def test_nothing_to_score_is_nothing(made: Made) -> None:
    for kind in ("gpt2", "llama", "bert"):
        assert made(kind)[0].log_probs([]) == []


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_progress_is_told_up_to_the_last_row(kind: str, made: Made) -> None:
    subject, _, _ = made(kind)
    told: list[tuple[int, int]] = []
    subject.log_probs(subject.reader.lines(SENTENCES, "both-sides"), progress=lambda *done: told.append(done))
    assert told[-1][0] == told[-1][1] > 4


@pytest.mark.parametrize("kind", [*CAUSAL, *MASKED])
def test_an_encoder_gives_the_last_or_first_state_and_learns_without_changing_the_model(kind: str, made: Made) -> None:
    subject, model, tokenizer = made(kind)
    before = {name: weight.clone() for name, weight in subject.model.state_dict().items()}  # type: ignore[attr-defined]
    encoder = subject.encoder()
    assert encoder.training
    assert encoder.width == 32
    encoder.eval()
    rows = [tokenizer(text)["input_ids"] for text in SENTENCES]
    states = encoder(rows)
    assert (states.shape, states.dtype) == ((len(rows), 32), torch.float32)
    for state, ids in zip(states, rows, strict=True):
        with torch.no_grad():
            plain = model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        np.testing.assert_allclose(state.detach(), plain[0 if subject.masked else -1], atol=1e-5)
    states.square().sum().backward()
    learnt = [weight for weight in encoder.parameters() if weight.grad is not None and weight.grad.abs().sum() > 0]
    assert len(learnt) > 5
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(1.0)
    assert not torch.allclose(encoder(rows), states)
    after = subject.model.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


@pytest.mark.parametrize(("kind", "usable"), [("MPNet", 62), ("Roberta", 62), ("Bert", 64), ("Esm", 62)])
def test_positions_are_those_that_a_row_can_take(kind: str, usable: int) -> None:
    """Some models number them from after their padding token's, so that the last of as many do not exist."""
    import transformers

    sizes = SIZES | {"vocab_size": 80, "max_position_embeddings": 64, "pad_token_id": 1}
    config = getattr(transformers, f"{kind}Config")(**sizes, **({"mask_token_id": 4} if kind == "Esm" else {}))
    model = getattr(transformers, f"{kind}ForMaskedLM")(config).eval()
    found = _positions(model)
    assert found == usable
    model(input_ids=torch.full((1, found), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, found + 1), 5))
