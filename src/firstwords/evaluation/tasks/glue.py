"""Seven tasks of GLUE and SuperGLUE: does what a model has learnt help it to learn to judge pairs of texts?

A copy of the model is trained on the training items and judges the validation items, which are the ones that count, as
BabyLM's pipeline of 2025 has it. Its settings, forms of the texts and choice of the epoch are those of its
eval_finetuning.sh and evaluation_pipeline/finetune (github.com/babylm/evaluation-pipeline-2025).

Shape letters: I items, B resamples.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Formatter
from typing import Any, Literal

import numpy as np

from firstwords.errors import FirstwordsError
from firstwords.evaluation.babylm_counts import count_notes, full_counts
from firstwords.evaluation.pair_files import Row, json_rows, malformed
from firstwords.evaluation.statistics import wilson
from firstwords.evaluation.subject import Progress, Subject
from firstwords.evaluation.tasks.choices import mean_of
from firstwords.evaluation.tasks.collection import Collection, Member
from firstwords.evaluation.tasks.fine_tuning import OFFICIAL, FineTuning, Rows, encode_pairs, fine_tune
from firstwords.evaluation.tasks.task import Lookup, Measure, NotFound, TaskData, TaskResult

PROTOCOL = "babylm-2025"
_RESAMPLES, _RESAMPLING_SEED = 10_000, 1
_GET = "take the folder glue_filtered of evaluation_data/full_eval from osf.io/ryjfm, and name it with --data"


@dataclass(frozen=True, slots=True)
class GlueItem:
    """Two texts and the number of their class. place: file and line."""

    texts: tuple[str, str]
    label: int
    place: str


@dataclass(frozen=True, slots=True)
class GlueItems:
    """What is trained on, and what is judged."""

    train: tuple[GlueItem, ...]
    valid: tuple[GlueItem, ...]


@dataclass(frozen=True, slots=True)
class GlueTask:
    """One of the tasks. key: its name in files and submissions. labels: the classes by number.

    texts: the two texts that the model reads, with the keys of a line in braces. chosen_by: the measure whose best
    epoch counts. settings: with `dataclasses.replace` a task can be had with fewer epochs.
    """

    key: str
    title: str
    citation: str
    measures: str
    labels: tuple[str, ...]
    texts: tuple[str, str]
    settings: FineTuning = OFFICIAL
    chosen_by: Literal["accuracy", "F1"] = "accuracy"
    license: str = "as BabyLM distributes it"
    masked: bool = True

    @property
    def name(self) -> str:
        """As users call it."""
        return f"glue-{self.key}"

    @property
    def protocols(self) -> Mapping[str, str]:
        """The one way in which it can be measured."""
        return {
            PROTOCOL: "fine-tuned with the settings of BabyLM's pipeline of 2025; a causal model is read after the "
            "last token"
        }

    def load(self, lookup: Lookup) -> TaskData:
        """Training and validation items. Raises NotFound, and FirstwordsError for a malformed line."""
        train = lookup.find((f"{self.key}.train.jsonl",), what=self.title, get=_GET)
        # Both files from one folder: another folder may hold another selection.
        valid = train.with_name(f"{self.key}.valid.jsonl")
        if not valid.is_file():
            raise NotFound(
                f"{self.title} is not whole: there is no {valid.name} beside {train.name}",
                where=str(train.parent),
                do=_GET,
            )
        items = GlueItems(tuple(self._items(train)), tuple(self._items(valid)))
        if not items.valid:
            raise FirstwordsError("the file has no item", where=str(valid), do="replace it")
        digest = hashlib.sha256()
        for part in (items.train, items.valid):
            digest.update(json.dumps([[*item.texts, item.label] for item in part]).encode())
        return TaskData(items, str(train.parent), digest.hexdigest())

    def evaluate(self, subject: Subject, data: TaskData, protocol: str, progress: Progress | None = None) -> TaskResult:
        """Fine-tune a copy of the model, and judge; see Task. The model itself stays as it is."""
        if protocol not in self.protocols:
            raise FirstwordsError(f"'{self.name}' has no protocol '{protocol}'", do=f"use {PROTOCOL}")
        items: GlueItems = data.items
        most_tokens = min(self.settings.most_tokens, subject.positions or self.settings.most_tokens)
        train, valid = (_rows(subject, part, most_tokens) for part in (items.train, items.valid))
        epochs = fine_tune(
            subject.encoder(),
            train,
            [item.label for item in items.train],
            valid,
            self.settings,
            classes=len(self.labels),
            name=f"{subject.name} on {self.name}",
            progress=progress,
        )
        gold_I = np.array([item.label for item in items.valid])
        values = [_values(gold_I, epoch.predictions, len(self.labels)) for epoch in epochs]
        # Of equally good epochs the first, as max finds it.
        chosen = max(range(len(epochs)), key=lambda number: values[number][self.chosen_by])
        more = {
            "chosen epoch": chosen + 1,
            "epochs": [{"loss": epoch.loss, **own} for epoch, own in zip(epochs, values, strict=True)],
            "settings": asdict(self.settings),
            "most tokens": most_tokens,
            "cut": {"train": train.cut, "valid": valid.cut},
        }
        notes = []
        if train.cut or valid.cut:
            notes.append(
                f"{train.cut:,} of {len(items.train):,} training pairs and {valid.cut:,} of {len(items.valid):,} "
                f"judged ones are longer than {most_tokens} tokens and were cut."
            )
        return self._result(
            gold_I,
            epochs[chosen].predictions,
            self._statement(masked=subject.masked, most_tokens=most_tokens),
            notes,
            more,
        )

    def _result(
        self, gold_I: np.ndarray, found_I: np.ndarray, statement: str, notes: list[str], more: Mapping[str, Any]
    ) -> TaskResult:
        floors = {"majority class": max(Counter(gold_I.tolist()).values()) / len(gold_I)}
        others = {}
        if len(self.labels) == 2:
            others = {name: asdict(_resampled(gold_I, found_I, name)) for name in ("F1", "MCC")}
            floors["F1 of always 1"] = float(_f1(*_table(gold_I, np.ones_like(gold_I))))
        notes += count_notes([self.key] * len(gold_I), {self.key: full_counts("glue")[self.key]})
        if len(set(found_I.tolist())) == 1:
            notes.append(
                f"All items are given the same label, '{self.labels[found_I[0]]}': the model tells them not apart."
            )
        return TaskResult(
            metric="accuracy",
            statement=statement,
            overall=_accuracy(gold_I == found_I),
            parts={
                label: _accuracy(found_I[gold_I == number] == number)
                for number, label in enumerate(self.labels)
                if (gold_I == number).any()
            },
            rows=[
                {"uid": self.key, "id": f"{self.key}_{number}", "gold": int(gold), "pred": int(pred)}
                for number, (gold, pred) in enumerate(zip(gold_I, found_I, strict=True))
            ],
            notes=notes,
            more={**others, "floors": floors, **more},
        )

    def _statement(self, *, masked: bool, most_tokens: int) -> str:
        own = self.settings
        place = "at the first token" if masked else "after the last token"
        return (
            f"A pair is read as '{self.texts[0]}' and '{self.texts[1]}', with the special tokens that the tokenizer "
            f"itself puts around two texts, {most_tokens} tokens at most. The model's state {place} goes into a new "
            "head (norm, linear, GELU, norm, dropout, linear), and all weights are trained with AdamW for "
            f"{own.epochs} epoch{'s' if own.epochs > 1 else ''} in batches of {own.batch} "
            f"(learning rate {own.learning_rate:g} after a warm-up over "
            f"{own.warmup:.0%} of the steps, then a cosine to {own.last_rate:.0%} of it; weight decay "
            f"{own.weight_decay:g}; seed {own.seed}; no gradient clipping). The first epoch with the best "
            f"{self.chosen_by} counts; it is chosen on the very items that are judged, as in BabyLM's pipeline of "
            "2025, so that the result is on the high side. Accuracy (of parts: of the items that have that label) has "
            f"Wilson's 95% interval; F1 (of label 1) and MCC have the percentile bootstrap of {_RESAMPLES:,} resamples "
            "of the items. No interval counts the choice of the epoch or another seed."
            + ("" if masked else " (That pipeline's script reads the first token of any model unless told otherwise.)")
        )

    def _items(self, path: Path) -> Iterator[GlueItem]:
        for row in json_rows(path):
            label = row.values.get("label")
            if not isinstance(label, int) or not 0 <= label < len(self.labels):
                known = ", ".join(f"{number} ({name})" for number, name in enumerate(self.labels))
                raise malformed(f"the label {json.dumps(label)} is none of {known}", row.place)
            first, second = (form.format_map(_texts(row, form)) for form in self.texts)
            yield GlueItem((first, second), int(label), row.place)


def _texts(row: Row, form: str) -> dict[str, str]:
    """What stands in the line under the keys of `form`. A text may be empty: some questions of QQP are."""
    found: dict[str, str] = {}
    for _, key, _, _ in Formatter().parse(form):
        if key is None:
            continue
        value = row.values.get(key)
        if not isinstance(value, str):
            raise malformed(f"the line has no text under '{key}'", row.place)
        found[key] = value
    return found


def _rows(subject: Subject, items: Sequence[GlueItem], most_tokens: int) -> Rows:
    rows = encode_pairs(subject.reader, [item.texts for item in items], most_tokens)
    for item, ids in zip(items, rows.ids, strict=True):
        if not len(ids):
            raise malformed("the texts of the line have no token for this tokenizer", item.place)
    return rows


def _accuracy(right_I: np.ndarray) -> Measure:
    right, count = int(right_I.sum()), len(right_I)
    return Measure(right / count, *wilson(right, count), count)


def _values(gold_I: np.ndarray, found_I: np.ndarray, classes: int) -> dict[str, float]:
    """The measures that are official: accuracy, and of two classes F1 and MCC."""
    values = {"accuracy": float((gold_I == found_I).mean())}
    if classes == 2:
        table = _table(gold_I, found_I)
        values |= {"F1": float(_f1(*table)), "MCC": float(_mcc(*table))}
    return values


def _table(gold_I: np.ndarray, found_I: np.ndarray) -> np.ndarray:
    """How many items are rightly 1, wrongly 1, wrongly 0 and rightly 0, (4,)."""
    return np.bincount(2 * (1 - found_I) + (1 - gold_I), minlength=4).astype(float)


def _f1(right1: Any, wrong1: Any, wrong0: Any, right0: Any) -> Any:
    """F1 of label 1, 0 where it is neither given nor found. Source: van Rijsbergen 1979."""
    return 2 * right1 / np.maximum(2 * right1 + wrong1 + wrong0, 1)


def _mcc(right1: Any, wrong1: Any, wrong0: Any, right0: Any) -> Any:
    """Matthews' correlation, 0 where all items have one label or are given one. Source: Matthews 1975."""
    product = (right1 + wrong1) * (right1 + wrong0) * (right0 + wrong1) * (right0 + wrong0)
    return (right1 * right0 - wrong1 * wrong0) / np.sqrt(np.maximum(product, 1))


