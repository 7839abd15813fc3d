"""A protocol does what it states."""

from __future__ import annotations

import pytest

from firstwords.errors import FirstwordsError
from firstwords.evaluation.protocols import PROTOCOLS, find_protocol
from firstwords.tokens.tokenizer import Vocabulary


def test_firstwords_and_blimp_begin_with_bos_and_card_does_not(vocabulary: Vocabulary) -> None:
    text = "The cat sleeps."
    (plain,) = vocabulary.encode([text])
    for name in ("firstwords", "blimp"):
        assert find_protocol(name).sequences(vocabulary, [text]) == ([[vocabulary.bos_id, *plain]], 0)
    assert find_protocol("card").sequences(vocabulary, [text]) == ([plain], 0)


def test_only_card_cuts_and_says_how_often(vocabulary: Vocabulary) -> None:
    texts = ["cat " * 300, "The cat sleeps."]
    (long, short), cut = find_protocol("card").sequences(vocabulary, texts)
    assert (len(long), cut) == (127, 1)
    assert long == vocabulary.encode(texts)[0][:127]
    (long, short), cut = find_protocol("firstwords").sequences(vocabulary, texts)
    assert (len(long), cut) == (1 + len(vocabulary.encode(texts)[0]), 0)
    assert len(short) == 1 + len(vocabulary.encode(texts)[1])


def test_a_sentence_without_a_token_to_score_is_refused(vocabulary: Vocabulary) -> None:
    assert len(vocabulary.encode(["a"])[0]) == 1
    assert find_protocol("firstwords").sequences(vocabulary, ["a"])[1] == 0
    with pytest.raises(FirstwordsError, match="has 1 tokens") as caught:
        find_protocol("card").sequences(vocabulary, ["The cat.", "a"])
    assert caught.value.where == "'a'"


def test_every_protocol_states_its_whole_formula() -> None:
    statements = {name: protocol.statement for name, protocol in PROTOCOLS.items()}
    assert len(set(statements.values())) == len(PROTOCOLS)
    assert "its first token is read and not scored; cut after 127 tokens" in statements["card"]
    assert "equal scores count as wrong" in statements["card"]
    assert "all pairs pooled" in statements["card"]
    assert "beginning-of-sequence token before it" in statements["firstwords"]
    assert "equal scores count as half right" in statements["firstwords"]
    assert "the mean of the paradigms' accuracies" in statements["firstwords"]


def test_unknown_protocol_is_refused_with_the_nearest() -> None:
    with pytest.raises(FirstwordsError, match="no protocol 'first-words'") as caught:
        find_protocol("first-words")
    assert caught.value.do == "did you mean 'firstwords'?"
