"""Accuracies that take no grammar: a guess, the frequency of words, and short sequences of words of the training text.

Each is a scorer of sentences like any other, and judged like one: per paradigm, per phenomenon, overall.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from firstwords.evaluation.judging import Accuracies, Accuracy, JudgedPair, judge
from firstwords.evaluation.ngrams import (
    AskedSentences,
    IndexedText,
    NgramScores,
    ask,
    index_text,
    ngram_log_probs,
    sentence_words,
)
from firstwords.evaluation.pairs import MinimalPair, Suite
from firstwords.evaluation.protocols import Protocol
from firstwords.run_folder import sha256_of

RANDOM, UNIGRAM, NGRAM = "random", "unigram frequency", "5-gram"
_ORDERS = {UNIGRAM: 1, NGRAM: 5}
_RANDOM_STATEMENT = (
    "A coin is tossed for each pair. The accuracy is what is to be expected of it; the interval, where a coin's "
    "accuracy falls on so many pairs."
)
_WORDS = (
    "Lower-cased words and marks of the training text are counted; words that it has not count as one unknown word. "
    "A sentence is scored by the sum of their log-probabilities"
)
_STATEMENTS = {
    UNIGRAM: f"{_WORDS}, each by its own frequency, smoothed by modified Kneser-Ney discounts (Chen & Goodman 1999).",
    NGRAM: f"{_WORDS}, each given up to four words before it in its sentence, and of the sentence's end: interpolated "
    "modified Kneser-Ney (Chen & Goodman 1999).",
}


@dataclass(frozen=True, slots=True)
class Floors:
    """The floors of one suite under one protocol.

    accuracies, statements: by the floor's name (RANDOM, UNIGRAM, NGRAM); a statement says how it was made.
    """

    suite: str
    suite_sha256: str
    protocol: str
    training_text: Mapping[str, object]
    accuracies: Mapping[str, Accuracies]
    statements: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """As it is written: each floor's statement and accuracies side by side."""
        return {
            "suite": self.suite,
            "suite_sha256": self.suite_sha256,
            "protocol": self.protocol,
            "training_text": dict(self.training_text),
            "floors": {
                name: {"statement": self.statements[name], **asdict(accuracies)}
                for name, accuracies in self.accuracies.items()
            },
        }


@dataclass(frozen=True, slots=True)
class FloorScores:
    """Every pair of a suite, scored by each floor: all that needs the training text. `under` is quick, then.

    judged: by the floor's name, in the order of the suite's pairs; without RANDOM, which has no scores.
    """

    suite: Suite
    training_text: Mapping[str, object]
    """Of the text: sha256, bytes, words (marks included), vocabulary."""
    judged: Mapping[str, tuple[JudgedPair, ...]]
    statements: Mapping[str, str]

    def under(self, protocol: Protocol) -> Floors:
        """The floors' accuracies with that protocol's ties and its overall; its scoring is for models only."""
        accuracies = {RANDOM: _random(self.suite.pairs, protocol)}
        accuracies |= {name: judge(judged, protocol) for name, judged in self.judged.items()}
        statements = {RANDOM: _RANDOM_STATEMENT, **self.statements}
        return Floors(self.suite.name, self.suite.identity, protocol.name, self.training_text, accuracies, statements)


def floors(suite: Suite, training_text: Path, protocol: Protocol) -> Floors:
    """The floors of a suite, as a text file was trained on. For several protocols take `floor_scores` once.

    Raises FirstwordsError for a text that is missing, not UTF-8 or without words.
    """
    text = index_text(training_text)
    return floor_scores(suite, training_text, text, ask(text, suite.sentences())).under(protocol)


def floor_scores(suite: Suite, training_text: Path, text: IndexedText, asked: AskedSentences) -> FloorScores:
    """Score every pair by word frequency and by a 5-gram model of the text (UTF-8).

    text, asked: its index, and the suite's sentences in its words. A text of 10 MB takes seconds, one of 100 MB about a
    minute on one core, in less than 1 GB.
    """
    judged, statements = {}, {}
    for name, order in _ORDERS.items():
        scores = ngram_log_probs(text, asked, order)
        judged[name] = _judged(suite.pairs, asked, scores.log_probs_A)
        statements[name] = _STATEMENTS[name] + _fallback_note(scores)
    return FloorScores(suite, _text_facts(training_text, text), judged, statements)


def _judged(pairs: Sequence[MinimalPair], asked: AskedSentences, log_probs_A: np.ndarray) -> tuple[JudgedPair, ...]:
    values, starts, ends = log_probs_A.tolist(), asked.starts_S.tolist(), asked.ends_S.tolist()
    number = {sentence: place for place, sentence in enumerate(asked.sentences)}

    def score(sentence: str, given: int) -> float:
        """Rounded once, as fsum does, so that the same words in another order are a tie, and no rounding decides."""
        place = number[sentence]
        return math.fsum(values[starts[place] + _only_read(sentence, given) : ends[place] + 1])

    return tuple(JudgedPair(pair, score(pair.good, pair.good_given), score(pair.bad, pair.bad_given)) for pair in pairs)


def _only_read(sentence: str, given: int) -> int:
    """How many of its words stand in the first `given` characters; one that is cut by their end does not."""
    if not given:
        return 0
    words, prompt = sentence_words(sentence), sentence_words(sentence[:given])
    alike = (one == other for one, other in zip(words, prompt, strict=False))
    return sum(takewhile(bool, alike))


def _random(pairs: Sequence[MinimalPair], protocol: Protocol) -> Accuracies:
    """Exactly one half everywhere: `judge` is given nothing but ties that count one half."""
    by_coin = judge([JudgedPair(pair, 0.0, 0.0) for pair in pairs], replace(protocol, tie=0.5))
    return Accuracies(
        overall=_no_tie(by_coin.overall),
        mean_of_paradigms=_no_tie(by_coin.mean_of_paradigms),
        mean_of_phenomena=_no_tie(by_coin.mean_of_phenomena),
        pooled=_no_tie(by_coin.pooled),
        fields=_no_ties(by_coin.fields),
        phenomena=_no_ties(by_coin.phenomena),
        paradigms=_no_ties(by_coin.paradigms),
        groups={column: _no_ties(values) for column, values in by_coin.groups.items()},
    )


def _no_ties(accuracies: Mapping[str, Accuracy]) -> dict[str, Accuracy]:
    return {name: _no_tie(accuracy) for name, accuracy in accuracies.items()}


def _no_tie(accuracy: Accuracy) -> Accuracy:
    """A coin always chooses."""
    return replace(accuracy, ties=0)


def _fallback_note(scores: NgramScores) -> str:
    if not scores.fallback_orders:
        return ""
    orders = ", ".join(map(str, scores.fallback_orders))
    return f" The text does not give discounts for n-grams of order {orders}: there they are 0.5, 1 and 1.5."


def _text_facts(path: Path, text: IndexedText) -> dict[str, object]:
    return {
        "sha256": sha256_of(path),
        "bytes": path.stat().st_size,
        "words_and_marks": text.words,
        "vocabulary": len(text.vocabulary),
    }
