"""Two sentences and a model: the surprisal of every word, and how the words of both stand beside each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Literal

import numpy as np

from firstwords.evaluation.surprisal import Manner, ScoredText, score_texts
from firstwords.web.refusal import Refusal

if TYPE_CHECKING:
    from firstwords.evaluation.subject import Subject

MOST_CHARACTERS = 1_000
"""Of a sentence or of what stands before the next word."""
By = Literal["word", "token"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A word or token with its place in the sentence.

    bits: None where no token is its own. read: whether the tokenizer has a token for any of its characters; of a word
    that it has none for, the model saw at most the space before it.
    """

    text: str
    start: int
    end: int
    bits: float | None
    read: bool = True


@dataclass(frozen=True, slots=True)
class Scored:
    """A sentence. bits: its surprisal, the sum over its tokens."""

    text: str
    bits: float
    tokens: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """Both sentences. columns: which piece of the first stands beside which of the second, None beside none."""

    sentences: tuple[Scored, Scored]
    columns: tuple[tuple[int | None, int | None], ...]
    statement: str


def score_pair(subject: Subject, sentences: tuple[str, str], by: By) -> ScoredPair:
    """Both sentences as the model reads them, each after the beginning-of-sequence token.

    Raises FirstwordsError, with exit code 3 for a score that is not finite, and Refusal where a sentence has nothing
    that the model can read.
    """
    manner = Manner.of(subject)
    found = [_scored(one, by) for one in score_texts(subject, sentences, manner)]
    first, second = found
    columns = aligned([piece.text for piece in first.pieces], [piece.text for piece in second.pieces])
    return ScoredPair((first, second), tuple(columns), manner.statement(subject))


def checked(text: str, what: str) -> str:
    """The text, if it can be scored. Raises Refusal for one that is empty, too long, or no whole characters."""
    if not text.strip():
        raise Refusal(422, f"{what} is empty", do="write a word")
    if len(text) > MOST_CHARACTERS:
        raise Refusal(
            413, f"{what} has {len(text):,} characters, and {MOST_CHARACTERS:,} are the most", do="shorten it"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refusal(422, f"{what} has half of a character in it", do="write it again") from None
    return text


def aligned(first: Sequence[str], second: Sequence[str]) -> list[tuple[int | None, int | None]]:
    """Places of both beside each other: what is alike in one column, what was changed beside what it became."""
    columns: list[tuple[int | None, int | None]] = []
    for _, low_a, high_a, low_b, high_b in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        for place in range(max(high_a - low_a, high_b - low_b)):
            a, b = low_a + place, low_b + place
            columns.append((a if a < high_a else None, b if b < high_b else None))
    return columns


def _scored(one: ScoredText, by: By) -> Scored:
    text = one.text.text
    known = one.bits_T[~np.isnan(one.bits_T)]
    if not len(known):
        raise Refusal(422, "the model's tokenizer has no token for any character of the sentence", where=repr(text))
    if by == "token":
        pieces = [Piece(piece.text, piece.start, piece.end, piece.bits) for piece in one.pieces()]
    else:
        seen = [(unit.start, unit.end) for unit in one.tokens()]
        pieces = [
            Piece(word.text, word.start, word.end, word.bits, any(s < word.end and e > word.start for s, e in seen))
            for word in one.words()
        ]
    return Scored(text, math.fsum(known.tolist()), len(one.text.ids), tuple(pieces))
