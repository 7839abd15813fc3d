"""Age of acquisition: does a model learn words in the order in which children do?

At every checkpoint `AgeOfAcquisition.evaluate` tells how surprising each word is; over all checkpoints of a run
`learning_ages` tells when the model had learnt it, and how that goes with the age at which half of the children say it.

Shape letters: P points of a learning curve, I words.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from firstwords.errors import FirstwordsError
from firstwords.evaluation.pair_files import read_text
from firstwords.evaluation.reader import Line
from firstwords.evaluation.subject import Progress, Subject, line_log_probs
from firstwords.evaluation.surprisal import Manner, score_texts
from firstwords.evaluation.tasks.task import Lookup, Measure, TaskData, TaskResult
from firstwords.run_folder import fingerprint_of, sha256_of

_OFFICIAL_VOCABULARY = 300_000
"""Of the official script's chance level, whatever vocabulary a model has."""

_LEAST_GAIN_BITS = 1.0
"""A word that never gets so far below chance was not learnt, and half-way to its lowest surprisal means nothing."""

_OFFICIAL_CONTEXTS = 20
"""Words that have fewer are left out of the official ages, though it reads no context."""

LEAST_CHECKPOINTS = 5
"""A curve of four parameters passes through any four points."""


@dataclass(frozen=True, slots=True)
class LearntWord:
    """A word, texts that it follows in, and the share of children who say it at each age in months."""

    word: str
    contexts: tuple[str, ...]
    shares: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class LearningAges:
    """When a model learnt each word, and how that goes with children.

    pearson, spearman: of the log10 of words seen and months; None where fewer than four words have both ages.
    rows: one a word with both. skipped: why other words have none, and how many.
    """

    protocol: str
    statement: str
    pearson: Measure | None
    spearman: Measure | None
    rows: Sequence[Mapping[str, Any]]
    skipped: Mapping[str, int]


class AgeOfAcquisition:
    """Words of the MacArthur-Bates inventories, after contexts; one checkpoint at a time."""

    name = "age-of-acquisition"
    title = "Age of acquisition (BabyLM 2025): words that children learn, in context"
    license = "as BabyLM distributes it; ages from Wordbank, CC BY"
    citation = (
        "Chang & Bergen 2022, Word Acquisition in Neural Language Models; ages of Frank, Braginsky, Yurovsky & "
        "Marchman 2017, Wordbank"
    )
    measures = "mean surprisal of the words at a checkpoint; over checkpoints, the correlation of ages (learning_ages)"
    protocols: Mapping[str, str] = {
        "firstwords": "each word after each of its contexts; learnt half-way from chance to its lowest surprisal",
        "babylm-2025": "as the official pipeline: the word alone after BOS, no context; chance as of 300,000 words",
    }
    masked = True

    def load(self, lookup: Lookup) -> TaskData:
        """Read words, contexts and ages. Raises NotFound, and FirstwordsError for what is malformed."""
        get = "download evaluation_data of the BabyLM Challenge 2025 (https://osf.io/ryjfm) and give it with --data"
        contexts = lookup.find(["cdi_childes.json"], what="the words in context", get=get)
        ages = lookup.find(["cdi_human.csv"], what="the ages of children", get=get)
        return TaskData(
            tuple(_words(contexts, ages)), str(contexts.parent), fingerprint_of(sha256_of(contexts), sha256_of(ages))
        )

    def evaluate(self, subject: Subject, data: TaskData, protocol: str, progress: Progress | None = None) -> TaskResult:
        """Mean surprisal of every word."""
        words: Sequence[LearntWord] = data.items
        score = _alone if protocol == "babylm-2025" else _in_contexts
        bits, tokens, notes = score(subject, words, progress)
        size = subject.reader.tokenizer.get_vocab_size(with_added_tokens=True)
        return TaskResult(
            metric="mean surprisal of a word in bits; ages are told over checkpoints",
            statement=_STATEMENTS[protocol] + (" The model is masked: pseudo-surprisals." if subject.masked else ""),
            overall=_mean(bits),
            parts={},
            rows=[
                {
                    "word": word.word,
                    "contexts": len(word.contexts),
                    "tokens": count,
                    "surprisal_bits": of_word,
                    "chance_bits": count * math.log2(size),
                }
                for word, of_word, count in zip(words, bits, tokens, strict=True)
            ],
            notes=notes,
        )


