"""A word n-gram model of a training text, asked for the sentences of a test set: interpolated modified Kneser-Ney.

Words: a text is lower-cased, and cut into words (letters, digits and what joins them: `don't` is one) and single marks.
Between lines, and within lines after `.`, `?` or `!`, stands a border. It is predicted like a word, as the end of a
sentence, and n-grams begin at it but never reach over it. Text and test sentences are read alike.

Shapes: T positions of the training text, M of a part of it, A of the asked sentences, G n-grams, H contexts.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from firstwords.errors import FirstwordsError

BORDER = "\n"
"""The mark at the border of two sentences or lines, as a token."""

_TOKEN = re.compile(r"\w+(?:'\w+)*|[^\w\s]|\n")
_SENTENCE_END = re.compile(r"([.?!][\"'”’)\]]*)[^\S\n]")
BORDER_ID = 0
"""Its number in every text."""
_CHARACTERS_AT_ONCE = 1 << 20
_POSITIONS_AT_ONCE = 1 << 21
_BITS = 63
"""Of a number that is sorted."""
_FALLBACK = (0.5, 1.0, 1.5)


def split_words(text: str, *, at_sentences: bool) -> list[str]:
    """Words and marks of a text, lower-cased, with BORDER for every line break.

    at_sentences: whether there is a BORDER, too, after each `.`, `?` or `!` (and quotes or brackets) before a space.
    """
    # Most sentences of a test have one such mark, at their end.
    if at_sentences and ("." in text[:-1] or "?" in text[:-1] or "!" in text[:-1]):
        text = _SENTENCE_END.sub(r"\1\n", text)
    return _TOKEN.findall(unicodedata.normalize("NFC", text).lower().replace("’", "'"))


def stream_words(path: Path, *, at_sentences: bool) -> Iterator[list[str]]:
    """`split_words` of a text file, piece by piece: together they are those of the whole text.

    Raises FirstwordsError for a file that is missing or not UTF-8.
    """
    try:
        with path.open(encoding="utf-8") as file:
            rest = ""
            while piece := file.read(_CHARACTERS_AT_ONCE):
                # Words, sentence ends and composed letters never reach over white space.
                end = max(piece.rfind("\n"), piece.rfind(" ")) + 1
                if end:
                    yield split_words(rest + piece[:end], at_sentences=at_sentences)
                    rest = piece[end:]
                else:
                    rest += piece
            yield split_words(rest, at_sentences=at_sentences)
    except FileNotFoundError as error:
        raise FirstwordsError("there is no such training text", where=str(path), do="name the text of a run") from error
    except UnicodeDecodeError as error:
        raise FirstwordsError("the training text is not UTF-8", where=str(path), do="convert it to UTF-8") from error


@dataclass(frozen=True, slots=True)
class IndexedText:
    """A training text as numbers.

    words_T: the word at each position; the first and the last are borders (0), and no two borders stand side by side.
    """

    words_T: np.ndarray
    vocabulary: dict[str, int]
    """Number of each word, BORDER among them."""

    @property
    def words(self) -> int:
        """How many words and marks the text has, without borders."""
        return len(self.words_T) - self.sentences - 1

    @property
    def sentences(self) -> int:
        """How many pieces stand between borders."""
        return int(np.count_nonzero(self.words_T == BORDER_ID)) - 1


def index_text(path: Path) -> IndexedText:
    """Read a training text. Raises FirstwordsError for one that is missing, not UTF-8, or without a word."""
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    pieces = [np.full(1, numbers[BORDER], np.int32)]
    for words in stream_words(path, at_sentences=True):
        piece = np.fromiter(map(numbers.__getitem__, words), np.int32, len(words))
        follows_border = np.concatenate((pieces[-1][-1:], piece[:-1])) == BORDER_ID
        piece = piece[~(follows_border & (piece == BORDER_ID))] if len(piece) else piece
        if len(piece):
            pieces.append(piece)
    if len(pieces) == 1:
        raise FirstwordsError("the training text has no words", where=str(path), do="name the text of a run")
    if pieces[-1][-1] != BORDER_ID:
        pieces.append(np.full(1, BORDER_ID, np.int32))
    numbers.default_factory = None
    return IndexedText(np.concatenate(pieces), numbers)


@dataclass(frozen=True, slots=True)
class AskedSentences:
    """Different sentences as numbers of a text's words: cut once for all that is asked of them.

    words_A: a border (0), then of each sentence its words, marks and inner borders, and a border at its end. What the
    text does not have is numbered from the size of its vocabulary on. ends_S: the position of the border at the end of
    each.
    """

    sentences: tuple[str, ...]
    words_A: np.ndarray
    ends_S: np.ndarray

    @property
    def starts_S(self) -> np.ndarray:
        """The position of the first word of each sentence, behind the border before it."""
        return np.concatenate(([0], self.ends_S))[:-1] + 1

    def before_border(self) -> np.ndarray:
        """How far the next border behind each position is, (A,); 0 at the last."""
        borders, positions_A = np.flatnonzero(self.words_A == BORDER_ID), np.arange(len(self.words_A))
        return np.append(borders, len(positions_A) - 1)[np.searchsorted(borders, positions_A, "right")] - positions_A


def ask(text: IndexedText, sentences: Iterable[str]) -> AskedSentences:
    """Cut sentences into words; of those that are alike one is left."""
    different = tuple(dict.fromkeys(sentences))
    known: defaultdict[str, int] = defaultdict(None, text.vocabulary)
    known.default_factory = known.__len__
    numbers, ends = [BORDER_ID], []
    for sentence in different:
        numbers.extend(map(known.__getitem__, sentence_words(sentence)))
        ends.append(len(numbers))
        numbers.append(BORDER_ID)
    return AskedSentences(different, np.array(numbers), np.array(ends, np.int64))


def _in_order(high: np.ndarray, low: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(high << 32) | low in ascending order, and where each of them stood; of int64.

    Where key and place fit into one number, numbers are sorted, which is three times as fast as to find their order.
    """
    widths = [int(numbers.max(initial=0)).bit_length() for numbers in (high, low)]
    low_bits, place_bits = widths[1], len(high).bit_length()
    if sum(widths) + place_bits > _BITS:
        keys = (high << 32) | low
        places = np.argsort(keys)
        return keys[places], places
    packed = ((high << low_bits | low) << place_bits) | np.arange(len(high))
    packed.sort()
    keys = packed >> place_bits
    return (keys >> low_bits << 32) | (keys & ((1 << low_bits) - 1)), packed & ((1 << place_bits) - 1)


