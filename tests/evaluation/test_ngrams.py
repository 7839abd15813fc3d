"""The n-gram model is what its formulas say, whatever the text, and is a distribution."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstwords.errors import FirstwordsError
from firstwords.evaluation import ngrams
from firstwords.evaluation.ngrams import (
    BORDER,
    IndexedText,
    NgramScores,
    ask,
    index_text,
    ngram_log_probs,
    sentence_words,
    split_words,
    stream_words,
)


class Dictionaries:
    """The same model, written from Chen & Goodman's formulas with a dictionary entry for each n-gram."""

    def __init__(self, sentences: list[list[str]], order: int) -> None:
        self.order = order
        raw: dict[int, Counter] = {n: Counter() for n in range(1, order + 1)}
        for sentence in sentences:
            line = [BORDER, *sentence, BORDER]
            for end in range(1, len(line)):
                for n in range(1, min(order, end + 1) + 1):
                    raw[n][tuple(line[end - n + 1 : end + 1])] += 1
        self.counts: dict[int, dict[tuple, int]] = {order: dict(raw[order])}
        for n in range(1, order):
            before = defaultdict(set)
            for gram in raw[n + 1]:
                before[gram[1:]].add(gram[0])
            self.counts[n] = {
                gram: count if n > 1 and gram[0] == BORDER else len(before[gram]) for gram, count in raw[n].items()
            }
        self.vocabulary = {word for sentence in sentences for word in sentence} | {BORDER}
        self.discounts = {n: self.estimate(list(self.counts[n].values())) for n in self.counts}

    @staticmethod
    def estimate(counts: list[int]) -> tuple[float, float, float]:
        n1, n2, n3, n4 = (counts.count(c) for c in (1, 2, 3, 4))
        try:
            y = n1 / (n1 + 2 * n2)
            d = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        except ZeroDivisionError:
            return (0.5, 1.0, 1.5)
        return d if all(0 < d[i] <= i + 1 for i in range(3)) else (0.5, 1.0, 1.5)

    def prob(self, context: tuple, word: str) -> float:
        n = len(context) + 1
        lower = self.prob(context[1:], word) if context else 1 / (len(self.vocabulary) + 1)
        following = {gram: count for gram, count in self.counts[n].items() if gram[:-1] == context}
        if not following:
            return lower
        d = (0.0, *self.discounts[n])
        total = sum(following.values())
        gamma = sum(d[min(count, 3)] for count in following.values()) / total
        count = following.get((*context, word), 0)
        return (count - d[min(count, 3)]) / total + gamma * lower

    def log_probs(self, sentence: list[str]) -> list[float]:
        line = [BORDER, *sentence, BORDER]
        return [
            math.log(self.prob(tuple(line[max(0, end - self.order + 1) : end]), line[end]))
            for end in range(1, len(line))
        ]


class Asked:
    """Scores of sentences in the order in which they were asked, repeated ones too."""

    def __init__(self, text: IndexedText, sentences: list[str], order: int) -> None:
        asked = ask(text, sentences)
        self.scores: NgramScores = ngram_log_probs(text, asked, order)
        bounds = zip(asked.starts_S, asked.ends_S, strict=True)
        of = {
            sentence: self.scores.log_probs_A[start : end + 1]
            for sentence, (start, end) in zip(asked.sentences, bounds, strict=True)
        }
        self.log_probs = [of[sentence] for sentence in sentences]


def write(path: Path, sentences: list[list[str]]) -> Path:
    path.write_text("\n".join(" ".join(sentence) for sentence in sentences))
    return path


def made_up(seed: int, sentences: int, words: str = "a b c d e f g h") -> list[list[str]]:
    """Sentences in which some words follow others more often than by chance, and a few words are rare."""
    rng, vocabulary = random.Random(seed), words.split()
    found = []
    for _ in range(sentences):
        place, sentence = 0, []
        for _ in range(rng.randint(1, 9)):
            place = (place + rng.choice((1, 1, 1, 2, 2, 3))) % len(vocabulary)
            sentence.append(vocabulary[place] if rng.random() > 0.05 else f"rare{rng.randint(0, 60)}")
        found.append(sentence)
    return found


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_it_is_the_model_of_the_formulas(order: int, tmp_path: Path) -> None:
    training, asked = made_up(1, 300), [*made_up(2, 60), ["never", "seen"], ["a"], ["b", "never", "c", "d"]]
    found = Asked(index_text(write(tmp_path / "text", training)), [" ".join(sentence) for sentence in asked], order)
    expected = Dictionaries(training, order)
    assert found.scores.discounts == tuple(pytest.approx(expected.discounts[n], abs=1e-12) for n in range(1, order + 1))
    # With an estimate from the text, not only with the constants in its place.
    assert len(found.scores.fallback_orders) < order
    for sentence, log_probs in zip(asked, found.log_probs, strict=True):
        assert log_probs == pytest.approx(expected.log_probs(sentence), abs=1e-10), sentence


WORDS = st.sampled_from(["a", "b", "c", "dd", "e'e"])
SENTENCES = st.lists(st.lists(WORDS, min_size=1, max_size=7), min_size=1, max_size=12)


