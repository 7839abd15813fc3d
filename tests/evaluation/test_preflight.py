"""What is found of a tokenizer is so."""

from __future__ import annotations

from typing import Any

import pytest

from firstwords.evaluation.preflight import Preflight, preflight
from firstwords.evaluation.reader import Reader
from tests.evaluation.small_models import NAMES, SENTENCES, byte_level, tokenizer_of, wrapped


def look(tokenizer: Any, texts: list[str] | None = None) -> Preflight:
    reader = Reader.of_transformers(tokenizer, "here")
    return preflight(reader, reader.tokenize(SENTENCES if texts is None else texts))


def test_whether_bos_is_there_and_put_before_a_text() -> None:
    adds, has = look(wrapped(byte_level("<s> $A </s>"))), look(wrapped(byte_level()))
    lacks = look(wrapped(byte_level(), eos_token="</s>"))
    assert [(one.has_bos, one.adds_bos) for one in (adds, has, lacks)] == [(True, True), (True, False), (False, False)]
    starts = [one.summary().split(";")[0] for one in (adds, has, lacks)]
    assert starts == ["adds BOS", "has BOS, does not add it", "has no BOS"]
    assert adds.notes("bos") == ()
    assert has.notes("none") == has.notes("tokenizer") == ()
    assert "does not begin a text with the beginning-of-sequence token" in has.notes("bos")[0]


@pytest.mark.parametrize(
    ("pad", "distinct"), [({"pad_token": "<pad>"}, True), ({"pad_token": "</s>"}, False), ({"pad_token": None}, None)]
)
def test_whether_padding_is_a_token_of_its_own(pad: dict[str, str | None], distinct: bool | None) -> None:
    assert look(wrapped(byte_level(), **(NAMES | pad))).pad_distinct is distinct


def test_whether_the_first_word_is_read_as_within_a_text() -> None:
    assert look(wrapped(byte_level(prefix_space=True))).leading_space
    assert look(tokenizer_of("bert")).leading_space
    assert not look(wrapped(byte_level())).leading_space


def test_a_word_of_single_letters_has_no_leading_space_either() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(letters, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    # Its letters are alike, but within a text a token stands before them that is the space.
    found = look(wrapped(tokenizer, pad_token=None))
    assert not found.leading_space
    assert "without the leading space" in found.summary()


def test_unknown_tokens_are_counted() -> None:
    found = look(tokenizer_of("bert"), ["The cat sleeps.", "The ☃ and the ☂ talk.", "☃☂"])
    assert found.unknown_tokens == 3
    assert found.notes("both-sides") == ("3 tokens of the test set are unknown to the tokenizer.",)
    assert look(tokenizer_of("bert")).unknown_tokens < 3


def test_texts_that_lose_characters_are_counted() -> None:
    from tokenizers import trainers
    from tokenizers.models import BPE

    tokenizer = byte_level()
    assert look(wrapped(tokenizer), ["The naïve ☃."]).lost_texts == 0
    # A vocabulary of the bytes that the training text has, as Model A's: other bytes vanish.
    tokenizer.model = BPE()
    tokenizer.train_from_iterator(
        ["the cat sleeps near to it"], trainers.BpeTrainer(vocab_size=60, show_progress=False)
    )
    found = look(wrapped(tokenizer), ["the cat sleeps", "the ☃ sleeps", "Q", "the cat\n sleeps "])
    assert found.lost_texts == 2
    assert "2 sentences have characters that are in no token" in found.notes("none")[0]
    assert "2 texts lose characters" in found.summary()


@pytest.mark.parametrize("kind", ["gpt2", "bert", "roberta"])
def test_offsets_of_usual_tokenizers_are_in_order_and_cover_the_text(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    found = look(tokenizer, [*SENTENCES, " Two  spaces\tand a tab ", "Café au lait", "a ☃ and 日本語", "x" * 300])
    assert (found.lost_texts, found.offsets_in_order) == (0, True)
    assert "offsets in order" in found.summary()
