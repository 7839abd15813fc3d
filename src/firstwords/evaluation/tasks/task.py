"""What a task is: a test set that is found, a model that takes it, and a result that is kept.

A task is one file of this folder with one object in it, named in `tasks/__init__.py`; copy the one that is most like
yours. Minimal pairs need only a `PairsTask`; any other measure is a class with the methods of `Task`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from firstwords.data import folders
from firstwords.errors import FirstwordsError
from firstwords.evaluation.pairs import Suite
from firstwords.evaluation.subject import Progress, Subject
from firstwords.run_folder import atomic_write_json, atomic_write_text


@dataclass(frozen=True, slots=True)
class Lookup:
    """Where test sets are looked for: the folders of `--data`, then a cache of downloads."""

    folders: Sequence[Path]
    cache: Path
    offline: bool = False
    say: Callable[[str], None] | None = None

    def find(self, names: Sequence[str], *, what: str, get: str) -> Path:
        """The first file or folder (a name that ends in "/") of `names` under --data.

        what: the test set, get: where a user gets it, both for the message. Raises NotFound.
        """
        found = folders.find(names, self.folders)
        if found is None:
            raise NotFound(
                f"{what} is not there: no {' or '.join(names)}",
                where=", ".join(f"--data {folder}" for folder in self.folders) or "no --data folder was given",
                do=get,
            )
        return found


class NotFound(FirstwordsError):
    """A test set is nowhere under --data; a collection of tasks leaves it out and says so."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of a task with its 95% interval (None where none can be told) and how many items it is of."""

    value: float
    low: float | None
    high: float | None
    items: int


@dataclass(frozen=True, slots=True)
class TaskData:
    """The items of a task, as its file reads them. sha256: of the items themselves, or of the files."""

    items: Any
    origin: str
    sha256: str


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What one model reached on one task under one protocol.

    metric: what `overall` and `parts` are, as in "accuracy" or "Spearman's rho". statement: how it was measured, whole.
    rows: one a item, all with the same keys; the file of predictions. Numbers in `more` are kept beside.
    """

    metric: str
    statement: str
    overall: Measure
    parts: Mapping[str, Measure]
    rows: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


class Task(Protocol):
    """A test set that is no plain minimal pairs, and how a model takes it.

    protocols: names and one-line descriptions of the ways in which it can be measured; the first is the default.
    masked: whether masked models can take it too.
    """

    name: str
    title: str
    license: str
    citation: str
    measures: str
    protocols: Mapping[str, str]
    masked: bool

    def load(self, lookup: Lookup) -> TaskData:
        """Read the items. Raises NotFound, and FirstwordsError naming file and line for what is malformed."""
        ...

    def evaluate(self, subject: Subject, data: TaskData, protocol: str, progress: Progress | None = None) -> TaskResult:
        """Measure the model. Scores come from `subject.line_log_probs` or `line_scores`, which refuse NaN."""
        ...


@dataclass(frozen=True, slots=True)
class PairsTask:
    """A named test set of minimal pairs: judged under any protocol of `protocols.py` by `judging.evaluate_suite`."""

    name: str
    title: str
    license: str
    citation: str
    measures: str
    read: Callable[[Lookup], Suite]

    def load(self, lookup: Lookup) -> Suite:
        """The pairs. Raises NotFound, and FirstwordsError naming file and line for what is malformed."""
        return self.read(lookup)


def write_task_result(
    result: TaskResult, folder: Path, name: str, *, task: Task, protocol: str, data: TaskData, facts: Mapping[str, Any]
) -> Path:
    """Write `<name>.items.csv`, then `<name>.json`, whose path is returned. facts: of model, machine and versions."""
    rows = io.StringIO()
    if result.rows:
        writer = csv.DictWriter(rows, list(result.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(result.rows)
    atomic_write_text(folder / f"{name}.items.csv", rows.getvalue())
    values = {
        "task": task.name,
        "protocol": protocol,
        "statement": result.statement,
        "metric": result.metric,
        "overall": asdict(result.overall),
        "parts": {part: asdict(measure) for part, measure in result.parts.items()},
        "notes": list(result.notes),
        "more": dict(result.more),
        "data": {"origin": data.origin, "sha256": data.sha256, "license": task.license},
    }
    atomic_write_json(folder / f"{name}.json", values | dict(facts))
    return folder / f"{name}.json"
