"""WUG tests: does a model form words from made-up words as people do?

Each item is a few sentences that differ in the form they give a made-up word, and the share of people who chose the
first form. The model's share of the first form is the softmax of the sentences' log-probabilities; the result is
Spearman's rho between the two over the items.

Shape letters: I items, B resamples.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from firstwords.errors import FirstwordsError
from firstwords.evaluation.babylm_counts import count_notes, full_counts
from firstwords.evaluation.pair_files import Row, json_rows, malformed
from firstwords.evaluation.reader import CONTEXTS, Context
from firstwords.evaluation.subject import Progress, Subject, line_scores
from firstwords.evaluation.tasks.task import Lookup, Measure, TaskData, TaskResult

_CONTEXTS: dict[str, Context] = {"firstwords": "bos", "babylm-2025": "tokenizer"}
_RESAMPLES, _SEED = 10_000, 1


@dataclass(frozen=True, slots=True)
class WugItem:
    """Sentences that differ in a form. ratio: the share of people who chose the first. place: file and line."""

    sentences: tuple[str, ...]
    ratio: float
    place: str


@dataclass(frozen=True, slots=True)
class WugTest:
    """One of the two tests. key: its name in a BabyLM submission."""

    name: str
    key: str
    title: str
    citation: str
    measures: str
    license: str = "as BabyLM distributes it"
    masked: bool = True

    @property
    def protocols(self) -> Mapping[str, str]:
        """The ways in which it can be measured."""
        return {
            "firstwords": "after BOS",
            "babylm-2025": "as BabyLM's pipeline of 2025: BOS only where the tokenizer itself adds it",
        }

    def load(self, lookup: Lookup) -> TaskData:
        """The items. Raises NotFound, and FirstwordsError for a malformed line."""
        stem = self.name.replace("-", "_")
        path = lookup.find(
            (f"{stem}.jsonl",),
            what=self.title,
            get=f"take the folder {stem} of evaluation_data/full_eval from osf.io/ryjfm, and name it with --data",
        )
        items = tuple(_item(row) for row in json_rows(path))
        if len(items) < 3:
            raise FirstwordsError(
                f"a correlation needs three items, and the file has {len(items)}", where=str(path), do="replace it"
            )
        digest = hashlib.sha256(json.dumps([[*item.sentences, item.ratio] for item in items]).encode())
        return TaskData(items, str(path), digest.hexdigest())

    def evaluate(self, subject: Subject, data: TaskData, protocol: str, progress: Progress | None = None) -> TaskResult:
        """Spearman's rho between the model's shares and people's; see Task."""
        items: Sequence[WugItem] = data.items
        context: Context = "both-sides" if subject.masked else _CONTEXTS[protocol]
        others = "all other tokens" if subject.masked else "tokens before it"
        shares = _shares(subject, items, context, protocol, progress)
        first_I = np.array([own[0] for own in shares])
        people_I = np.array([item.ratio for item in items])
        overall, notes = spearman(first_I, people_I)
        return TaskResult(
            metric="Spearman's rho",
            statement=f"A sentence is scored by the sum of log p(token | {others}) {CONTEXTS[context]}; "
            "float32 log-probabilities, summed in float64. The model's share of the first form is the softmax over "
            "an item's sentences; the result is Spearman's rho between these shares and those of people, over the "
            f"items. The interval is the bias-corrected bootstrap (BCa) of {_RESAMPLES:,} resamples of the items.",
            overall=overall,
            parts={},
            rows=[
                {
                    "uid": self.key,
                    "id": f"{self.key}_{number}",
                    "pred": item.sentences[int(np.argmax(own))],
                    "prob": own[0],
                    "people": item.ratio,
                }
                for number, (item, own) in enumerate(zip(items, shares, strict=True))
            ],
            notes=[*notes, *count_notes((self.key for _ in items), full_counts(self.key))],
        )


def _item(row: Row) -> WugItem:
    sentences = tuple(row.text("sentences").split("\t"))
    if len(sentences) < 2 or not all(sentence.strip() for sentence in sentences):
        raise malformed("the line has no sentences, separated by tabs, under 'sentences'", row.place)
    ratio = row.number_of("ratio")
    if not 0 <= ratio <= 1:
        raise malformed(f"the ratio {ratio:g} is no share between 0 and 1", row.place)
    return WugItem(sentences, ratio, row.place)


def _shares(
    subject: Subject, items: Sequence[WugItem], context: Context, name: str, progress: Progress | None
) -> list[list[float]]:
    """For every item the softmax over its sentences' log-probabilities."""
    owners = [item for item in items for _ in item.sentences]
    texts = [sentence for item in items for sentence in item.sentences]
    lines = subject.reader.lines(texts, context, name=name)
    scores = line_scores(
        subject, lines, describe=lambda number: f"{owners[number].place}: {texts[number]!r}", progress=progress
    )
    borders = np.cumsum([len(item.sentences) for item in items])[:-1]
    return [_softmax(own).tolist() for own in np.split(scores, borders)]


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers: np.ndarray = np.exp(scores - scores.max())
    return powers / powers.sum()


def spearman(model_I: np.ndarray, people_I: np.ndarray) -> tuple[Measure, list[str]]:
    """Spearman's rho of two measures of the same items, with its BCa bootstrap interval, and notes.

    Where either does not differ between items no correlation can be told: 0 without an interval, and a note.
    """
    from scipy.stats import DegenerateDataWarning, bootstrap, spearmanr

    count = len(model_I)
    if len(set(model_I.tolist())) < 2 or len(set(people_I.tolist())) < 2:
        note = "The model or the people do not tell the items apart, so that there is no correlation; it is given as 0."
        return Measure(0.0, None, None, count), [note]
    rho = float(spearmanr(model_I, people_I).statistic)
    # Resamples of few items may all agree; then there is no interval, which the result says by having none.
    with (
        np.errstate(invalid="ignore", divide="ignore"),
        warnings.catch_warnings(action="ignore", category=DegenerateDataWarning),
    ):
        interval = bootstrap(
            (model_I, people_I),
            _rho,
            paired=True,
            vectorized=True,
            n_resamples=_RESAMPLES,
            batch=1_000,
            rng=np.random.default_rng(_SEED),
        ).confidence_interval
    low, high = float(interval.low), float(interval.high)
    told = np.isfinite(low) and np.isfinite(high)
    return Measure(rho, low if told else None, high if told else None, count), []


def _rho(model_BI: np.ndarray, people_BI: np.ndarray, axis: int = -1) -> Any:
    from scipy.stats import rankdata

    ranks = [rankdata(values, axis=axis) for values in (model_BI, people_BI)]
    centred = [rank - rank.mean(axis=axis, keepdims=True) for rank in ranks]
    norms = [np.sqrt((values**2).sum(axis=axis)) for values in centred]
    return (centred[0] * centred[1]).sum(axis=axis) / (norms[0] * norms[1])


ADJECTIVES = WugTest(
    name="wug-adj-nominalization",
    key="wug_adj",
    title="WUG adjective nominalisation",
    citation="Hofmann et al. 2024, Derivational Morphology Reveals Analogical Generalization in Large Language Models, "
    "arXiv:2411.07990",
    measures="whether made-up adjectives become nouns in -ity or -ness as people form them: Spearman's rho",
)
PAST_TENSE = WugTest(
    name="wug-past-tense",
    key="wug_past",
    title="WUG past tense",
    citation="Weissweiler et al. 2023, Counting the Bugs in ChatGPT's Wugs, EMNLP",
    measures="whether made-up verbs take the past tense that people give them: Spearman's rho",
)
