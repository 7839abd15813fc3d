"""Minimal pairs and scores to accuracies with intervals: paradigm, phenomenon, field, overall."""

from __future__ import annotations

import csv
import io
import platform
import string
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from firstwords.evaluation.pairs import MinimalPair, Suite
from firstwords.evaluation.preflight import Preflight, preflight
from firstwords.evaluation.protocols import Protocol, check_protocol, find_protocol
from firstwords.evaluation.reader import Line, Reader
from firstwords.evaluation.statistics import Interval, clustered_bootstrap, combined, wilson
from firstwords.evaluation.subject import Progress, Subject, check_line_lengths, line_log_probs
from firstwords.run_folder import atomic_write_json, atomic_write_text

FLOORS = {"random": 0.5}
"""Accuracies that take no knowledge of grammar."""

INTERVALS = {
    "paradigms": "each paradigm: Wilson's 95% interval (Wilson 1927), as were other pairs drawn",
    "phenomena, fields": "the mean over their paradigms: Wilson's intervals of the paradigms combined (Zou & Donner "
    "2008), as were other pairs of the same paradigms drawn; they do not speak of other paradigms",
    "mean_of_paradigms, mean_of_phenomena": "studentized bootstrap over the paradigms (phenomena), the clusters in "
    "which judgements hang together, as were other paradigms (phenomena) drawn",
    "pooled": "Wilson's 95% interval of all pairs, as if each were independent of the others",
}
"""What the intervals of a result say, by its keys; `overall` is mean_of_paradigms or pooled, as the protocol says."""


_AROUND = 16
"""Tokens that a tokenizer puts around a sentence, and then some."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Share of pairs judged right, 0 to 1, with its 95% interval (INTERVALS), the number of pairs and of ties in it."""

    accuracy: float
    low: float
    high: float
    pairs: int
    ties: int


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """One pair with the scores of its sentences: log-probabilities in nats, larger is likelier."""

    pair: MinimalPair
    good_score: float
    bad_score: float

    @property
    def choice(self) -> str:
        """Which sentence the model prefers: good, bad, or tie."""
        if self.good_score == self.bad_score:
            return "tie"
        return "good" if self.good_score > self.bad_score else "bad"


@dataclass(frozen=True, slots=True)
class Counts:
    """What a reader must know of the pairs.

    identical_pairs: good and bad are the same text. identical_tokens: they are for the tokenizer, these included.
    """

    pairs: int
    ties: int
    identical_pairs: int
    identical_tokens: int
    cut_sentences: int


@dataclass(frozen=True, slots=True)
class Accuracies:
    """All accuracies of one model on one suite; names in the order in which the suite has them."""

    overall: Accuracy
    mean_of_paradigms: Accuracy
    mean_of_phenomena: Accuracy
    pooled: Accuracy
    fields: dict[str, Accuracy]
    phenomena: dict[str, Accuracy]
    paradigms: dict[str, Accuracy]
    groups: dict[str, dict[str, Accuracy]]
    """By grouping column and value: all pairs that have it, pooled."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One model on one suite under one protocol."""

    suite: Suite
    protocol: Protocol
    accuracies: Accuracies
    counts: Counts
    judged: tuple[JudgedPair, ...]
    model: Mapping[str, object]
    tokenizer: Preflight
    dtype: str
    device: str
    seconds: float
    notes: tuple[str, ...]

    @property
    def overall(self) -> Accuracy:
        """The protocol's one number."""
        return self.accuracies.overall

    def to_json(self) -> dict[str, Any]:
        """All but the pairs, as it is written."""
        suite, protocol = self.suite, self.protocol
        return {
            "suite": suite.name,
            "protocol": protocol.name,
            "statement": protocol.statement,
            "floors": FLOORS,
            "counts": asdict(self.counts),
            **asdict(self.accuracies),
            "grouping": {pair.uid: {"phenomenon": pair.phenomenon, "field": pair.field} for pair in self.suite.pairs},
            "intervals": INTERVALS,
            "notes": list(self.notes),
            "data": {"origin": suite.origin, "sha256": suite.sha256, "license": suite.license},
            "settings": asdict(protocol),
            "model": dict(self.model),
            "tokenizer": asdict(self.tokenizer),
            "dtype": self.dtype,
            "device": self.device,
            "seconds": round(self.seconds, 3),
            "versions": versions(),
        }


def versions() -> dict[str, str]:
    """Of everything that a score may depend on."""
    packages = ("firstwords", "torch", "tokenizers", "transformers")
    return {name: version(name) for name in packages} | {"python": platform.python_version()}