_STATEMENTS = {
    "firstwords": "A word's surprisal is the mean over its contexts of -log2 p(word | BOS and context), the sum over "
    "its tokens with the space before it.",
    "babylm-2025": "A word's surprisal is that of its tokens after the beginning-of-sequence token, without context "
    "and without a space before it, with whatever special tokens the tokenizer adds.",
}

_AGE_STATEMENTS = {
    "firstwords": "A sigmoid of log10(words seen + 1) is fitted to a word's mean surprisals, in bits. The word is "
    "learnt where the curve is half-way from chance (log2 of the vocabulary's size, for each of its tokens) to the "
    "lowest surprisal measured (Chang & Bergen 2022), if that is between the first and the last checkpoint and the "
    "lowest is a bit or more below chance.",
    "babylm-2025": "As the official pipeline: a sigmoid of log10(words seen + 1) is fitted to surprisals in nats, and "
    "the word is learnt where it is half-way from 18.19 (log2 of 300,000, taken as nats) to the lowest surprisal "
    f"measured, if that is between the first and the last checkpoint; only words with {_OFFICIAL_CONTEXTS} contexts.",
}


def _in_contexts(
    subject: Subject, words: Sequence[LearntWord], progress: Progress | None
) -> tuple[list[float], list[int], list[str]]:
    """Mean bits and number of tokens of each word, and notes."""
    contexts = [context.strip() for word in words for context in word.contexts]
    texts = [f"{context.strip()} {word.word}" for word in words for context in word.contexts]
    scored = score_texts(subject, texts, Manner.of(subject), given=list(map(len, contexts)), progress=progress)
    units = [one.words()[-1] for one in scored]
    for text, unit in zip(texts, units, strict=True):
        if unit.bits is None:
            raise _no_token(text)
    slid = sum(one.slid for one in scored)
    notes = [f"{slid:,} contexts are longer than the model reads; it read their ends."] if slid else []
    bits, tokens, first = [], [], 0
    for word in words:
        own = units[first : first + len(word.contexts)]
        first += len(own)
        bits.append(sum(unit.bits or 0.0 for unit in own) / len(own))
        tokens.append(own[0].tokens)
    return bits, tokens, notes


def _alone(
    subject: Subject, words: Sequence[LearntWord], progress: Progress | None
) -> tuple[list[float], list[int], list[str]]:
    """Bits of each word after BOS, which is put before it as text, as the official script does."""
    reader = subject.reader
    bos = None if reader.bos_id is None else reader.tokenizer.id_to_token(reader.bos_id)
    if bos is None:
        raise FirstwordsError(
            "'babylm-2025' puts BOS before every word, and this tokenizer has none",
            where="tokenizer_config.json: bos_token",
            do="use the protocol 'firstwords'",
        )
    lines = []
    for text in reader.tokenize([bos + word.word for word in words]):
        first = sum(end <= len(bos) for _, end in text.offsets)
        start, stop = len(reader.before) + first, len(reader.before) + len(text.ids)
        if start in (0, stop):
            raise _no_token(text.text)
        lines.append(Line((*reader.before, *text.ids, *reader.after), start, stop))
    found = line_log_probs(subject, lines, describe=lambda number: repr(words[number].word), progress=progress)
    bits = [-float(log_probs.sum(dtype=np.float64)) / math.log(2) for log_probs in found]
    return bits, [line.scored for line in lines], []


def _mean(values: Sequence[float]) -> Measure:
    from scipy.stats import t

    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Measure(mean, None, None, count)
    half = float(t.ppf(0.975, count - 1)) * float(np.std(values, ddof=1)) / math.sqrt(count)
    return Measure(mean, mean - half, mean + half, count)


