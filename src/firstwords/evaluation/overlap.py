"""Which test sentences stand in the training text, whole or in runs of eight words, and what that does to an accuracy.

Words and marks are those of `ngrams`: lower-cased, cut alike in the text and in the test. So a sentence is found with
other capitals or spaces too.

Shapes: T positions of the training text, A those of all asked sequences, R sequences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firstwords.evaluation.ngrams import BORDER_ID, AskedSentences, IndexedText, WordTree, sentence_words
from firstwords.evaluation.pairs import Suite
from firstwords.evaluation.statistics import Interval, clustered_bootstrap, wilson
from firstwords.run_folder import sha256_of

NGRAM = 8
"""Words and marks of a run that counts as overlap; as many as GPT-3's authors took at the least (Brown et al. 2020,
appendix C)."""

STATEMENT = (
    "A sentence is found where its lower-cased words and marks stand in the training text one after the other, and an "
    f"8-gram where {NGRAM} neighbouring ones of them do. A pair is touched if one of its sentences is found, or an "
    "8-gram of one. `without` is the protocol's overall of the pairs that are not touched; `touched` is the share of "
    "the touched pairs that are right, with Wilson's interval."
)

_POSITIONS_AT_ONCE = 1 << 21


@dataclass(frozen=True, slots=True)
class Overlap:
    """What of a suite stands in a training text.

    sentences: how many different ones there are. ngrams: how many different 8-grams they have. whole: the sentences
    that are found. found_ngrams: for each sentence with an 8-gram that is found, those 8-grams. touched: the pairs, by
    paradigm and pair id.
    """

    suite: Suite
    training_text: Mapping[str, object]
    sentences: int
    ngrams: int
    whole: tuple[str, ...]
    found_ngrams: Mapping[str, tuple[str, ...]]
    touched: frozenset[tuple[str, str]]

    def to_json(self) -> dict[str, Any]:
        """As it is written, with every sentence that was found."""
        return {
            "suite": self.suite.name,
            "suite_sha256": self.suite.identity,
            "statement": STATEMENT,
            "training_text": dict(self.training_text),
            "counts": {
                "sentences": self.sentences,
                "sentences_found": len(self.whole),
                "sentences_with_ngrams_found": len(self.found_ngrams),
                "ngrams": self.ngrams,
                "ngrams_found": len({ngram for found in self.found_ngrams.values() for ngram in found}),
                "pairs": len(self.suite.pairs),
                "pairs_touched": len(self.touched),
            },
            "sentences": list(self.whole),
            "ngrams": {sentence: list(ngrams) for sentence, ngrams in self.found_ngrams.items()},
        }


@dataclass(frozen=True, slots=True)
class Share:
    """Share of pairs judged right, 0 to 1, with its 95% interval and how many they are."""

    accuracy: float
    low: float
    high: float
    pairs: int


def find_overlap(suite: Suite, training_text: Path, text: IndexedText, asked: AskedSentences) -> Overlap:
    """Look for every sentence of a suite, and every 8-gram of one, in a text.

    text: its index. asked: the suite's sentences in its words.
    """
    starts_S = asked.starts_S
    lengths_S = asked.ends_S - starts_S
    whole_S = _stand_in(text, WordTree(asked.words_A, starts_S, lengths_S), lengths_S)
    # Runs of words and marks that reach over no border.
    starts_R = np.flatnonzero((asked.words_A != BORDER_ID) & (asked.before_border() >= NGRAM))
    lengths_R = np.full(len(starts_R), NGRAM)
    ngrams = WordTree(asked.words_A, starts_R, lengths_R)
    found_R = starts_R[_stand_in(text, ngrams, lengths_R)]
    found_ngrams: dict[str, list[str]] = {}
    for start, number in zip(found_R, np.searchsorted(asked.ends_S, found_R), strict=True):
        sentence, within = asked.sentences[number], start - starts_S[number]
        ngram = " ".join(sentence_words(sentence)[within : within + NGRAM])
        found_ngrams.setdefault(sentence, []).append(ngram)
    whole = tuple(asked.sentences[number] for number in np.flatnonzero(whole_S))
    found = {*whole, *found_ngrams}
    return Overlap(
        suite=suite,
        training_text={"sha256": sha256_of(training_text), "bytes": training_text.stat().st_size},
        sentences=len(asked.sentences),
        ngrams=len(ngrams.keys[-1]) if ngrams.depth else 0,
        whole=whole,
        found_ngrams={sentence: tuple(dict.fromkeys(of_it)) for sentence, of_it in found_ngrams.items()},
        touched=frozenset((pair.uid, pair.pair_id) for pair in suite.pairs if {pair.good, pair.bad} & found),
    )


def _stand_in(text: IndexedText, tree: WordTree, lengths: np.ndarray) -> np.ndarray:
    """Whether each sequence of a tree, so many words long, stands in the text, (R,); one without words does not."""
    found = np.zeros(len(lengths), bool)
    reached = [np.zeros(len(keys), bool) for keys in tree.keys]
    for first in range(0, len(text.words_T), _POSITIONS_AT_ONCE):
        _walk(text.words_T, np.arange(first, min(first + _POSITIONS_AT_ONCE, len(text.words_T))), tree, reached)
    for level, (rows, nodes) in enumerate(zip(tree.rows, tree.nodes, strict=True), start=1):
        ends = lengths[rows] == level
        found[rows[ends]] = reached[level - 1][nodes[ends]]
    return found


def _walk(text_T: np.ndarray, positions: np.ndarray, tree: WordTree, reached: list[np.ndarray]) -> None:
    """Go down the tree with the words from each position on; `reached` is set for every node that is met."""
    nodes = np.zeros(len(positions), np.int64)
    for level in range(1, tree.depth + 1):
        inside = positions < len(text_T)
        positions, nodes = positions[inside], nodes[inside]
        nodes = tree.child(level, nodes, text_T[positions])
        met = nodes >= 0
        positions, nodes = positions[met] + 1, nodes[met]
        reached[level - 1][nodes] = True


def with_and_without(
    outcomes: Mapping[str, Mapping[str, float]], touched: frozenset[tuple[str, str]], overall: str
) -> dict[str, Share | None]:
    """Accuracies of all pairs (`all`), of those that the text does not touch (`without`), and of the `touched` ones.

    outcomes: by paradigm and pair id what a pair counts, 0 to 1. overall: `paradigms` or `pairs`, the protocol's.
    None where there are no such pairs.
    """
    untouched = {
        uid: {pair_id: value for pair_id, value in of_uid.items() if (uid, pair_id) not in touched}
        for uid, of_uid in outcomes.items()
    }
    inside = {
        uid: {pair_id: value for pair_id, value in of_uid.items() if (uid, pair_id) in touched}
        for uid, of_uid in outcomes.items()
    }
    return {
        "all": _overall(outcomes, overall),
        "without": _overall(untouched, overall),
        "touched": _overall(inside, "pairs"),
    }


def _overall(outcomes: Mapping[str, Mapping[str, float]], overall: str) -> Share | None:
    clusters = [np.array(list(of_uid.values())) for of_uid in outcomes.values() if of_uid]
    pairs = sum(map(len, clusters))
    if not pairs:
        return None
    if overall == "paradigms" and len(clusters) > 1:
        return _share(clustered_bootstrap(clusters), pairs)
    right = float(sum(cluster.sum() for cluster in clusters))
    return _share(Interval(right / pairs, *wilson(right, pairs)), pairs)


def _share(found: Interval, pairs: int) -> Share:
    return Share(found.estimate, max(0.0, found.low), min(1.0, found.high), pairs)


def shares_to_json(shares: Mapping[str, Share | None]) -> dict[str, Any]:
    """As they are written."""
    return {name: asdict(share) if share else None for name, share in shares.items()}