@settings(max_examples=60)
@given(
    training=SENTENCES, asked=SENTENCES, order=st.integers(1, 5), parts=st.integers(1, 4), bits=st.sampled_from([0, 63])
)
def test_any_small_text_in_any_number_of_parts_gives_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    training: list[list[str]],
    asked: list[list[str]],
    order: int,
    parts: int,
    bits: int,
) -> None:
    path = write(tmp_path_factory.mktemp("text") / "text", training)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "_POSITIONS_AT_ONCE", path.stat().st_size // parts + 1)
        patch.setattr(ngrams, "_BITS", bits)
        patch.setattr(ngrams, "_CHARACTERS_AT_ONCE", 1 + path.stat().st_size // parts)
        found = Asked(index_text(path), [" ".join(sentence) for sentence in asked], order)
    expected = Dictionaries(training, order)
    for sentence, log_probs in zip(asked, found.log_probs, strict=True):
        assert log_probs == pytest.approx(expected.log_probs(sentence), abs=1e-10)


def probabilities(text: Path, context: list[str], order: int) -> float:
    """Sum over all words, the border and an unknown word, after a context at the beginning of a sentence."""
    indexed = index_text(text)
    words = [word for word in indexed.vocabulary if word != BORDER] + ["neverseenword"]
    found = Asked(indexed, [*(" ".join([*context, word]) for word in words), " ".join(context)], order)
    return math.fsum(math.exp(log_probs[len(context)]) for log_probs in found.log_probs)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "context",
    [[], ["the"], ["the", "cat"], ["some", "rivers", "sing", "and", "a"], ["neverseenword", "a"], ["cat", ","]],
)
def test_probabilities_of_all_words_sum_to_one(order: int, context: list[str], small_text: Path) -> None:
    assert probabilities(small_text, context, order) == pytest.approx(1, abs=1e-9)


@settings(max_examples=40)
@given(training=SENTENCES, context=st.lists(WORDS, max_size=5), order=st.integers(1, 5))
def test_they_do_so_for_any_text(
    tmp_path_factory: pytest.TempPathFactory, training: list[list[str]], context: list[str], order: int
) -> None:
    path = write(tmp_path_factory.mktemp("text") / "text", training)
    assert probabilities(path, context, order) == pytest.approx(1, abs=1e-9)


def test_words_are_lower_cased_and_marks_are_words_of_their_own() -> None:
    assert split_words("Don’t “go”, Mr. Ünal!", at_sentences=False) == [
        "don't",
        "“",
        "go",
        "”",
        ",",
        "mr",
        ".",
        "ünal",
        "!",
    ]
    assert split_words("'Tis well-known: 3.5%", at_sentences=False) == (
        ["'", "tis", "well", "-", "known", ":", "3", ".", "5", "%"]
    )
    assert split_words("U\u0308nal", at_sentences=False) == ["ünal"]


def test_borders_stand_after_lines_and_sentences() -> None:
    text = 'He left. "Why?" she asked.\nNobody knew'
    assert split_words(text, at_sentences=False).count(BORDER) == 1
    words = split_words(text, at_sentences=True)
    assert " ".join(words).split(f" {BORDER} ") == ["he left .", '" why ? "', "she asked .", "nobody knew"]
    assert sentence_words("\n He left.  \n\n She stayed. ") == ["he", "left", ".", BORDER, "she", "stayed", "."]
    assert sentence_words(" \n ") == []


def test_a_text_is_the_same_however_it_is_cut_into_pieces(small_text: Path, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text(
        "\n\n" + small_text.read_text()[:1500] + "\n \n«Ça va?» \u3000 e\u0301t\u0301e. \n", encoding="utf-8"
    )
    whole = split_words(path.read_text(encoding="utf-8"), at_sentences=True)
    expected = index_text(path)
    assert expected.words == sum(word != BORDER for word in whole)
    for size in (1, 7, 64, 997):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ngrams, "_CHARACTERS_AT_ONCE", size)
            pieces = [word for piece in stream_words(path, at_sentences=True) for word in piece]
            found = index_text(path)
        assert pieces == whole
        assert np.array_equal(found.words_T, expected.words_T)
    words_T = expected.words_T
    assert words_T[0] == words_T[-1] == 0
    assert not np.any((words_T[1:] == 0) & (words_T[:-1] == 0))


def test_words_and_sentences_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("A cat. A dog!\n\nBirds")
    text = index_text(path)
    assert (text.words, text.sentences) == (7, 3)
    assert set(text.vocabulary) == {BORDER, "a", "cat", ".", "dog", "!", "birds"}


def test_an_empty_sentence_and_repeated_ones_are_answered(small_text: Path) -> None:
    text = index_text(small_text)
    empty, first, second = Asked(text, ["", "The cat sings.", "The cat sings."], 5).log_probs
    assert len(empty) == 1
    assert np.isfinite(empty).all()
    assert len(first) == 5
    assert np.array_equal(first, second)
    # Capitals and curly apostrophes do not matter.
    assert np.array_equal(first, Asked(text, ["the  CAT sings ."], 5).log_probs[0])


def test_what_the_text_has_is_likelier_than_what_it_has_not(small_text: Path) -> None:
    text = index_text(small_text)
    sentences = ["The cat sings near the river.", "The cat sing near the river.", "Near cat river the the sings."]
    sums = [log_probs.sum() for log_probs in Asked(text, sentences, 5).log_probs]
    assert sums[0] > sums[1] > sums[2]


def test_a_text_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    for name, data, message in (
        ("none", None, "no such"),
        ("empty", b"\n \n", "no words"),
        ("latin", b"\xe9", "UTF-8"),
    ):
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(FirstwordsError, match=message) as caught:
            index_text(path)
        assert caught.value.where == str(path)