def evaluate_suite(
    subject: Subject,
    suite: Suite,
    protocols: Sequence[Protocol | str] = ("firstwords",),
    *,
    progress: Progress | None = None,
) -> list[Evaluation]:
    """Score both sentences of every pair, where the model's weights are, and judge: one evaluation a protocol.

    All protocols share one pass: a sentence that two of them read alike is scored once.
    progress: told how many different sentences are scored, and of how many.
    Raises FirstwordsError for a sentence without a token to score or longer than the model's positions, and with exit
    code 3 for a score that is not finite.
    """
    chosen = [find_protocol(protocol) if isinstance(protocol, str) else protocol for protocol in protocols]
    for protocol in chosen:
        check_protocol(protocol, masked=subject.masked)
    started = time.monotonic()
    sentences = _Sentences(suite)
    texts = subject.reader.tokenize(sentences.texts)
    found = preflight(subject.reader, texts)
    read = [protocol.lines(subject.reader, texts, sentences.given) for protocol in chosen]
    scored = _score(subject, chosen, [lines for lines, _ in read], sentences.describe, progress)
    seconds = time.monotonic() - started
    return [
        _evaluation(subject, suite, protocol, sentences, lines, cut, scores, found, seconds)
        for protocol, (lines, cut), scores in zip(chosen, read, scored, strict=True)
    ]


class _Sentences:
    """Every sentence of a suite once, with how much of it is only read, and how messages name one."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite
        self._first: dict[tuple[str, int], MinimalPair] = {}
        for pair in suite.pairs:
            for key in self.keys(pair):
                self._first.setdefault(key, pair)
        self.texts = [text for text, _ in self._first]
        self.given = [given for _, given in self._first]
        self.places = {key: place for place, key in enumerate(self._first)}

    @staticmethod
    def keys(pair: MinimalPair) -> tuple[tuple[str, int], tuple[str, int]]:
        """What tells the good and the bad sentence apart from all others."""
        return (pair.good, pair.good_given), (pair.bad, pair.bad_given)

    def describe(self, number: int) -> str:
        """A sentence and its pair, by its place in `texts`."""
        pair = list(self._first.values())[number]
        return f"{self.texts[number][:200]!r} ({self._suite.name}: {pair.uid}, pair {pair.pair_id})"


def _score(
    subject: Subject,
    protocols: Sequence[Protocol],
    lines: Sequence[Sequence[Line]],
    describe: Callable[[int], str],
    progress: Progress | None,
) -> list[np.ndarray]:
    """The scores of all sentences under each protocol: one pass for all that ask the model the same question."""
    scores: list[np.ndarray] = [np.empty(0)] * len(protocols)
    count = len(lines[0])
    for within_word in {protocol.within_word for protocol in protocols}:
        alike = [place for place, protocol in enumerate(protocols) if protocol.within_word == within_word]
        asked = [line for place in alike for line in lines[place]]
        found = line_log_probs(
            subject,
            asked,
            within_word=within_word,
            describe=lambda number: describe(number % count),
            progress=progress,
        )
        for turn, place in enumerate(alike):
            own = found[turn * count : (turn + 1) * count]
            sums = np.array([log_probs.sum(dtype=np.float64) for log_probs in own])
            mean = protocols[place].score == "mean"
            scores[place] = sums / [len(log_probs) for log_probs in own] if mean else sums
    return scores


def _evaluation(
    subject: Subject,
    suite: Suite,
    protocol: Protocol,
    sentences: _Sentences,
    lines: Sequence[Line],
    cut: int,
    scores: np.ndarray,
    found: Preflight,
    seconds: float,
) -> Evaluation:
    places = [[sentences.places[key] for key in sentences.keys(pair)] for pair in suite.pairs]
    judged = tuple(
        JudgedPair(pair, float(scores[good]), float(scores[bad]))
        for pair, (good, bad) in zip(suite.pairs, places, strict=True)
    )
    return Evaluation(
        suite=suite,
        protocol=protocol,
        accuracies=judge(judged, protocol),
        counts=Counts(
            pairs=len(judged),
            ties=sum(one.choice == "tie" for one in judged),
            identical_pairs=sum(pair.good == pair.bad for pair in suite.pairs),
            identical_tokens=sum(lines[good] == lines[bad] for good, bad in places),
            cut_sentences=cut,
        ),
        judged=judged,
        model=subject.facts,
        tokenizer=found,
        dtype=subject.dtype,
        device=subject.device,
        seconds=seconds,
        notes=(*suite.notes, *found.notes(protocol.context)),
    )


def check_lengths(suite: Suite, protocol: Protocol, reader: Reader, positions: int) -> None:
    """Refuse sentences that a causal model of so many positions cannot take, before it is trained and scored.

    reader: of a run's tokenizer, a byte-level one. What fits as it is written, a token a letter, is not even tokenized.
    """
    sentences = _Sentences(suite)
    room = positions - _AROUND - len(protocol.leading)
    letters = {letter for letter in string.ascii_lowercase if reader.tokenizer.token_to_id(letter) is not None}
    doubtful = [
        place
        for place, (text, given) in enumerate(zip(sentences.texts, sentences.given, strict=True))
        if len(text) > room or not text.isascii() or letters.isdisjoint(text[given:])
    ]
    texts, given_of = [sentences.texts[place] for place in doubtful], [sentences.given[place] for place in doubtful]
    lines, _cut = protocol.lines(reader, texts, given_of)
    check_line_lengths(
        lines, positions, masked=protocol.masked, describe=lambda number: sentences.describe(doubtful[number])
    )


def judge(judged: Sequence[JudgedPair], protocol: Protocol) -> Accuracies:
    """Accuracies of scored pairs. An unequal number of pairs in paradigms does not weigh; in `pooled` it does."""
    counts = {"good": 1.0, "bad": 0.0, "tie": protocol.tie}

    def pooled(pairs: Sequence[JudgedPair]) -> Accuracy:
        right = sum(counts[one.choice] for one in pairs)
        low, high = wilson(right, len(pairs))
        return Accuracy(right / len(pairs), low, high, len(pairs), sum(one.choice == "tie" for one in pairs))

    def means(key: Callable[[MinimalPair], str]) -> dict[str, Accuracy]:
        groups: dict[str, dict[str, Accuracy]] = {}
        for uid, pairs in by_paradigm.items():
            groups.setdefault(key(pairs[0].pair), {})[uid] = paradigms[uid]
        return {name: _mean(list(group.values())) for name, group in groups.items()}

    by_paradigm: dict[str, list[JudgedPair]] = {}
    for one in judged:
        by_paradigm.setdefault(one.pair.uid, []).append(one)
    paradigms = {uid: pooled(pairs) for uid, pairs in by_paradigm.items()}
    phenomena = means(lambda pair: pair.phenomenon)
    outcomes = [np.array([counts[one.choice] for one in pairs]) for pairs in by_paradigm.values()]
    mean_of_paradigms, all_pairs = _clustered(outcomes, list(paradigms.values())), pooled(judged)
    of_phenomena: dict[str, list[float]] = {}
    for uid, pairs in by_paradigm.items():
        of_phenomena.setdefault(pairs[0].pair.phenomenon, []).append(paradigms[uid].accuracy)
    return Accuracies(
        overall=mean_of_paradigms if protocol.overall == "paradigms" else all_pairs,
        mean_of_paradigms=mean_of_paradigms,
        mean_of_phenomena=_clustered([np.array(shares) for shares in of_phenomena.values()], list(phenomena.values())),
        pooled=all_pairs,
        fields=means(lambda pair: pair.field),
        phenomena=phenomena,
        paradigms=paradigms,
        groups={
            column: {value: pooled(pairs) for value, pairs in values.items()}
            for column, values in _groups(judged).items()
        },
    )


def _groups(judged: Sequence[JudgedPair]) -> dict[str, dict[str, list[JudgedPair]]]:
    found: dict[str, dict[str, list[JudgedPair]]] = {}
    for one in judged:
        for column, value in one.pair.groups:
            found.setdefault(column, {}).setdefault(value, []).append(one)
    return found


def _mean(parts: Sequence[Accuracy]) -> Accuracy:
    """Mean of paradigms' accuracies, as were other pairs of the same paradigms drawn."""
    found = combined([Interval(part.accuracy, part.low, part.high) for part in parts])
    return _accuracy(found, parts)


