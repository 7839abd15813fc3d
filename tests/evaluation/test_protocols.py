"""A protocol does what it states."""

from __future__ import annotations

import pytest

from firstwords.errors import FirstwordsError
from firstwords.evaluation.protocols import PROTOCOLS, check_protocol, find_protocol
from firstwords.evaluation.reader import Reader
from firstwords.tokens.tokenizer import Vocabulary


def test_firstwords_and_blimp_begin_with_bos_and_card_does_not(vocabulary: Vocabulary) -> None:
    text = "The cat sleeps."
    (plain,) = vocabulary.encode([text])
    for name in ("firstwords", "blimp"):
        (line,), cut = find_protocol(name).lines(Reader.of(vocabulary), [text])
        assert (line.ids, line.start, line.stop, cut) == ((vocabulary.bos_id, *plain), 1, 1 + len(plain), 0)
    (line,), cut = find_protocol("card").lines(Reader.of(vocabulary), [text])
    assert (line.ids, line.start, line.stop, cut) == (tuple(plain), 1, len(plain), 0)


def test_only_card_cuts_and_says_how_often(vocabulary: Vocabulary) -> None:
    texts = ["cat " * 300, "The cat sleeps."]
    (long, short), cut = find_protocol("card").lines(Reader.of(vocabulary), texts)
    assert (long.stop, cut) == (127, 1)
    assert long.ids == tuple(vocabulary.encode(texts)[0][:127])
    (long, short), cut = find_protocol("firstwords").lines(Reader.of(vocabulary), texts)
    assert (len(long.ids), cut) == (1 + len(vocabulary.encode(texts)[0]), 0)
    assert len(short.ids) == 1 + len(vocabulary.encode(texts)[1])


def test_a_sentence_without_a_token_to_score_is_refused(vocabulary: Vocabulary) -> None:
    assert len(vocabulary.encode(["a"])[0]) == 1
    assert find_protocol("firstwords").lines(Reader.of(vocabulary), ["a"])[1] == 0
    with pytest.raises(FirstwordsError, match="has 1 tokens") as caught:
        find_protocol("card").lines(Reader.of(vocabulary), ["The cat.", "a"])
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


def test_what_is_given_is_read_and_not_scored(vocabulary: Vocabulary) -> None:
    reader = Reader.of(vocabulary)
    prompt, rest = "The cat sleeps", " near the tree."
    for name in ("firstwords", "card", "babylm-2025", "lm-eval"):
        protocol = find_protocol(name)
        (line,), _ = protocol.lines(reader, [prompt + rest], [len(prompt)])
        scored = vocabulary.decode(list(line.ids[line.start : line.stop]))
        assert scored.strip() == rest.strip(), name
        (whole,), _ = protocol.lines(reader, [prompt + rest], [0])
        assert line.ids == whole.ids
        assert whole.scored > line.scored


def test_lm_eval_puts_a_space_before_and_scores_it(vocabulary: Vocabulary) -> None:
    (line,), _ = find_protocol("lm-eval").lines(Reader.of(vocabulary), ["The cat."])
    assert line.ids == (vocabulary.bos_id, *vocabulary.encode([" The cat."])[0])
    assert line.start == 1


def test_a_protocol_for_the_other_kind_of_model_is_refused() -> None:
    for name, masked in (("pll", False), ("firstwords", True)):
        with pytest.raises(FirstwordsError, match=f"'{name}' is not for"):
            check_protocol(find_protocol(name), masked=masked)
