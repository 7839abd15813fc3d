"""What the playground computes: alignment, surprisals that are those of `firstwords score`, next words, samples."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.surprisal import Manner as ReadingManner
from firstwords.evaluation.surprisal import score_texts
from firstwords.model.llama import Llama
from firstwords.models import open_run
from firstwords.run_folder import RunFolder
from firstwords.settings import TokenizerSettings, TokenSettings
from firstwords.tokens.tokenizer import Vocabulary, learn_tokenizer
from firstwords.web.pairs import aligned, score_pair
from firstwords.web.refusal import Refusal
from firstwords.web.words import Manner, Writer, next_tokens, sample

PAIR = ("The teacher sleeps near the house.", "The teacher sleep near the house.")


@pytest.fixture(scope="module")
def tiny(two_runs: Path) -> OwnModel:
    found = open_run(RunFolder(two_runs / "tiny"), device="cpu")
    assert isinstance(found, OwnModel)
    return found


WORDS = st.lists(st.sampled_from(["the", "cat", "cats", "sees", "see", "a"]), max_size=8)


@given(WORDS, WORDS)
def test_every_word_stands_in_one_column_in_its_order(first: list[str], second: list[str]) -> None:
    columns = aligned(first, second)
    assert [a for a, _ in columns if a is not None] == list(range(len(first)))
    assert [b for _, b in columns if b is not None] == list(range(len(second)))
    assert all(both != (None, None) for both in columns)


def test_what_is_alike_stands_beside_itself() -> None:
    assert aligned(["the", "cat", "sees", "me"], ["the", "cats", "see", "me"]) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert aligned(["who", "did", "he", "see"], ["who", "see"]) == [(0, 0), (1, None), (2, None), (3, 1)]


@pytest.mark.parametrize("by", ["word", "token"])
def test_surprisals_are_those_of_the_command_line(tiny: OwnModel, by: str) -> None:
    found = score_pair(tiny, PAIR, by)  # type: ignore[arg-type]
    scored = score_texts(tiny, PAIR, ReadingManner.of(tiny))
    for one, expected in zip(found.sentences, scored, strict=True):
        total = math.fsum(unit.bits or 0 for unit in expected.tokens())
        assert one.bits == pytest.approx(total)
        assert math.fsum(piece.bits or 0 for piece in one.pieces) == pytest.approx(total)
        assert all(one.text[piece.start : piece.end] == piece.text for piece in one.pieces)
        if by == "word":
            assert [piece.bits for piece in one.pieces] == pytest.approx([unit.bits for unit in expected.words()])
        else:
            assert "".join(piece.text for piece in one.pieces) == one.text


def test_words_before_the_difference_are_alike_and_from_it_on_they_are_not(tiny: OwnModel) -> None:
    first, second = score_pair(tiny, PAIR, "word").sentences
    same = [
        math.isclose(a.bits or 0, b.bits or 0, abs_tol=1e-3) for a, b in zip(first.pieces, second.pieces, strict=True)
    ]
    assert same[:2] == [True, True]
    assert not same[2]


def test_a_longer_sentence_than_the_model_reads_is_read_whole(tiny: OwnModel) -> None:
    long = " ".join(["The teacher sleeps near the house."] * 20)
    found = score_pair(tiny, (long, long), "word")
    assert len(found.sentences[0].pieces) == 120
    assert all(piece.bits is not None for piece in found.sentences[0].pieces)


def test_characters_without_a_token_are_told_of(tiny: OwnModel, small_text: Path, tmp_path: Path) -> None:
    settings = TokenizerSettings(vocabulary=100, all_bytes=False)
    learn_tokenizer(settings, TokenSettings(), small_text, tmp_path, max_length=64)
    vocabulary = Vocabulary.load(tmp_path)
    model = OwnModel("some", Llama(tiny.model.shape, vocabulary.size).eval(), vocabulary)
    found = score_pair(model, ("The ж sleep.", "The teacher sleep."), "word")
    assert [piece.read for piece in found.sentences[0].pieces] == [True, False, True]
    assert all(piece.read for piece in found.sentences[1].pieces)
    with pytest.raises(Refusal, match="no token"):
        score_pair(model, ("ж", "The"), "word")


def test_the_next_token_is_as_likely_as_its_surprisal_says(tiny: OwnModel) -> None:
    found = next_tokens(tiny, "The teacher")
    (scored,) = score_texts(tiny, ["The teacher."], ReadingManner.of(tiny))
    dot = next(token for token in found.tokens if token.text == ".")
    assert dot.bits == pytest.approx(scored.tokens()[-1].bits, abs=1e-3)
    assert dot.probability == pytest.approx(2**-dot.bits)
    assert [token.probability for token in found.tokens] == sorted((t.probability for t in found.tokens), reverse=True)
    assert 0 < found.entropy_bits < math.log2(found.vocabulary)


def test_temperature_zero_writes_the_likeliest_and_a_seed_writes_the_same(tiny: OwnModel) -> None:
    writer = Writer(tiny, "The teacher", Manner(temperature=0, most_tokens=1))
    likeliest = next_tokens(tiny, "The teacher").tokens[0]
    assert "".join(writer) == ("" if likeliest.special else likeliest.text)
    texts = {seed: "".join(Writer(tiny, "The", Manner(1.0, 1.0, 20, seed))) for seed in (1, 2, 3)}
    assert len(set(texts.values())) > 1
    assert texts[1] == "".join(Writer(tiny, "The", Manner(1.0, 1.0, 20, 1)))


def test_a_text_has_as_many_tokens_as_asked_for_and_may_outgrow_the_model(tiny: OwnModel) -> None:
    for seed in range(20):
        writer = Writer(tiny, "The", Manner(1.0, 1.0, 100, seed))
        text = "".join(writer)
        if writer.ended == "as long as asked for":
            assert len(tiny.reader.tokenizer.encode(f"The{text}", add_special_tokens=False).ids) > tiny.positions  # type: ignore[operator]
            return
    pytest.fail("every text ended by itself")


def test_only_the_nucleus_is_sampled() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    generator = torch.Generator().manual_seed(0)

    def drawn(top_p: float, temperature: float = 1.0) -> Counter[int]:
        return Counter(sample(logits, Manner(temperature, top_p), generator) for _ in range(600))

    assert set(drawn(0.4)) == {0}
    assert set(drawn(0.6)) == {0, 1}
    assert set(drawn(1.0)) == {0, 1, 2, 3}
    assert drawn(1.0)[0] / 600 == pytest.approx(0.5, abs=0.08)
    assert drawn(0.6)[0] / 600 == pytest.approx(0.5 / 0.8, abs=0.08)
    # At half the temperature probabilities are squared before they are made to add up again.
    assert drawn(1.0, 0.5)[0] / 600 == pytest.approx(0.25 / 0.365, abs=0.08)