def _resampled(gold_I: np.ndarray, found_I: np.ndarray, name: str) -> Measure:
    """F1 or MCC with its interval; none where all resamples agree, as with a model that gives all one label.

    Drawing items again is drawing the cells of their table again, for the measure is a function of these alone.
    """
    measure = {"F1": _f1, "MCC": _mcc}[name]
    table, count = _table(gold_I, found_I), len(gold_I)
    drawn_B4 = np.random.default_rng(_RESAMPLING_SEED).multinomial(count, table / count, _RESAMPLES)
    values_B = measure(*drawn_B4.T)
    low, high = (float(limit) for limit in np.quantile(values_B, (0.025, 0.975)))
    told = bool(np.ptp(values_B) > 0)
    value = float(measure(*table))
    return Measure(value, low if told else None, high if told else None, count)


@dataclass(frozen=True, slots=True)
class GlueMean:
    """Unweighted means over tasks. accuracy: as the organisers score submissions. with_f1: as their tables have it,
    with F1 in place of accuracy for MRPC and QQP. missing: the tasks that are not in it."""

    accuracy: Measure
    with_f1: Measure
    missing: tuple[str, ...]


def mean_over_tasks(results: Mapping[str, TaskResult]) -> GlueMean:
    """The overall result of the tasks that there are, by name; intervals are combined (Zou & Donner 2008).

    Sources: calculate_results_from_pred.py and the README of github.com/babylm/evaluation-pipeline-2025.
    Raises FirstwordsError where none of the results is of these tasks.
    """
    there = [task for task in TASKS if task.name in results]
    if not there:
        raise FirstwordsError("there is no result of a GLUE task", do=f"evaluate one of {', '.join(FULL_NAMES)} first")
    accuracies = [results[task.name].overall for task in there]
    mixed = [
        Measure(**results[task.name].more["F1"]) if task.chosen_by == "F1" else own
        for task, own in zip(there, accuracies, strict=True)
    ]
    missing = tuple(task.name for task in TASKS if task not in there)
    return GlueMean(mean_of(accuracies), mean_of(mixed), missing)


