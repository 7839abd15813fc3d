"""Surprisal, -log2 p(unit | what came before it): of the tokens, the words or any characters of a text, in bits.

Every place is told in characters of the original text, whatever the tokenizer's normalizer makes of it. A token belongs
to the unit that holds its first character that is no white space, so a space belongs to what follows it.

Shape letters: T tokens of a text, S scored tokens of a line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from firstwords.errors import FirstwordsError
from firstwords.evaluation.reader import CONTEXTS, Context, Line, Reader, TokenizedText
from firstwords.evaluation.subject import Progress, Subject, line_log_probs

Boundary = Literal["before", "after"]
"""Which border a word is scored with: the space before it, or what ends it."""

MARKS = ".,;:!?…'\"‘’“”()[]{}"
"""Marks that stand around words without being of them."""

_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Manner:
    """How texts are read and words are scored.

    context: what stands before a text. window: positions that are read at once, as many as the model has where not
    given. stride: tokens by which a window moves on over a text that is longer; half a window where not given.
    boundary: `before`, the default, sums the surprisals of a word's tokens, which with most tokenizers have the space
    before it and lack that the word ends there. It is the default because it is what nearly all published surprisals
    are, because it can be told of every model, and because tokens, words and text then add up. `after` takes the
    space before a word as given and scores that the word ends where it ends: the probability of the word (Pimentel &
    Meister 2024; Oh & Schuler 2024). marks: whether MARKS around a word are scored with it; where not, they end words
    too. within_word: of masked models, see Subject.log_probs.
    """

    context: Context = "bos-or-eos"
    boundary: Boundary = "before"
    window: int | None = None
    stride: int | None = None
    marks: bool = True
    within_word: bool = False

    @classmethod
    def of(cls, subject: Subject, *, boundary: Boundary = "before", marks: bool = True) -> Manner:
        """The manner that suits a model: BOS (EOS where there is none) before a text, or pseudo-surprisals."""
        if subject.masked:
            return cls(context="both-sides", boundary=boundary, marks=marks, within_word=True)
        return cls(boundary=boundary, marks=marks)

    def statement(self, subject: Subject) -> str:
        """All of it in words, as it stands beside results."""
        if subject.masked:
            seen = "all other tokens, itself masked" + (
                ", and with it the later tokens of the same word" if self.within_word else ""
            )
            measure = f"Pseudo-surprisal in bits: -log2 p(token | {seen})"
        else:
            measure = "Surprisal in bits: -log2 p(token | tokens before it)"
        words = {
            "before": "A word's is the sum over its tokens, which have the space before it and not that it ends there.",
            "after": "A word's is that of the word and that it ends there, given that a word begins (Pimentel and "
            "Meister 2024).",
        }[self.boundary]
        window, stride = self.steps(subject)
        slides = (
            "Texts are read whole."
            if window is None
            else f"A text that is longer than {window} positions is read in windows that move on by {stride} tokens."
        )
        marks = "" if self.marks else " Marks around a word are not scored with it."
        return f"{measure}, the text read {CONTEXTS[self.context]}. {words}{marks} {slides}"

    def steps(self, subject: Subject) -> tuple[int | None, int]:
        """Positions of a window (None: no bound) and tokens by which it moves on."""
        window = subject.positions if self.window is None else self.window
        if self.window is not None and subject.positions is not None and self.window > subject.positions:
            raise FirstwordsError(
                f"a window of {self.window} positions is wider than the model's {subject.positions}",
                where="--window",
                do=f"give {subject.positions} or less",
            )
        stride = max(1, (window or 2) // 2) if self.stride is None else self.stride
        if window is not None and window < 2:
            raise _too_narrow(window, 2)
        if stride < 1 or (window is not None and stride >= window):
            raise _too_far(window, stride, window - 1 if window is not None else None)
        return window, stride


@dataclass(frozen=True, slots=True)
class Unit:
    """A token, a word or some characters of a text.

    start, end: its characters. tokens: how many belong to it. bits: its surprisal; None where a token of it has nothing
    before it that the model could predict it from, or no token belongs to it. whole: no token reaches over its borders.
    """

    text: str
    start: int
    end: int
    tokens: int
    bits: float | None
    whole: bool = True


@dataclass(frozen=True, slots=True)
class ScoredText:
    """The surprisal of each token of a text.

    bits_T: NaN for tokens that were not scored. before_T, after_T: with boundary `after`, -log2 of the probability that
    a word border stands before (after) the token, NaN before tokens that are no border; else None. marks: see Manner.
    slid: the text was longer than a window.
    """

    text: TokenizedText
    bits_T: np.ndarray
    before_T: np.ndarray | None = None
    after_T: np.ndarray | None = None
    marks: bool = True
    slid: bool = False

    def tokens(self) -> list[Unit]:
        """Each token, as the characters that the tokenizer says it is of."""
        text = self.text.text
        return [
            Unit(text[start:end], start, end, 1, _number(bits))
            for (start, end), bits in zip(self.text.offsets, self.bits_T.tolist(), strict=True)
        ]

    def pieces(self) -> list[Unit]:
        """The text cut after each of its tokens; tokens of one character are one piece, with the sum of their bits."""
        text, tokens = self.text.text, self.tokens()
        found: list[Unit] = []
        start, waiting = 0, list[Unit]()
        for number, token in enumerate(tokens, start=1):
            waiting.append(token)
            end = len(text) if number == len(tokens) else token.end
            if end > start:
                known = [one.bits for one in waiting if one.bits is not None]
                found.append(Unit(text[start:end], start, end, len(waiting), math.fsum(known) if known else None))
                start, waiting = end, []
        return found

    def words(self) -> list[Unit]:
        """Each word, which is what stands between white space, with the marks around it or without.

        White space after the last word is in none. A word that is all marks keeps them.
        """
        spans = [found.span() for found in _WORD.finditer(self.text.text)]
        words = self.spans(spans if self.marks else [self._bare(start, end) for start, end in spans])
        if self.before_T is None or self.after_T is None:
            return words
        anchors_T, _ends_T = self._extents()
        firsts = np.searchsorted(anchors_T, [word.start for word in words]).tolist()
        corrected = []
        for word, first in zip(words, firsts, strict=True):
            bits = word.bits
            if bits is not None:
                # Before a first word without a space of its own, its tokens themselves say that a word begins.
                begins = self.before_T[first]
                bits += float(self.after_T[first + word.tokens - 1] - (0.0 if np.isnan(begins) else begins))
            corrected.append(replace(word, bits=bits))
        return corrected

    def spans(self, spans: Sequence[tuple[int, int]]) -> list[Unit]:
        """Characters from `start` up to `end`; the space before a span belongs to it.

        Raises FirstwordsError for a span that is not in the text.
        """
        text, (anchors_T, ends_T) = self.text.text, self._extents()
        reach, bits = [0, *np.maximum.accumulate(ends_T).tolist()], self.bits_T.tolist()
        borders = np.searchsorted(anchors_T, np.array(spans, dtype=np.int64).reshape(-1, 2)).tolist()
        units = []
        for (start, end), (first, stop) in zip(spans, borders, strict=True):
            if not 0 <= start < end <= len(text):
                raise FirstwordsError(
                    f"the characters {start}:{end} are not in a text of {len(text)} characters",
                    where=repr(text[:200]),
                    do="give the place of the first character, counted from 0, and that after the last",
                )
            total = sum(bits[first:stop]) if stop > first else math.nan
            whole = reach[first] <= start and reach[stop] <= end
            units.append(Unit(text[start:end], start, end, stop - first, _number(total), whole))
        return units

    def _bare(self, start: int, end: int) -> tuple[int, int]:
        word = self.text.text[start:end]
        bare = word.strip(MARKS)
        first = start + len(word) - len(word.lstrip(MARKS))
        return (first, first + len(bare)) if bare else (start, end)

    def _extents(self) -> tuple[np.ndarray, np.ndarray]:
        """First visible character of each token, or the next where it is white space; the end of its last, (T,) each.

        Tokenizers disagree whether the space before a word is among the characters of its first token.
        """
        text, offsets = self.text.text, np.array(self.text.offsets, dtype=np.int64).reshape(-1, 2)
        visible = np.array([place for place, character in enumerate(text) if not character.isspace()], dtype=np.int64)
        anchors_T = np.append(visible, len(text))[np.searchsorted(visible, offsets[:, 0])]
        ends_T = np.append(0, visible + 1)[np.searchsorted(visible, offsets[:, 1])]
        # Characters that a normalizer has reordered must not make a later token an earlier one.
        return np.maximum.accumulate(anchors_T), ends_T


def _number(bits: float) -> float | None:
    return None if math.isnan(bits) else bits


@dataclass(frozen=True, slots=True)
class _Window:
    """One line of the model and what of a text it is: from the token `low` on, after `head` special tokens."""

    number: int
    low: int
    head: int
    line: Line

    @property
    def scored(self) -> slice:
        """The text's tokens that are scored in it."""
        return slice(self.line.start - self.head + self.low, self.line.stop - self.head + self.low)


