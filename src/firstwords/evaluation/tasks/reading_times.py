"""How well surprisal tells the reading times of people: 205 sentences, eye tracking and self-paced reading."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from firstwords.errors import FirstwordsError
from firstwords.evaluation.pair_files import read_text
from firstwords.evaluation.regression import (
    RESAMPLES,
    Increase,
    design,
    increase,
    interval,
    resample,
    resampled,
    share_interval,
    signed_squares,
)
from firstwords.evaluation.subject import Progress, Subject
from firstwords.evaluation.tasks.reading_surprisals import MASKS, surprisals
from firstwords.evaluation.tasks.task import Lookup, Measure, TaskData, TaskResult
from firstwords.run_folder import sha256_of

EYE_TRACKING = ("RTfirstfix", "RTfirstpass", "RTgopast", "RTrightbound")
SELF_PACED = "self_paced_reading_time"
"""Mean times of a word in milliseconds, as the columns of the data name them."""

_MARKS_NOTE = (
    "The last words of the sentences end in a mark, whose tokens are counted with them, and people read last words "
    "slowly: so any model is above 0 under this protocol, an untrained one too (see the floor)."
)


@dataclass(frozen=True, slots=True)
class ReadWord:
    """A word that people read, with the one before it (None where the data has none).

    line: of the file. context: the sentence before the word. position: words before it. log_frequency: in SUBTLEX; NaN
    where it is not in there.
    """

    line: int
    context: str
    word: str
    sentence: str
    sentence_id: str
    position: float
    log_frequency: float
    length: float
    previous_context: str | None
    previous_word: str
    previous_length: float
    times: Mapping[str, float]


class ReadingTimes:
    """The reading-time task of the BabyLM Challenge 2025."""

    name = "reading-times"
    title = "Reading times (BabyLM 2025): eye tracking and self-paced reading"
    license = "none stated; as BabyLM distributes it"
    citation = (
        "de Varda, Marelli & Amenta 2023, Cloze probability, predictability ratings, and computational estimates for "
        "205 English sentences; times of Frank, Fernandez Monsalve, Thompson & Vigliocco 2013"
    )
    measures = "share of the variance of reading times that surprisal explains beyond a baseline"
    protocols: Mapping[str, str] = {
        "firstwords": "a word's surprisal is the sum over its tokens as they stand in the sentence, after BOS",
        "babylm-2025": "as the official pipeline: the word cut into tokens by itself, without the space before it, "
        "and what was read cut into tokens anew after each of them",
        "word-end": "as firstwords, with the word's end scored and the space before it given; causal models only",
    }
    masked = True

    def load(self, lookup: Lookup) -> TaskData:
        """Read `reading_data.csv`. Raises NotFound, and FirstwordsError naming the line for what is malformed."""
        path = lookup.find(
            ["reading_data.csv"],
            what="the table of reading times",
            get="download evaluation_data of the BabyLM Challenge 2025 (https://osf.io/ryjfm) and give it with --data",
        )
        return TaskData(tuple(_read(path)), str(path), sha256_of(path))

    def evaluate(self, subject: Subject, data: TaskData, protocol: str, progress: Progress | None = None) -> TaskResult:
        """Surprisals of all words and of those before them, and the regressions."""
        words: Sequence[ReadWord] = data.items
        previous = [_previous_of(word, protocol) for word in words]
        asked = [(word.context, word.word) for word in words]
        asked += [
            (context, word.previous_word) for word, context in zip(words, previous, strict=True) if context is not None
        ]
        distinct = dict.fromkeys(asked)
        known = dict(zip(distinct, surprisals(subject, list(distinct), protocol, progress), strict=True))
        own_2N = np.array([known[word.context, word.word] for word in words]).T
        previous_2N = np.array(
            [
                (math.nan, math.nan) if context is None else known[context, word.previous_word]
                for word, context in zip(words, previous, strict=True)
            ]
        ).T
        notes = [_MARKS_NOTE] if protocol == "babylm-2025" else []
        return _result(words, own_2N, previous_2N, _statement(subject, protocol), notes)


def _previous_of(word: ReadWord, protocol: str) -> str | None:
    # The official script reads its table with pandas, to which the text "None" is a missing value.
    if protocol == "babylm-2025" and word.previous_context == "None":
        return None
    return word.previous_context


def _statement(subject: Subject, protocol: str) -> str:
    surprisal = {
        "firstwords": "A word's surprisal is the sum over its tokens as they stand in the sentence up to the word, "
        "without the marks around it" + ("." if subject.masked else ", after BOS (EOS where there is none)."),
        "word-end": "A word's surprisal is that of the word, without the marks around it, and that it ends there, "
        "given that a word begins (Pimentel and Meister 2024), in the sentence up to the word, after BOS (EOS where "
        "there is none).",
        "babylm-2025": "Surprisal as the evaluation pipeline of the BabyLM Challenge 2025 tells it: the word is cut "
        "into tokens by itself, so without the space before it; the first is predicted after the sentence up to the "
        "word, read with the special tokens that the tokenizer puts around a text; each further one, turned to text "
        "and cut into tokens again, of which the first counts, after that sentence and the earlier pieces, joined "
        "without a space and cut into tokens anew. Marks after a word are part of it.",
    }[protocol]
    if subject.masked:
        surprisal += f" The model is masked: the predicted token is the first of {MASKS} masks after what was read."
        if protocol == "firstwords":
            surprisal += " Later tokens of the word are masks too, on top of the two that follow."
    return (
        f"{surprisal} Ordinary least squares on mean times of words. Eye tracking: the baseline is frequency (log, "
        "SUBTLEX), length, position in the sentence and the products of every two of them; the number is the mean "
        f"over {', '.join(EYE_TRACKING)}. Self-paced reading: the baseline has the length and the surprisal of the "
        "word before too, for spill-over, and all products. A number is (R2 with surprisal - R2 of the baseline) / "
        f"(1 - R2 of the baseline); overall is the mean of the two. Intervals: {RESAMPLES:,} resamples of sentences, "
        "95%; they begin at 0 where the sign of the effect is not sure. The floor is the same number with the words' "
        "numbers of tokens in place of their surprisals: all that an untrained model can tell."
    )


@dataclass(frozen=True, slots=True)
class _Regression:
    """Times of one measure, its baseline and what is added to it; rows: which words have all of these."""

    times_n: np.ndarray
    baseline: np.ndarray
    added_n: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, words: Sequence[ReadWord], measure: str, own_N: np.ndarray, previous_N: np.ndarray) -> _Regression:
        columns = [[word.log_frequency, word.length, word.position] for word in words]
        if measure == SELF_PACED:
            columns = [
                [*of_word, word.previous_length, previous]
                for of_word, word, previous in zip(columns, words, previous_N, strict=True)
            ]
        table_NK = np.array([[word.times[measure], *of_word] for word, of_word in zip(words, columns, strict=True)])
        rows = np.isfinite(table_NK).all(axis=1)
        if rows.sum() < 50:
            raise FirstwordsError(
                f"only {rows.sum()} words have all that a regression on {measure} needs",
                where="reading_data.csv",
                do="use the whole table",
            )
        return cls(table_NK[rows, 0], design(list(table_NK[rows, 1:].T), products=True), own_N[rows], rows)

    def increase(self) -> Increase:
        return increase(self.times_n, self.baseline, self.added_n)


def _result(
    words: Sequence[ReadWord], own_2N: np.ndarray, previous_2N: np.ndarray, statement: str, notes: Sequence[str]
) -> TaskResult:
    """own_2N, previous_2N: bits and numbers of tokens, of each word and of the word before it."""
    clusters_N = np.unique([word.sentence_id for word in words], return_inverse=True)[1]
    counts_BC = resample(int(clusters_N.max()) + 1)
    measures: dict[str, Any] = {}
    parts, floors, signed = {}, {}, []
    for name, members in {"eye-tracking": EYE_TRACKING, "self-paced": (SELF_PACED,)}.items():
        shares, squares = [], []
        for measure in members:
            fit = _Regression.of(words, measure, own_2N[0], previous_2N[0])
            found = fit.increase()
            correlations_B, slopes_B = resampled(
                fit.times_n, fit.baseline, fit.added_n, clusters_N[fit.rows], counts_BC
            )
            shares.append(found.share)
            squares.append(signed_squares(correlations_B))
            slope = dict(zip(("value", "low", "high"), (found.slope, *interval(slopes_B)), strict=True))
            measures[measure] = {
                "words": found.observations,
                "baseline_r2": found.baseline_r2,
                "model_r2": found.model_r2,
                "share": found.share,
                "share_of_number_of_tokens": _Regression.of(words, measure, own_2N[1], previous_2N[1]).increase().share,
                "slope_ms_per_bit": slope,
            }
        signed.append(np.mean(squares, axis=0))
        share = sum(shares) / len(shares)
        floors[name] = sum(measures[measure]["share_of_number_of_tokens"] for measure in members) / len(members)
        parts[name] = Measure(share, *share_interval(share, signed[-1]), max(measures[one]["words"] for one in members))
    overall = sum(part.value for part in parts.values()) / len(parts)
    return TaskResult(
        metric="share of the variance left by the baseline that surprisal explains",
        statement=statement,
        overall=Measure(overall, *share_interval(overall, np.mean(signed, axis=0)), len(words)),
        parts=parts,
        rows=[
            {
                "line": word.line,
                "context": word.context,
                "word": word.word,
                "surprisal_bits": float(bits),
                "previous_surprisal_bits": None if math.isnan(before) else float(before),
                "tokens": int(tokens),
            }
            for word, bits, tokens, before in zip(words, *own_2N, previous_2N[0], strict=True)
        ],
        notes=notes,
        more={
            "measures": measures,
            "percent": {name: 100 * part.value for name, part in parts.items()},
            "floor_of_number_of_tokens": floors,
        },
    )


def _read(path: Path) -> list[ReadWord]:
    with StringIO(read_text(path), newline="") as file:
        table = csv.DictReader(file)
        needed = {
            *("item", "word", "sentence", "sent_id", "context_length", "Subtlex_log10", "length"),
            *("prev_item", "prev_word", "prev_length", *EYE_TRACKING, SELF_PACED),
        }
        missing = sorted(needed - set(table.fieldnames or ()))
        if missing:
            raise FirstwordsError(
                f"the table lacks the columns {', '.join(missing)}", where=f"{path}:1", do="use the published table"
            )
        words = [_word(row, f"{path}:{table.line_num}", table.line_num) for row in table]
    if not words:
        raise FirstwordsError("the table has no words", where=str(path), do="use the published table")
    return words


def _word(row: Mapping[str, str | None], place: str, line: int) -> ReadWord:
    def text(key: str) -> str:
        value = row[key]
        if value is None:
            raise FirstwordsError(f"the line ends before its column '{key}'", where=place, do="correct that line")
        return value

    def number(key: str, missing: bool = False) -> float:
        value = text(key)
        try:
            return math.nan if missing and not value else float(value)
        except ValueError:
            raise FirstwordsError(
                f"'{value}' is no number, in the column '{key}'", where=place, do="correct it"
            ) from None

    sentence, word = text("sentence"), text("word")
    # One sentence begins with "None", which the table has lost.
    context = text("item") or sentence.split(" ")[0]
    if not word or not sentence.startswith(f"{context} {word}"):
        raise FirstwordsError(
            f"the sentence does not begin with what was read, {context!r}, and the word {word!r}",
            where=place,
            do="correct that line",
        )
    return ReadWord(
        line=line,
        context=context,
        word=word,
        sentence=sentence,
        sentence_id=text("sent_id"),
        position=number("context_length"),
        log_frequency=number("Subtlex_log10", missing=True),
        length=number("length"),
        previous_context=text("prev_item") or None,
        previous_word=text("prev_word"),
        previous_length=number("prev_length", missing=True),
        times={measure: number(measure, missing=True) for measure in (*EYE_TRACKING, SELF_PACED)},
    )


TASK = ReadingTimes()