def _first_of_each(ascending: np.ndarray) -> np.ndarray:
    """Whether a number differs from the one before it."""
    is_first = np.ones(len(ascending), bool)
    is_first[1:] = ascending[1:] != ascending[:-1]
    return is_first


class WordTree:
    """Sequences of word numbers as a tree; a node of level n stands for the first n words of some of them.

    A node is known by its parent and its last word, packed into one number: exactly, so nothing is taken for another.
    nodes[n - 1]: the node of level n of each sequence that has n words, and rows[n - 1]: which sequences these are.
    """

    def __init__(self, words_A: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> None:
        """Sequences: `lengths` words each of words_A from `starts` on. Sequences without words are in no level."""
        self.keys: list[np.ndarray] = []
        self.nodes: list[np.ndarray] = []
        self.rows: list[np.ndarray] = []
        rows = np.flatnonzero(lengths > 0)
        parents = np.zeros(len(rows), np.int64)
        while len(rows):
            level = len(self.keys)
            sorted_keys, places = _in_order(parents, words_A[starts[rows] + level])
            is_first = _first_of_each(sorted_keys)
            nodes = np.empty(len(rows), np.int64)
            nodes[places] = np.cumsum(is_first) - 1
            self.keys.append(sorted_keys[is_first])
            self.nodes.append(nodes)
            self.rows.append(rows)
            longer = lengths[rows] > level + 1
            rows, parents = rows[longer], nodes[longer]
        self._first = np.full(self.keys[0][-1] + 2 if self.keys else 1, -1)
        if self.keys:
            self._first[self.keys[0]] = np.arange(len(self.keys[0]))

    @property
    def depth(self) -> int:
        """Words of the longest sequence."""
        return len(self.keys)

    def child(self, level: int, parents: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Nodes of `level` (from 1) below `parents` of the level above (0 for level 1); -1 where there is none."""
        if level == 1:  # of many words few are asked for: the last place stands for all larger ones
            return self._first[np.minimum(words, len(self._first) - 1)]
        keys = self.keys[level - 1]
        asked = (parents.astype(np.int64) << 32) | words
        places = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
        return np.where(keys[places] == asked, places, -1)


class _Asked:
    """All n-grams up to an order of the asked sentences, and what the training text says of them.

    In order n (from 1; lists from 0): counts_G of the asked n-grams; and of their contexts, the n-grams of one order
    less, totals_H: the sum of the counts of all that follows; kinds_H3: how many follow once, twice, more often.
    """

    def __init__(self, sentences: AskedSentences, unknown: int, order: int) -> None:
        """unknown: the number of all words that the text does not have."""
        words_A = np.minimum(sentences.words_A, unknown)
        self.tree = WordTree(words_A, np.arange(len(words_A)), np.minimum(sentences.before_border() + 1, order))
        sizes = [1, *(len(keys) for keys in self.tree.keys)]
        self.counts = [np.zeros(size) for size in sizes[1:]]
        self.totals = [np.zeros(size) for size in sizes[:-1]]
        self.kinds = [np.zeros((size, 3)) for size in sizes[:-1]]
        self.of_counts = np.zeros((order, 5), np.int64)
        """[n - 1, c]: how many n-grams of the training text are counted c times, for c from 1 to 4."""

    def add(self, text_T: np.ndarray, order: int, ends: np.ndarray, counts: np.ndarray) -> None:
        """Take in different n-grams of the training text, by the positions of their last words, with their counts."""
        self.of_counts[order - 1] += np.bincount(np.minimum(counts, 5), minlength=6)[:5]
        if order > self.tree.depth:
            return
        contexts = np.zeros(len(ends), np.int64)
        for level in range(1, order):
            contexts = self.tree.child(level, contexts, text_T[ends - order + level])
            kept = contexts >= 0
            contexts, ends, counts = contexts[kept], ends[kept], counts[kept]
        size = len(self.totals[order - 1])
        self.totals[order - 1] += np.bincount(contexts, weights=counts, minlength=size)
        kinds = np.bincount(contexts * 3 + np.minimum(counts, 3) - 1, minlength=3 * size)
        self.kinds[order - 1] += kinds.reshape(size, 3)
        found = self.tree.child(order, contexts, text_T[ends])
        self.counts[order - 1][found[found >= 0]] = counts[found >= 0]


@dataclass(frozen=True, slots=True)
class NgramScores:
    """What an n-gram model says of sentences.

    log_probs_A: log-probability, in nats, of the word, mark or border at each position of `AskedSentences.words_A`; of
    the first border 0. discounts: of n-grams counted once, twice, and more often; from order 1 on.
    """

    log_probs_A: np.ndarray
    discounts: tuple[tuple[float, float, float], ...]
    fallback_orders: tuple[int, ...]
    """Orders of which the text has too few n-grams to estimate discounts: they have 0.5, 1 and 1.5."""


def ngram_log_probs(text: IndexedText, sentences: AskedSentences, order: int = 5) -> NgramScores:
    """Log-probabilities of sentences in the model of that order of a text.

    Interpolated Kneser-Ney with three discounts an order (Chen & Goodman 1999, section 3). In the highest order, and
    for n-grams that begin at a border, the counts are those of the text; in the lower ones they are how many different
    words stand before (Kneser & Ney 1995). The lowest order is interpolated with the uniform distribution over the
    text's words, the border, and one unknown word, which is what any other word counts as.
    """
    asked = _Asked(sentences, len(text.vocabulary), order)
    _count(text.words_T, order, asked)
    discounts, fallback_orders = _discounts(asked.of_counts)
    log_probs_A = _log_probs(asked, discounts, uniform=1 / (len(text.vocabulary) + 1))
    log_probs_A[0] = 0.0
    return NgramScores(log_probs_A, discounts, fallback_orders)


def sentence_words(sentence: str) -> list[str]:
    """Words, marks and inner borders of one sentence, as `ask` reads it; the border at its end is left out."""
    words = split_words(sentence, at_sentences=True)
    if BORDER not in words:
        return words
    inner = [word for before, word in pairwise([BORDER, *words]) if not before == word == BORDER]
    return inner[:-1] if inner[-1:] == [BORDER] else inner


def _count(text_T: np.ndarray, order: int, asked: _Asked) -> None:
    """Count all n-grams of the text, those of one last word together: parts of the text that fit into little memory."""
    parts = len(text_T) // _POSITIONS_AT_ONCE + 1
    for part in range(parts):
        ends = np.flatnonzero(text_T % parts == part)
        _count_part(text_T, ends[ends > 0], order, asked)


def _count_part(text_T: np.ndarray, ends_M: np.ndarray, order: int, asked: _Asked) -> None:
    """Count the n-grams that end at these positions, all that end in the same word being among them.

    They are grown word by word to the left, so those that continue an n-gram to the left are numbered below it.
    """
    numbers_M = np.zeros(len(ends_M), np.int64)
    shorter_ends = shorter_counts = np.zeros(0, np.int64)
    for level in range(1, order + 1):
        if level > 2:
            goes_on = text_T[ends_M - level + 2] != BORDER_ID
            ends_M, numbers_M = ends_M[goes_on], numbers_M[goes_on]
        keys_M, sorting = _in_order(numbers_M, text_T[ends_M - level + 1].astype(np.int64))
        is_first = _first_of_each(keys_M)
        firsts = np.flatnonzero(is_first)
        if level > 1:
            words_before = np.bincount(keys_M[firsts] >> 32, minlength=len(shorter_counts))
            # Nothing stands before a border in its own sentence: what begins there keeps its count.
            asked.add(text_T, level - 1, shorter_ends, np.where(words_before, words_before, shorter_counts))
        shorter_ends = ends_M[sorting[firsts]]
        shorter_counts = np.diff(np.append(firsts, len(keys_M)))
        numbers_M = np.empty(len(ends_M), np.int64)
        numbers_M[sorting] = np.cumsum(is_first) - 1
    asked.add(text_T, order, shorter_ends, shorter_counts)


def _discounts(of_counts: np.ndarray) -> tuple[tuple[tuple[float, float, float], ...], tuple[int, ...]]:
    """Discounts of each order from its counts of counts, and the orders for which these give none.

    Source: Chen & Goodman 1999, equation 26. A discount must be above 0, so that there is something for unseen words,
    and no larger than the count it is taken from.
    """
    found: list[tuple[float, float, float]] = []
    fallback = []
    for number, (_, *of_count) in enumerate(of_counts.tolist(), start=1):
        n1, n2, n3, n4 = of_count
        discounts = _FALLBACK
        if n1 and n2 and n3:
            y = n1 / (n1 + 2 * n2)
            discounts = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        if not (n1 and n2 and n3) or not all(0 < one <= most for most, one in enumerate(discounts, start=1)):
            discounts = _FALLBACK
            fallback.append(number)
        found.append(discounts)
    return tuple(found), tuple(fallback)


def _log_probs(asked: _Asked, discounts: Sequence[tuple[float, float, float]], uniform: float) -> np.ndarray:
    """Log-probability of the word at each position of the asked sentences, in the longest n-gram that ends there."""
    tree = asked.tree
    log_probs_A = np.zeros(len(tree.rows[0]))
    lower_A = np.full(len(log_probs_A), uniform)
    for level in range(1, tree.depth + 1):
        by_count = np.array((0.0, *discounts[level - 1]))
        counts_G, keys_G = asked.counts[level - 1], tree.keys[level - 1]
        contexts_G = keys_G >> 32
        starts_R, nodes_R = tree.rows[level - 1], tree.nodes[level - 1]
        ends_R = starts_R + level - 1
        lower_G = np.empty(len(keys_G))
        lower_G[nodes_R] = lower_A[ends_R]
        totals_G = asked.totals[level - 1][contexts_G]
        left_over_G = (asked.kinds[level - 1] @ by_count[1:])[contexts_G]
        kept_G = counts_G - by_count[np.minimum(counts_G, 3).astype(np.int64)]
        seen_G = (kept_G + left_over_G * lower_G) / np.maximum(totals_G, 1)
        probs_G = np.where(totals_G > 0, seen_G, lower_G)
        lower_A[ends_R] = probs_G[nodes_R]
        # Equal probabilities get equal logarithms: vector and scalar code of a library may differ in the last bit.
        values, places = np.unique(probs_G, return_inverse=True)
        log_probs_A[ends_R] = np.log(values)[places[nodes_R]]
    return log_probs_A
