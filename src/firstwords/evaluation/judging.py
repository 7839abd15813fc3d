"""Minimal pairs and scores to accuracies with intervals: paradigm, phenomenon, field, overall."""

from __future__ import annotations

import csv
import io
import math
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from firstwords.evaluation.pairs import MinimalPair, Suite
from firstwords.evaluation.protocols import Protocol, find_protocol
from firstwords.evaluation.scoring import Progress, check_positions, sentence_log_probs
from firstwords.model.llama import Llama
from firstwords.run_folder import atomic_write_json, atomic_write_text
from firstwords.tokens.tokenizer import Vocabulary

_Z95 = 1.959963984540054
"""97.5% quantile of the normal distribution."""

FLOORS = {"random": 0.5}
"""Accuracies that take no knowledge of grammar."""

INTERVALS = {
    "paradigms": "each paradigm: Wilson's 95% interval (Wilson 1927), as were other pairs drawn",
    "phenomena, fields": "the mean over their paradigms: Wilson's intervals of the paradigms combined (Zou & Donner "
    "2008), as were other pairs of the same paradigms drawn; they do not speak of other paradigms",
    "mean_of_paradigms, mean_of_phenomena": "95% t-interval over the paradigms (phenomena), the clusters in which "
    "judgements hang together, as were other paradigms (phenomena) drawn",
    "pooled": "Wilson's 95% interval of all pairs, as if each were independent of the others",
}
"""What the intervals of a result say, by its keys; `overall` is mean_of_paradigms or pooled, as the protocol says."""


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


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One model on one suite under one protocol."""

    suite: Suite
    protocol: Protocol
    accuracies: Accuracies
    counts: Counts
    judged: tuple[JudgedPair, ...]
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
            "intervals": INTERVALS,
            "notes": list(self.notes),
            "data": {"origin": suite.origin, "sha256": suite.sha256, "license": suite.license},
            "settings": asdict(protocol),
            "dtype": self.dtype,
            "device": self.device,
            "seconds": round(self.seconds, 3),
            "versions": {name: version(name) for name in ("firstwords", "torch", "tokenizers")}
            | {"python": platform.python_version()},
        }


def evaluate_suite(
    model: Llama,
    vocabulary: Vocabulary,
    suite: Suite,
    protocol: Protocol | str = "firstwords",
    *,
    add_bos: bool = True,
    progress: Progress | None = None,
) -> Evaluation:
    """Score both sentences of every pair, where the model's weights are, and judge.

    add_bos: whether texts began with BOS in training; where not and the protocol gives it, the result says so.
    progress: told how many different sentences are scored, and of how many.
    Raises FirstwordsError for a sentence without a token to score or longer than the model's positions, and with exit
    code 3 for a score that is not finite.
    """
    protocol = find_protocol(protocol) if isinstance(protocol, str) else protocol
    started = time.monotonic()
    sentences, describe = _distinct_sentences(suite)
    sequences, cut = protocol.sequences(vocabulary, sentences)
    scores = sentence_log_probs(
        model, sequences, mean=protocol.score == "mean", describe=describe, progress=progress
    ).tolist()
    of_sentence = dict(zip(sentences, zip(sequences, scores, strict=True), strict=True))
    judged = tuple(JudgedPair(pair, of_sentence[pair.good][1], of_sentence[pair.bad][1]) for pair in suite.pairs)
    weight = model.unembedding.weight
    return Evaluation(
        suite=suite,
        protocol=protocol,
        accuracies=judge(judged, protocol),
        counts=Counts(
            pairs=len(judged),
            ties=sum(one.choice == "tie" for one in judged),
            identical_pairs=sum(pair.good == pair.bad for pair in suite.pairs),
            identical_tokens=sum(of_sentence[pair.good][0] == of_sentence[pair.bad][0] for pair in suite.pairs),
            cut_sentences=cut,
        ),
        judged=judged,
        dtype=str(weight.dtype).removeprefix("torch."),
        device=weight.device.type,
        seconds=time.monotonic() - started,
        notes=(*suite.notes, *_notes(protocol, add_bos)),
    )


def check_lengths(suite: Suite, protocol: Protocol, vocabulary: Vocabulary, positions: int) -> None:
    """Refuse sentences that a model of so many positions cannot take, before it is trained and scored."""
    sentences, describe = _distinct_sentences(suite)
    sequences, _cut = protocol.sequences(vocabulary, sentences)
    check_positions(sequences, positions, describe)


def _distinct_sentences(suite: Suite) -> tuple[list[str], Callable[[int], str]]:
    """Every sentence of a suite once, and how messages name one by its place in that list."""
    first_pair: dict[str, MinimalPair] = {}
    for pair in suite.pairs:
        first_pair.setdefault(pair.good, pair)
        first_pair.setdefault(pair.bad, pair)
    sentences = list(first_pair)

    def describe(number: int) -> str:
        pair = first_pair[sentences[number]]
        return f"{sentences[number]!r} ({suite.name}: {pair.uid}, pair {pair.pair_id})"

    return sentences, describe


def _notes(protocol: Protocol, add_bos: bool) -> Iterable[str]:
    if protocol.context == "bos" and not add_bos:
        # One name, one formula: leaving BOS out for some models would make their numbers another protocol's.
        yield (
            "No text began with the beginning-of-sequence token in this model's training, so it has not learnt what "
            "follows it: all scores are told in a context that the model never saw. A protocol without it (card) fits "
            "this model better."
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
    mean_of_paradigms, all_pairs = _clustered(list(paradigms.values())), pooled(judged)
    return Accuracies(
        overall=mean_of_paradigms if protocol.overall == "paradigms" else all_pairs,
        mean_of_paradigms=mean_of_paradigms,
        mean_of_phenomena=_clustered(list(phenomena.values())),
        pooled=all_pairs,
        fields=means(lambda pair: pair.field),
        phenomena=phenomena,
        paradigms=paradigms,
    )


def wilson(right: float, pairs: int) -> tuple[float, float]:
    """95% interval of a share. Source: Wilson 1927; `right` may have halves (ties)."""
    share, square = right / pairs, _Z95**2
    centre = (share + square / (2 * pairs)) / (1 + square / pairs)
    half = _Z95 * math.sqrt(share * (1 - share) / pairs + square / (4 * pairs**2)) / (1 + square / pairs)
    # At the ends the formula's own limits are 0 and 1, but for rounding.
    return (0.0 if right == 0 else centre - half), (1.0 if right == pairs else centre + half)


def _mean(parts: Sequence[Accuracy]) -> Accuracy:
    """Mean of independent accuracies, their intervals combined.

    Source: Zou & Donner 2008, Construction of confidence limits about effect measures: a general approach.
    """
    mean = math.fsum(part.accuracy for part in parts) / len(parts)
    below = math.sqrt(math.fsum((part.accuracy - part.low) ** 2 for part in parts)) / len(parts)
    above = math.sqrt(math.fsum((part.high - part.accuracy) ** 2 for part in parts)) / len(parts)
    pairs, ties = sum(part.pairs for part in parts), sum(part.ties for part in parts)
    return Accuracy(mean, max(0.0, mean - below), min(1.0, mean + above), pairs, ties)


def _clustered(parts: Sequence[Accuracy]) -> Accuracy:
    """Mean of clusters' accuracies with Student's interval over the clusters, at least as wide as that of `_mean`.

    That floor matters where all clusters happen to agree, as at 100%.
    """
    mean = _mean(parts)
    if len(parts) < 2:
        return mean
    from scipy.stats import t

    spread = float(np.std([part.accuracy for part in parts], ddof=1)) / math.sqrt(len(parts))
    half = float(t.ppf(0.975, len(parts) - 1)) * spread
    low, high = max(0.0, mean.accuracy - half), min(1.0, mean.accuracy + half)
    return Accuracy(mean.accuracy, min(low, mean.low), max(high, mean.high), mean.pairs, mean.ties)


def write_evaluation(evaluation: Evaluation, folder: Path, name: str | None = None) -> Path:
    """Write `<name>.pairs.csv` (the scores of every pair), then `<name>.json`, whose path is returned.

    name: `<suite>.<protocol>` where not given.
    """
    name = name or f"{evaluation.suite.name}.{evaluation.protocol.name}"
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(("uid", "pair_id", "good_score", "bad_score", "choice"))
    for one in evaluation.judged:
        writer.writerow((one.pair.uid, one.pair.pair_id, one.good_score, one.bad_score, one.choice))
    atomic_write_text(folder / f"{name}.pairs.csv", rows.getvalue())
    atomic_write_json(folder / f"{name}.json", evaluation.to_json())
    return folder / f"{name}.json"