def _clustered(outcomes: Sequence[np.ndarray], parts: Sequence[Accuracy]) -> Accuracy:
    """Mean of clusters' accuracies, as were other clusters drawn; of one cluster there is nothing to draw from."""
    return _mean(parts) if len(parts) < 2 else _accuracy(clustered_bootstrap(outcomes), parts)


def _accuracy(found: Interval, parts: Sequence[Accuracy]) -> Accuracy:
    pairs, ties = sum(part.pairs for part in parts), sum(part.ties for part in parts)
    return Accuracy(found.estimate, max(0.0, found.low), min(1.0, found.high), pairs, ties)


def write_evaluation(evaluation: Evaluation, folder: Path, name: str | None = None) -> Path:
    """Write `<name>.pairs.csv` (the scores of every pair), then `<name>.json`, whose path is returned.

    name: `<suite>.<protocol>` where not given.
    """
    name = name or f"{evaluation.suite.name}.{evaluation.protocol.name}"
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(("uid", "pair_id", "good_score", "bad_score", "choice", "good", "bad"))
    for one in evaluation.judged:
        pair = one.pair
        writer.writerow((pair.uid, pair.pair_id, one.good_score, one.bad_score, one.choice, pair.good, pair.bad))
    atomic_write_text(folder / f"{name}.pairs.csv", rows.getvalue())
    atomic_write_json(folder / f"{name}.json", evaluation.to_json())
    return folder / f"{name}.json"