def score_texts(
    subject: Subject,
    texts: Sequence[str],
    manner: Manner,
    *,
    given: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> list[ScoredText]:
    """Surprisal of every token of each text, all texts in one call of the model.

    given: how many characters at the beginning of each text are read and not scored.
    Every token is scored once. In a text that is longer than a window it is scored with at least window - stride tokens
    (special ones counted) before it where there are as many, half of that on either side by a masked model; each
    window begins with what stands before a text. A text that fits is read whole.
    Raises FirstwordsError where the tokenizer lacks the context, where the model cannot tell `boundary`, and with exit
    code 3 for a log-probability that is not finite.
    """
    _check_context(subject.reader, manner.context)
    if subject.masked and manner.boundary == "after":
        raise FirstwordsError(
            f"'{subject.name}' is a masked model, which cannot say that a word ends before it has seen what follows",
            do="score words with the boundary 'before'",
        )
    tokenized = subject.reader.tokenize(texts)
    windows = list(_windows(subject, tokenized, manner, given))
    lines = [window.line for window in windows]

    def describe(line: int) -> str:
        return repr(texts[windows[line].number][:200])

    found = line_log_probs(subject, lines, within_word=manner.within_word, describe=describe, progress=progress)
    bits = [np.full(len(text.ids), np.nan) for text in tokenized]
    slid = np.zeros(len(tokenized), dtype=np.int64)
    for window, log_probs_S in zip(windows, found, strict=True):
        bits[window.number][window.scored] = -log_probs_S.astype(np.float64) / math.log(2)
        slid[window.number] += 1 + (window.low > 0)
    scored = [
        ScoredText(text, bits_T, marks=manner.marks, slid=bool(n > 1))
        for text, bits_T, n in zip(tokenized, bits, slid, strict=True)
    ]
    return _with_borders(subject, scored, windows) if manner.boundary == "after" else scored


def _check_context(reader: Reader, context: Context) -> None:
    tokens = {"bos": [reader.bos_id], "bos-or-eos": [reader.bos_id, reader.eos_id]}.get(context)
    if tokens and all(token is None for token in tokens):
        raise FirstwordsError(
            f"the tokenizer has no token for the context '{context}'",
            where="tokenizer_config.json: bos_token",
            do="score in the context 'tokenizer', or 'none', where the first token is not scored",
        )


def _windows(
    subject: Subject, texts: Sequence[TokenizedText], manner: Manner, given: Sequence[int] | None
) -> Iterator[_Window]:
    """The lines in which texts are read; none for a text of which nothing can be scored."""
    window, stride = manner.steps(subject)
    bare = manner.context == "none" or (manner.context in ("tokenizer", "both-sides") and not subject.reader.before)
    scorable = [number for number, text in enumerate(texts) if len(text.ids) > bare]
    whole = subject.reader.lines([texts[number] for number in scorable], manner.context)
    for number, line in zip(scorable, whole, strict=True):
        text = texts[number]
        head = line.stop - len(text.ids)
        before, after = line.ids[:head], line.ids[line.stop :] if subject.masked else ()
        first = sum(end <= given[number] for _, end in text.offsets) if given else 0
        room = None
        if window is not None:
            # A causal model only predicts the last token, unless it must say what may follow it.
            predicted = 0 if subject.masked or manner.boundary == "after" else 1
            room = window + predicted - len(before) - len(after)
            if len(text.ids) > room and room <= stride:
                raise _too_narrow(window, window - room + 2) if room < 2 else _too_far(window, stride, room - 1)
        ends = _word_ends(text) if manner.within_word else None
        for low, start, stop in _ranges(
            len(text.ids), max(first, line.start - head), room, stride, subject.masked, ends
        ):
            high = stop if room is None or not subject.masked else min(low + room, len(text.ids))
            words = (*(None for _ in before), *text.words[low:high], *(None for _ in after))
            ids = before + text.ids[low:high] + after
            yield _Window(number, low, head, Line(ids, head + start - low, head + stop - low, words))


def _ranges(
    count: int, first: int, room: int | None, stride: int, masked: bool, ends: np.ndarray | None
) -> Iterator[tuple[int, int, int]]:
    """The first token of each window, and from which token to which it scores: together from `first` to `count`.

    room: tokens of a window. ends: where windows of a masked model may stop to score.
    """
    if first >= count:
        return
    if room is None or count <= room:
        yield 0, first, count
        return
    if not masked:
        stop = room if first < room else min(first + stride, count)
        while first < count:
            yield stop - room, first, stop
            first, stop = stop, min(stop + stride, count)
        return
    margin = (room - stride) // 2
    while first < count:
        low = max(0, min(first - margin, count - room))
        stop = count if low + room == count else low + margin + stride
        if ends is not None and stop < count:
            # The pieces of a word are masked together, so that they are scored in the same window.
            stop = min(int(ends[stop]), low + room)
        yield low, first, stop
        first = stop


def _word_ends(text: TokenizedText) -> np.ndarray:
    """For each place between tokens the next one at which no word is cut."""
    ends = np.arange(len(text.ids) + 1)
    for place in range(len(text.ids) - 1, 0, -1):
        if text.words[place] is not None and text.words[place] == text.words[place - 1]:
            ends[place] = ends[place + 1]
    return ends


def _with_borders(subject: Subject, scored: Sequence[ScoredText], windows: Sequence[_Window]) -> list[ScoredText]:
    """Texts with the surprisal that a word border stands before and after each token."""
    from firstwords.evaluation.word_borders import border_log_masses, tokens_of_borders

    marks = all(one.marks for one in scored)
    borders_V = tokens_of_borders(subject.reader, "" if marks else MARKS)
    masses = border_log_masses(subject, [window.line for window in windows], borders_V)
    before = [np.full(len(one.text.ids), np.nan) for one in scored]
    after = [np.full(len(one.text.ids), np.nan) for one in scored]
    for window, masses_S in zip(windows, masses, strict=True):
        bits = -masses_S / math.log(2)
        before[window.number][window.scored], after[window.number][window.scored] = bits[:-1], bits[1:]
    for one, before_T in zip(scored, before, strict=True):
        before_T[~borders_V[list(one.text.ids)]] = np.nan
    return [
        replace(one, before_T=before_T, after_T=after_T)
        for one, before_T, after_T in zip(scored, before, after, strict=True)
    ]


def _too_narrow(window: int, least: int) -> FirstwordsError:
    return FirstwordsError(
        f"a window of {window} positions has no room for a token and what stands before it",
        where="--window",
        do=f"give {least} or more",
    )


def _too_far(window: int | None, stride: int, most: int | None) -> FirstwordsError:
    return FirstwordsError(
        f"windows of {window} positions cannot move on by {stride} tokens: tokens would be scored without context",
        where="--stride",
        do="give 1 or more" + (f", and {most} at most" if most is not None else ""),
    )