_NO_YES = ("no", "yes")
_GLUE = "Wang et al. 2018, GLUE, BlackboxNLP"
_SUPERGLUE = "Wang et al. 2019, SuperGLUE, NeurIPS"

BOOLQ = GlueTask(
    "boolq",
    "BoolQ",
    f"Clark et al. 2019, BoolQ, NAACL; {_SUPERGLUE}",
    "whether a passage answers a question with yes: accuracy after fine-tuning",
    _NO_YES,
    ("{question}", "{passage}"),
    FineTuning(batch=16),
)
MNLI = GlueTask(
    "mnli",
    "MNLI",
    f"Williams, Nangia & Bowman 2018, MultiNLI, NAACL; {_GLUE}",
    "whether a sentence follows from another, contradicts it, or neither: accuracy after fine-tuning",
    ("entailment", "neutral", "contradiction"),
    ("{premise}", "{hypothesis}"),
)
MRPC = GlueTask(
    "mrpc",
    "MRPC",
    f"Dolan & Brockett 2005, Automatically Constructing a Corpus of Sentential Paraphrases, IWP; {_GLUE}",
    "whether two sentences say the same: accuracy and F1 after fine-tuning",
    ("not equivalent", "equivalent"),
    ("{sentence1}", "{sentence2}"),
    chosen_by="F1",
)
MULTIRC = GlueTask(
    "multirc",
    "MultiRC",
    f"Khashabi et al. 2018, Looking Beyond the Surface, NAACL; {_SUPERGLUE}",
    "whether an answer to a question on a paragraph is right: accuracy after fine-tuning",
    _NO_YES,
    ("Question: {question} Answer: {answer}", "{paragraph}"),
    FineTuning(batch=16),
)
QQP = GlueTask(
    "qqp",
    "QQP",
    f"Iyer, Dandekar & Csernai 2017, Quora Question Pairs; {_GLUE}",
    "whether two questions ask the same: accuracy and F1 after fine-tuning",
    ("not duplicate", "duplicate"),
    ("{question1}", "{question2}"),
    chosen_by="F1",
)
RTE = GlueTask(
    "rte",
    "RTE",
    f"Dagan, Glickman & Magnini 2006 and later challenges on textual entailment; {_GLUE}",
    "whether a sentence follows from a text: accuracy after fine-tuning",
    ("entailment", "not entailment"),
    ("{sentence1}", "{sentence2}"),
)
WSC = GlueTask(
    "wsc",
    "WSC",
    f"Levesque, Davis & Morgenstern 2012, The Winograd Schema Challenge, KR; {_SUPERGLUE}",
    "whether a pronoun means a given person or thing: accuracy after fine-tuning",
    _NO_YES,
    ('Does "{span2_text}" refer to "{span1_text}" in this passage?', "{text}"),
    FineTuning(epochs=30),
)
TASKS = (BOOLQ, MNLI, MRPC, MULTIRC, QQP, RTE, WSC)
FULL_NAMES = tuple(task.name for task in TASKS)

COLLECTION = Collection(
    name="glue",
    title="fine-tuning on seven tasks of GLUE and SuperGLUE (BabyLM 2025)",
    citation=f"{_GLUE}; {_SUPERGLUE}; as chosen and filtered by BabyLM 2025",
    full=tuple(Member(name, PROTOCOL) for name in FULL_NAMES),
    # Checkpoints are not fine-tuned.
    fast=(),
)
