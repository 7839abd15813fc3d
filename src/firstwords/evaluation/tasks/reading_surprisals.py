"""Surprisal of a word after what was read before it, as each protocol of the reading-time task tells it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from firstwords.errors import FirstwordsError
from firstwords.evaluation.reader import Line, TokenizedText
from firstwords.evaluation.subject import Progress, Subject, line_log_probs
from firstwords.evaluation.surprisal import MARKS, Manner, score_texts

MASKS = 3
"""Masks that stand for what has not been read yet, the predicted token's own among them."""

Asked = Sequence[tuple[str, str]]
"""Sentences up to a word, and the word."""
Found = tuple[float, int]
"""Bits and number of tokens of a word."""


def surprisals(subject: Subject, asked: Asked, protocol: str, progress: Progress | None) -> list[Found]:
    """Surprisal of each word after what was read before it, as a protocol of `reading_times` tells it.

    Raises FirstwordsError for a word of which the tokenizer leaves nothing.
    """
    if protocol == "babylm-2025":
        return _official(subject, asked, progress)
    if subject.masked and protocol == "firstwords":
        return _before_masks(subject, asked, progress)
    # A mark is read with the word before it, but what it costs is no part of how likely that word was.
    manner = Manner(boundary="after" if protocol == "word-end" else "before", marks=False)
    texts = [f"{context} {word}" for context, word in asked]
    scored = score_texts(subject, texts, manner, given=[len(context) for context, _ in asked], progress=progress)
    found = []
    for text, unit in zip(texts, [one.words()[-1] for one in scored], strict=True):
        if unit.bits is None:
            raise _no_token(text)
        found.append((unit.bits, unit.tokens))
    return found


def _before_masks(subject: Subject, asked: Asked, progress: Progress | None) -> list[Found]:
    """A masked model's: each token of the word in its turn, the word's later ones and what follows it being masks."""
    reader = subject.reader
    hidden: Any = (reader.mask_id,) * (MASKS - 1)
    lines = []
    for text, (context, _word) in zip(
        reader.tokenize([f"{context} {word.strip(MARKS)}" for context, word in asked]), asked, strict=True
    ):
        first = sum(end <= len(context) for _, end in text.offsets)
        if first == len(text.ids):
            raise _no_token(text.text)
        start = len(reader.before) + first
        # All tokens of the word are one piece to the model, whatever the tokenizer takes for words.
        words = (*(None for _ in range(start)), *(0 for _ in text.ids[first:]))
        lines.append(
            Line(
                reader.before + text.ids + hidden + reader.after,
                start,
                start + len(text.ids) - first,
                (*words, *(None for _ in hidden + reader.after)),
            )
        )
    found = line_log_probs(subject, lines, within_word=True, progress=progress)
    return [(-float(log_probs.sum(dtype=np.float64)) / math.log(2), len(log_probs)) for log_probs in found]


def _official(subject: Subject, asked: Asked, progress: Progress | None) -> list[Found]:
    """As the official pipeline tells it, its tokenization and all; see `reading_times`."""
    tokenizer = subject.reader.tokenizer

    def cut(texts: Sequence[str]) -> list[TokenizedText]:
        return subject.reader.tokenize(texts)

    pieces = cut([word for _, word in asked])
    steps: list[tuple[int, str, int]] = []
    """Which word, what was read, the token that is predicted."""
    again: list[tuple[int, str, str]] = []
    for number, ((context, word), piece) in enumerate(zip(asked, pieces, strict=True)):
        if not piece.ids:
            raise _no_token(word)
        steps.append((number, context, piece.ids[0]))
        texts = [tokenizer.decode([token], skip_special_tokens=False) for token in piece.ids]
        again += [(number, context + "".join(texts[:place]), texts[place]) for place in range(1, len(texts))]
    for (number, read, text), piece in zip(again, cut([text for _, _, text in again]), strict=True):
        if not piece.ids:
            raise _no_token(text)
        steps.append((number, read, piece.ids[0]))
    lines = _predicting(subject, [read for _, read, _ in steps], [token for _, _, token in steps])
    bits = np.zeros(len(asked))
    found = line_log_probs(subject, lines, progress=progress)
    for (number, _, _), log_probs in zip(steps, found, strict=True):
        bits[number] -= float(log_probs[0]) / math.log(2)
    return list(zip(bits.tolist(), [len(piece.ids) for piece in pieces], strict=True))


def _predicting(subject: Subject, texts: Sequence[str], targets: Sequence[int]) -> list[Line]:
    """Lines in which nothing but each target is scored: after a text, or in the first of the masks after it."""
    reader = subject.reader
    masks = (reader.tokenizer.id_to_token(reader.mask_id) or "") * MASKS if reader.mask_id is not None else ""
    joined = [text + masks for text in texts] if subject.masked else list(texts)
    lines = []
    for encoding, target in zip(reader.tokenizer.encode_batch(joined, add_special_tokens=True), targets, strict=True):
        ids = list(encoding.ids)
        if subject.masked:
            place = len(ids) - MASKS - (ids[-1] != reader.mask_id)
            ids[place] = target
        else:
            place = len(ids)
            ids.append(target)
        if place < 1:
            raise _no_token(joined[0])
        lines.append(Line(tuple(ids), place, place + 1, (None,) * len(ids)))
    return lines


def _no_token(text: str) -> FirstwordsError:
    return FirstwordsError(
        "the tokenizer leaves no token of a word of the reading-time data",
        where=repr(text),
        do="use a tokenizer that encodes all its characters (tokenizer.all-bytes = true)",
    )
