"""Natural Stories: ten stories read word by word, and how well surprisal in the whole story tells the reading times."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from firstwords.data import folders
from firstwords.errors import FirstwordsError
from firstwords.evaluation.pair_files import read_text
from firstwords.evaluation.regression import (
    RESAMPLES,
    design,
    increase,
    interval,
    resample,
    resampled,
    residual_square,
)
from firstwords.evaluation.subject import Progress, Subject
from firstwords.evaluation.surprisal import MARKS, Manner, score_texts
from firstwords.evaluation.tasks.task import Lookup, Measure, TaskData, TaskResult
from firstwords.run_folder import fingerprint_of, sha256_of

_BACK = 2
"""Earlier words whose length, frequency and surprisal still tell on a reading time (spill-over)."""

_ENDS_SENTENCE = re.compile(r"[.?!]['\"’”)]*$")


@dataclass(frozen=True, slots=True)
class StoryWord:
    """A word of a story. place: its number, from 1 on. time_ms: mean over people; None where nobody read it."""

    story: int
    place: int
    word: str
    sentence: int
    length: int
    log_frequency: float
    time_ms: float | None


@dataclass(frozen=True, slots=True)
class Stories:
    """All words, story by story. frequencies: where their frequencies are from."""

    words: tuple[StoryWord, ...]
    frequencies: str


class NaturalStories:
    """Self-paced reading of whole stories."""

    name = "natural-stories"
    title = "Natural Stories: self-paced reading of ten stories"
    license = "CC BY-NC-SA 4.0"
    citation = (
        "Futrell, Gibson, Tily, Blank, Vishnevetsky, Piantadosi & Fedorenko 2021, The Natural Stories corpus: a "
        "reading-time corpus of English texts containing rare syntactic constructions"
    )
    measures = "how much likelier surprisal makes the reading times of words in stories that were not fitted"
    protocols: Mapping[str, str] = {
        "firstwords": "a word's surprisal is the sum over its tokens, in its whole story, after BOS",
        "word-end": "as firstwords, with the word's end scored and the space before it given; causal models only",
    }
    masked = True

    def load(self, lookup: Lookup) -> TaskData:
        """Read the stories, the times and the frequencies. Raises NotFound, and FirstwordsError naming the line."""
        get = "download the corpus (https://github.com/languageMIT/naturalstories) and give its folder with --data"
        what = "the Natural Stories corpus"
        text = lookup.find(["all_stories.tok"], what=what, get=get)
        times = lookup.find(["processed_wordinfo.tsv"], what=what, get=get)
        counts = folders.find(["freqs-1.tsv", "freqs-1-20150214.tsv"], lookup.folders)
        files = [text, times] + ([counts] if counts else [])
        return TaskData(
            _stories(text, times, counts), str(text.parent), fingerprint_of([sha256_of(path) for path in files])
        )

    def evaluate(self, subject: Subject, data: TaskData, protocol: str, progress: Progress | None = None) -> TaskResult:
        """Surprisal of every word in its story, and the regressions."""
        stories: Stories = data.items
        manner = Manner.of(subject, boundary="after" if protocol == "word-end" else "before", marks=False)
        bits_N, tokens_N = _surprisals(subject, stories.words, manner, progress)
        return _result(stories, bits_N, tokens_N, f"{manner.statement(subject)} {_statement(stories.frequencies)}")


def _statement(frequencies: str) -> str:
    return (
        "Each story is one text. Ordinary least squares on the mean time of a word over people, in milliseconds. The "
        "baseline is the word's place in the story, and of the word and of each of the two before it the length in "
        f"letters and the log frequency ({frequencies}); the model adds the surprisals of the three. Both are fitted "
        "to nine stories and asked how likely (normal distribution, the fit's own variance) the times of the tenth "
        "are, ten times; the number is the mean over words by how much the model's log-likelihood is above the "
        "baseline's, in nats: 0 or less where surprisal does not help. The first two words of a story are left out. "
        f"Intervals: {RESAMPLES:,} resamples of sentences, 95%, the fits as they are. The floor is the same number "
        "with the words' numbers of tokens in place of their surprisals: all that an untrained model can tell."
    )


def _surprisals(
    subject: Subject, words: Sequence[StoryWord], manner: Manner, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray]:
    """Bits and number of tokens of each word, in the order of `words`."""
    texts: dict[int, list[str]] = {}
    for word in words:
        texts.setdefault(word.story, []).append(word.word)
    scored = score_texts(subject, [" ".join(text) for text in texts.values()], manner, progress=progress)
    units = [unit for one in scored for unit in one.words()]
    bits_N = np.array([math.nan if unit.bits is None else unit.bits for unit in units])
    return bits_N, np.array([unit.tokens for unit in units], dtype=np.float64)


def _result(stories: Stories, bits_N: np.ndarray, tokens_N: np.ndarray, statement: str) -> TaskResult:
    words = stories.words
    lagged = {
        name: np.column_stack([_lag(words, values_N, back) for back in range(_BACK + 1)])
        for name, values_N in (
            ("length", np.array([word.length for word in words], dtype=np.float64)),
            ("frequency", np.array([word.log_frequency for word in words])),
            ("surprisal", bits_N),
            ("tokens", tokens_N),
        )
    }
    times_N = np.array([math.nan if word.time_ms is None else word.time_ms for word in words])
    rows = np.isfinite(np.column_stack([times_N, *lagged.values()])).all(axis=1)
    story_N = np.array([word.story for word in words])[rows]
    if len(set(story_N)) < 2:
        raise FirstwordsError(
            "words of two stories or more are needed: one is told from the others", where="all_stories.tok"
        )
    place_N = np.array([word.place for word in words], dtype=np.float64)
    baseline = design([column_N[rows] for column_N in (place_N, *lagged["length"].T, *lagged["frequency"].T)])
    added_NX = lagged["surprisal"][rows]
    model = np.column_stack([baseline, design(list(added_NX.T))[:, 1:]])
    floor = np.column_stack([baseline, design(list(lagged["tokens"][rows].T))[:, 1:]])
    times_N = times_N[rows]

    gains_N = held_out_gains(times_N, baseline, model, story_N)
    sentences_N = np.unique([word.sentence for word in words], return_inverse=True)[1][rows]
    counts_BC = resample(int(sentences_N.max()) + 1)
    alone, both = residual_square(times_N, baseline), residual_square(times_N, model)
    # What this word's own surprisal adds to the baseline and the surprisals of the two before it.
    others = np.column_stack([baseline, design(list(added_NX.T))[:, 2:]])
    own = increase(times_N, others, added_NX[:, 0])
    low, high = interval(resampled(times_N, others, added_NX[:, 0], sentences_N, counts_BC)[1])
    return TaskResult(
        metric="gain in log-likelihood per word of stories that were not fitted, in nats",
        statement=statement,
        overall=_measure(gains_N, sentences_N, counts_BC),
        parts={
            f"story {story}": _measure(gains_N[story_N == story], sentences_N[story_N == story], counts_BC)
            for story in sorted(set(story_N.tolist()))
        },
        rows=_predictions(words, bits_N, tokens_N),
        notes=_notes(stories, bits_N),
        more={
            "all_stories_fitted": {
                "words": len(times_N),
                "share": 1 - both / alone,
                "slope_ms_per_bit": {"value": own.slope, "low": low, "high": high},
            },
            "floor_of_number_of_tokens": float(held_out_gains(times_N, baseline, floor, story_N).mean()),
            "sentences": len(set(sentences_N.tolist())),
        },
    )


def _notes(stories: Stories, bits_N: np.ndarray) -> list[str]:
    notes = []
    if unknown := int(np.isnan(bits_N).sum()):
        notes.append(f"{unknown:,} words have no surprisal: the tokenizer leaves no token of them.")
    if stories.frequencies == _OWN_COUNTS:
        notes.append(
            "The corpus's table of frequencies (freqs-1.tsv) is not under --data, so words are counted in the stories "
            "themselves: a weak baseline, which leaves to surprisal some of what is frequency's."
        )
    return notes


def _predictions(words: Sequence[StoryWord], bits_N: np.ndarray, tokens_N: np.ndarray) -> list[dict[str, Any]]:
    """The file of predictions: every word, also those that the regression leaves out."""
    return [
        {
            "story": word.story,
            "place": word.place,
            "word": word.word,
            "surprisal_bits": None if math.isnan(bits) else bits,
            "tokens": int(tokens),
            "time_ms": word.time_ms,
        }
        for word, bits, tokens in zip(words, bits_N.tolist(), tokens_N, strict=True)
    ]


def held_out_gains(y_N: np.ndarray, baseline_NK: np.ndarray, model_NK: np.ndarray, fold_N: np.ndarray) -> np.ndarray:
    """How much likelier the model makes each y than the baseline does, both fitted to the other folds: nats, (N,)."""

    def log_likelihoods(design_NK: np.ndarray, held_N: np.ndarray) -> np.ndarray:
        fitted_K = np.linalg.lstsq(design_NK[~held_N], y_N[~held_N], rcond=None)[0]
        variance = float(((y_N[~held_N] - design_NK[~held_N] @ fitted_K) ** 2).mean())
        rest_n = y_N[held_N] - design_NK[held_N] @ fitted_K
        found: np.ndarray = -0.5 * (np.log(2 * math.pi * variance) + rest_n**2 / variance)
        return found

    gains_N = np.empty(len(y_N))
    for fold in np.unique(fold_N):
        held_N = fold_N == fold
        gains_N[held_N] = log_likelihoods(model_NK, held_N) - log_likelihoods(baseline_NK, held_N)
    return gains_N


def _lag(words: Sequence[StoryWord], values_N: np.ndarray, back: int) -> np.ndarray:
    """The value of the word that stands `back` words before each; NaN before the beginning of a story."""
    lagged_N = np.full(len(values_N), math.nan)
    lagged_N[back:] = values_N[: len(values_N) - back]
    lagged_N[[word.place <= back for word in words]] = math.nan
    return lagged_N


def _measure(gains_N: np.ndarray, clusters_N: np.ndarray, counts_BC: np.ndarray) -> Measure:
    """Mean gain with the interval of resampled sentences."""
    clusters = counts_BC.shape[1]
    sums_C = np.bincount(clusters_N, weights=gains_N, minlength=clusters)
    sizes_C = np.bincount(clusters_N, minlength=clusters)
    sizes_B = counts_BC @ sizes_C
    drawn = sizes_B > 0
    low, high = interval((counts_BC @ sums_C)[drawn] / sizes_B[drawn])
    return Measure(float(gains_N.mean()), low, high, len(gains_N))


_OWN_COUNTS = "counted in the stories themselves"


def _stories(text: Path, times: Path, counts: Path | None) -> Stories:
    words = [
        (place, int(story), int(zone), word)
        for place, (story, zone, word) in _rows(text, ("item", "zone", "word"), whole=("item", "zone"))
    ]
    read: dict[tuple[int, int], float] = {}
    for place, (of_story, of_zone, _word, mean) in _rows(
        times, ("item", "zone", "word", "meanItemRT"), whole=("item", "zone")
    ):
        try:
            read[int(of_story), int(of_zone)] = float(mean)
        except ValueError:
            raise _wrong(f"'{mean}' is no reading time", place) from None
    frequencies = _published(counts) if counts else {}
    own = Counter((word.strip(MARKS) or word).lower() for _, _, _, word in words)
    found: list[StoryWord] = []
    sentence = 0
    for place, story, zone, word in words:
        bare = word.strip(MARKS) or word
        before = found[-1] if found and found[-1].story == story else None
        if zone != (before.place + 1 if before else 1):
            raise _wrong(f"the word {zone} of story {story} does not follow the one before it", place)
        starts_low = word[:1].islower()
        if before is None or (_ENDS_SENTENCE.search(before.word) and not starts_low):
            sentence += 1
        if counts and (story, zone) not in frequencies:
            raise _wrong(f"{counts.name} has no frequency of this word, {story}.{zone}.word", place)
        count = frequencies[story, zone] if counts else own[bare.lower()]
        found.append(
            StoryWord(
                story,
                zone,
                word,
                sentence,
                len(bare),
                math.log10(max(1, count)),
                read.get((story, zone)),
            )
        )
    if not found:
        raise _wrong("the file has no words", str(text))
    return Stories(tuple(found), counts.name if counts else _OWN_COUNTS)


def _published(path: Path) -> dict[tuple[int, int], float]:
    """Counts of the words of the corpus's own table: code, order, word, count, count of the context; no header."""
    found = {}
    with StringIO(read_text(path), newline="") as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), start=1):
            code = row[0].split(".") if row else []
            if len(code) != 3 or len(row) < 4 or not (code[0].isdecimal() and code[1].isdecimal()):
                raise _wrong("the line has no code such as 1.1.word and no count", f"{path}:{number}")
            if code[2] != "word":
                continue
            try:
                found[int(code[0]), int(code[1])] = float(row[3])
            except ValueError:
                raise _wrong(f"'{row[3]}' is no count", f"{path}:{number}") from None
    return found


def _rows(path: Path, columns: Sequence[str], *, whole: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Place and wanted columns of each line of a tab-separated table. whole: columns that hold whole numbers."""
    with StringIO(read_text(path), newline="") as file:
        # Words have quotation marks of their own.
        table = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        missing = [name for name in columns if name not in (table.fieldnames or ())]
        if missing:
            raise _wrong(f"the table lacks the columns {', '.join(missing)}", f"{path}:1")
        for row in table:
            place = f"{path}:{table.line_num}"
            values = [row[name] for name in columns]
            if any(not value or value != value.strip() for value in values):
                raise _wrong(f"the line lacks a value of {', '.join(columns)}", place)
            for name in whole:
                if not row[name].isdecimal():
                    raise _wrong(f"'{row[name]}' is no whole number, in the column '{name}'", place)
            yield place, values


def _wrong(what: str, where: str) -> FirstwordsError:
    return FirstwordsError(what, where=where, do="use the corpus as it is published")


TASK = NaturalStories()