def learning_ages(
    rows_by_words_seen: Mapping[int, Sequence[Mapping[str, Any]]], data: TaskData, protocol: str
) -> LearningAges:
    """When each word was learnt, and how that goes with children.

    rows_by_words_seen: for each checkpoint (words seen in training) the rows of `evaluate`, as they are or as read from
    their file. Raises FirstwordsError for fewer than five checkpoints, and for checkpoints of different words.
    """
    words: Sequence[LearntWord] = data.items
    seen_P = np.array(sorted(rows_by_words_seen), dtype=np.float64)
    if len(seen_P) < LEAST_CHECKPOINTS:
        raise FirstwordsError(
            f"learning curves need {LEAST_CHECKPOINTS} checkpoints or more, and there are {len(seen_P)}",
            do="save checkpoints more often (training.checkpoint-words), and evaluate them all",
        )
    tables = [{row["word"]: row for row in rows_by_words_seen[seen]} for seen in sorted(rows_by_words_seen)]
    rows: list[dict[str, Any]] = []
    skipped: Counter[str] = Counter()
    for word in words:
        if protocol == "babylm-2025" and len(word.contexts) < _OFFICIAL_CONTEXTS:
            skipped[f"fewer than {_OFFICIAL_CONTEXTS} contexts"] += 1
            continue
        if any(word.word not in table for table in tables):
            raise FirstwordsError(
                f"a checkpoint has no surprisal of '{word.word}'", do="evaluate all checkpoints on the same data"
            )
        months = child_age(word.shares)
        bits_P = np.array([float(table[word.word]["surprisal_bits"]) for table in tables])
        chance = float(tables[0][word.word]["chance_bits"])
        log_age = (
            official_age(seen_P, bits_P * math.log(2))
            if protocol == "babylm-2025"
            else model_age(seen_P, bits_P, chance)
        )
        if months is None or isinstance(log_age, str):
            skipped["children: no age" if months is None else f"model: {log_age}"] += 1
            continue
        rows.append({"word": word.word, "months": months, "words_seen": 10**log_age - 1, "log10_words_seen": log_age})
    pearson, spearman = correlations([row["log10_words_seen"] for row in rows], [row["months"] for row in rows])
    return LearningAges(
        protocol,
        f"{_STATEMENTS[protocol]} {_AGE_STATEMENTS[protocol]} A child's age is where a sigmoid fitted to the shares of "
        "children who say the word is 0.5. Intervals: Fisher's z, for ranks as Bonett & Wright 2000.",
        pearson,
        spearman,
        rows,
        dict(skipped),
    )


def sigmoid(x_P: np.ndarray, rise: float, slope: float, middle: float, floor: float) -> np.ndarray:
    """rise / (1 + exp(-slope (x - middle))) + floor."""
    # Written as the official script has it: where a fit barely ends, the last digit decides whether it does.
    value: np.ndarray = rise / (1 + np.exp(-slope * (x_P - middle))) + floor
    return value


def child_age(shares: Mapping[int, float]) -> float | None:
    """The months at which half of the children say a word, by the official script's fit; None outside of the ages."""
    ages = np.array([age for age, share in shares.items() if math.isfinite(share)], dtype=np.float64)
    values = np.array([share for share in shares.values() if math.isfinite(share)])
    if len(ages) < 3:
        return None
    bounds = ([0, 0, ages[0], -0.5], [2, 1, ages[-1], 0.5])
    fitted = _fit(ages, values, [1.0, 0.1, float(ages.mean()), 0.0], bounds)
    return None if fitted is None else _crossing(fitted, 0.5, ages[0], ages[-1])


def official_age(seen_P: np.ndarray, nats_P: np.ndarray) -> float | str:
    """log10 of the words seen at which a word is learnt as the official script tells it, or why there is none."""
    x_P, y_P = np.log10(seen_P + 1), -nats_P
    fitted = _fit(x_P, y_P, [float(y_P.max() - y_P.min()), 1.0, float(x_P.mean()), float(y_P.min())], None)
    if fitted is None:
        return "no curve fits"
    chance = math.log2(_OFFICIAL_VOCABULARY)
    threshold = -(chance - 0.5 * (chance - float(nats_P.min())))
    age = _crossing(fitted, threshold, x_P[0], x_P[-1])
    return "not learnt between the first and the last checkpoint" if age is None else age


def model_age(seen_P: np.ndarray, bits_P: np.ndarray, chance: float) -> float | str:
    """log10 of the words seen at which a word is learnt (Chang & Bergen 2022), or why there is no such number."""
    if chance - float(bits_P.min()) < _LEAST_GAIN_BITS:
        return "never a bit below chance"
    x_P, y_P = np.log10(seen_P + 1), -bits_P
    span, lowest = max(1e-6, float(y_P.max() - y_P.min())), float(y_P.min())
    # The curve falls nowhere, and is not steeper than a step between two checkpoints.
    bounds = ([0.0, 0.0, x_P[0], lowest - span], [3 * span, 60.0, x_P[-1], lowest + span])
    fitted = _fit(x_P, y_P, [span, 3.0, float(np.median(x_P)), lowest], bounds)
    if fitted is None:
        return "no curve fits"
    threshold = -(chance + float(bits_P.min())) / 2
    if sigmoid(x_P[:1], *fitted)[0] >= threshold:
        return "learnt before the first checkpoint"
    age = _crossing(fitted, threshold, x_P[0], x_P[-1])
    return "not learnt by the last checkpoint" if age is None else age


Curve = tuple[float, float, float, float]


def _fit(x_P: np.ndarray, y_P: np.ndarray, start: Sequence[float], bounds: Any) -> Curve | None:
    """Least squares; None where the search does not end."""
    import warnings

    from scipy.optimize import OptimizeWarning, curve_fit

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # Its warning is that the parameters' own errors cannot be told, and nobody asks for them.
        warnings.simplefilter("ignore", OptimizeWarning)
        try:
            found, _ = curve_fit(
                sigmoid, x_P, y_P, p0=start, maxfev=1_000, **({} if bounds is None else {"bounds": bounds})
            )
        except RuntimeError:
            return None
    rise, slope, middle, floor = (float(value) for value in found)
    return rise, slope, middle, floor


def _crossing(curve: Curve, height: float, first: float, last: float) -> float | None:
    """Where a rising curve has this height, if that is from `first` to `last`."""
    rise, slope, middle, floor = curve
    if rise <= 0 or slope <= 0 or not floor < height < rise + floor:
        return None
    place = middle - math.log(rise / (height - floor) - 1) / slope
    return place if first <= place <= last else None


def correlations(one_I: Sequence[float], other_I: Sequence[float]) -> tuple[Measure | None, Measure | None]:
    """Pearson's and Spearman's with 95% intervals; None of fewer than four words, or where all are equal."""
    from scipy.stats import pearsonr, spearmanr

    if len(one_I) < 4 or len(set(one_I)) < 2 or len(set(other_I)) < 2:
        return None, None
    rank = float(spearmanr(one_I, other_I).statistic)
    return (
        _measure(float(pearsonr(one_I, other_I).statistic), len(one_I), lambda _: 1.0),
        _measure(rank, len(one_I), lambda value: math.sqrt(1 + value**2 / 2)),
    )


def _measure(value: float, count: int, widening: Callable[[float], float]) -> Measure:
    if abs(value) >= 1:
        return Measure(value, value, value, count)
    half = 1.959963984540054 * widening(value) / math.sqrt(count - 3)
    return Measure(value, math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half), count)


def _words(contexts: Path, ages: Path) -> list[LearntWord]:
    shares = _shares(ages)
    try:
        values = json.loads(contexts.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _wrong(f"the file cannot be read: {error}", str(contexts)) from None
    if not isinstance(values, dict):
        raise _wrong("the file is no JSON object of words", str(contexts))
    words = []
    for word, entries in values.items():
        where = f"{contexts}, word '{word}'"
        if not isinstance(entries, list):
            raise _wrong("no list of contexts stands under the word", where)
        texts = [entry.get("context") if isinstance(entry, dict) else None for entry in entries]
        if not word.strip() or word != word.strip() or len(word.split()) != 1:
            raise _wrong("a word is one word, without spaces", where)
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise _wrong("a context is no text under 'context'", where)
        if word not in shares:
            raise _wrong(f"{ages.name} has no line of this word", where)
        # Some words of the published file were found in no text, and are in no result.
        if texts:
            words.append(LearntWord(word, tuple(map(str, texts)), shares[word]))
    if not words:
        raise _wrong("no word has a context", str(contexts))
    return words


def _shares(path: Path) -> dict[str, dict[int, float]]:
    """Of each word the share of children by age; NaN where a cell is empty."""
    with StringIO(read_text(path), newline="") as file:
        table = csv.DictReader(file)
        ages = [name for name in table.fieldnames or () if name.isdecimal()]
        if "word" not in (table.fieldnames or ()) or len(ages) < 3:
            raise _wrong("the table lacks the column 'word', or columns named by ages in months", f"{path}:1")
        found: dict[str, dict[int, float]] = {}
        for row in table:
            try:
                found[row["word"]] = {int(age): float(row[age]) if row[age] else math.nan for age in ages}
            except (TypeError, ValueError):
                raise _wrong("a share is no number", f"{path}:{table.line_num}") from None
    return found


def _no_token(text: str) -> FirstwordsError:
    return FirstwordsError(
        "the tokenizer leaves no token of a word of the test set",
        where=repr(text),
        do="use a tokenizer that encodes all its characters (tokenizer.all-bytes = true)",
    )


def _wrong(what: str, where: str) -> FirstwordsError:
    return FirstwordsError(what, where=where, do="use the files as they are published")


TASK = AgeOfAcquisition()
