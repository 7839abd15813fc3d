"""The results of models, read from the files that evaluation wrote, and the tables that show them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from firstwords.evaluation.reference import reference_overall, reference_phenomena
from firstwords.run_folder import RunFolder, read_json, undamaged

UNTRAINED = "untrained."
_PAPER = " (paper)"
_CHECKPOINT = re.compile(r"(words-\d+M?|best|last|ema)\.(.+)")


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Share of minimal pairs judged right (0 to 1) with its 95% interval."""

    share: float
    low: float
    high: float
    pairs: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One suite under one protocol."""

    overall: Accuracy
    phenomena: dict[str, Accuracy]
    overall_is: str
    """`mean of 67 paradigms` or `all pairs pooled`, as the protocol says."""
    beside: dict[str, dict[str, float]]
    """What it must be compared with, overall ("") and by phenomenon: floors that need no grammar, and on BLiMP what its
    paper tells of other models and people."""
    overlap: str
    """What of the suite stands in the training text, and the accuracy without it; empty where nobody looked."""
    sha256: str
    """Of the pairs. Accuracies on others do not stand beside these."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A task that is no minimal pairs, under one protocol: its number, interval and parts as the task tells them."""

    metric: str
    value: float
    low: float | None
    high: float | None
    items: int
    parts: dict[str, float]
    sha256: str
    """Of its items. Numbers of others do not stand beside this one."""


class HasResults(Protocol):
    """A model with a name and results by `<suite>.<protocol>`; the untrained control's have `untrained.` before it."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    @property
    def evaluations(self) -> dict[str, Evaluation]:
        """Minimal pairs."""
        ...

    @property
    def measures(self) -> dict[str, Measured]:
        """Other tasks."""
        ...


@dataclass(frozen=True, slots=True)
class ModelResults:
    """The results of one model."""

    name: str
    evaluations: dict[str, Evaluation]
    measures: dict[str, Measured]


def checkpoint_of(name: str) -> tuple[str | None, str]:
    """`words-0001M.blimp.firstwords` -> ("words-0001M", "blimp.firstwords"); None for the selected model."""
    match = _CHECKPOINT.fullmatch(name)
    return (match[1], match[2]) if match else (None, name)


def result_names(run: RunFolder) -> list[str]:
    """Names of all results that the run itself marks as done, of every checkpoint."""
    marks = sorted((run.path / "done").glob("evaluation.*.json"))
    names = [mark.name.removeprefix("evaluation.").removesuffix(".json") for mark in marks]
    return [name for name in names if run.has_result(name)]


def read_results(run: RunFolder, checkpoint: str | None = None) -> tuple[dict[str, Evaluation], dict[str, Measured]]:
    """Results of one checkpoint (None: the selected one) by `<suite>.<protocol>`: minimal pairs, and other tasks.

    Raises FirstwordsError where one is damaged.
    """
    evaluations: dict[str, Evaluation] = {}
    measures: dict[str, Measured] = {}
    for name in result_names(run):
        of, plain = checkpoint_of(name)
        if of != checkpoint:
            continue
        with undamaged(f"the result '{name}'", run.result_path(name)):
            values = run.result(name)
            if "metric" in values:
                measures[plain] = _measured(values)
            else:
                pairs = values["data"]["sha256"]
                evaluations[plain] = _evaluation(values, _floors(run, plain, pairs), _overlap(run, plain, pairs))
    return evaluations, measures


def _floors(run: RunFolder, plain: str, pairs: str) -> dict[str, dict[str, float]]:
    """What a guess, word frequency and a 5-gram model reach on these pairs (their checksum), where it was computed."""
    try:
        floors = _of_pairs(run.stage("evaluation") / f"{plain}.floors.json", pairs)["floors"]
    except (OSError, ValueError, KeyError):
        return {}
    return {
        name: {"": values["overall"]["accuracy"]} | {key: one["accuracy"] for key, one in values["phenomena"].items()}
        for name, values in floors.items()
    }


def _of_pairs(path: Path, pairs: str) -> dict[str, Any]:
    """What was told of a suite. Raises ValueError where it had other pairs then."""
    values = read_json(path)
    if not str(values["suite_sha256"]).startswith(pairs):
        raise ValueError(f"{path} is of other pairs")
    return values


def _overlap(run: RunFolder, plain: str, pairs: str) -> str:
    """One line of what was found of these pairs in the training text, where it was looked for."""
    try:
        values = _of_pairs(run.stage("evaluation") / f"{plain}.overlap.json", pairs)
        counts, accuracy = values["counts"], values["accuracy"]
        if not counts["pairs_touched"]:
            return "no sentence of it stands in the training text, nor eight words of one in a row"
        told = (
            f"{counts['sentences_found']:,} of {counts['sentences']:,} sentences stand in the training text, "
            f"{counts['sentences_with_ngrams_found']:,} share eight words in a row with it: "
            f"{counts['pairs_touched']:,} of {counts['pairs']:,} pairs"
        )
        if accuracy["without"] is None:
            return told
        without, whole = (100 * accuracy[key]["accuracy"] for key in ("without", "all"))
        return f"{told}; {without:.1f}% without them, {whole:.1f}% with them"
    except (OSError, ValueError, KeyError):
        return ""


def _evaluation(values: dict[str, Any], floors: dict[str, dict[str, float]], overlap: str) -> Evaluation:
    paradigms = values["settings"]["overall"] == "paradigms"
    overall, phenomena = reference_overall(list(values["paradigms"])), reference_phenomena(list(values["paradigms"]))
    references = {f"{name}{_PAPER}": {"": overall[name], **phenomena[name]} for name in overall}
    return Evaluation(
        _accuracy(values["overall"]),
        {name: _accuracy(part) for name, part in values["phenomena"].items()},
        f"mean of {len(values['paradigms'])} paradigms" if paradigms else "all pairs pooled",
        floors | references,
        overlap,
        values["data"]["sha256"],
    )


def _accuracy(values: dict[str, Any]) -> Accuracy:
    return Accuracy(values["accuracy"], values["low"], values["high"], values["pairs"])


def _measured(values: dict[str, Any]) -> Measured:
    overall = values["overall"]
    parts = {name: part["value"] for name, part in values["parts"].items()}
    found = overall["value"], overall["low"], overall["high"], overall["items"]
    return Measured(values["metric"], *found, parts, values["data"]["sha256"])


def titles(name: str, versions: Iterable[str]) -> dict[str, str]:
    """What results of `<suite>.<protocol>` are called, by the checksum of their data: those of the first as it is."""
    first, *others = dict.fromkeys(versions)
    return {first: name} | {other: f"{name} on other data, {other[:8]}" for other in others}


def beside_table(model: HasResults, name: str) -> list[list[str]]:
    """Floors and the paper's columns beside a model's accuracies in percent, by phenomenon and overall."""
    found = model.evaluations[name]
    rows = [["", model.name, *found.beside]]
    for label, accuracy in {**found.phenomena, "": found.overall}.items():
        cells = [f"{100 * one[label]:.1f}" if label in one else "-" for one in found.beside.values()]
        rows.append([label.replace("_", " ") or "overall", f"{100 * accuracy.share:.1f}", *cells])
    return rows


@dataclass(frozen=True, slots=True)
class AccuracyTable:
    """Models side by side on the same pairs. lines: what their accuracies must be compared with."""

    rows: list[list[str]]
    lines: list[str]


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    found: Evaluation
    whose: str | None
    """The model's name; None of an untrained control."""


def accuracy_tables(models: Sequence[HasResults]) -> dict[str, AccuracyTable]:
    """For each `<suite>.<protocol>`: overall and phenomena in percent with 95% intervals, models side by side.

    Where a suite had other pairs when some of them were evaluated, those have a table of their own.
    """
    tables = {}
    for name in dict.fromkeys(name.removeprefix(UNTRAINED) for model in models for name in model.evaluations):
        columns = list(_columns(name, models))
        for version, title in titles(name, (column.found.sha256 for column in columns)).items():
            alike = [column for column in columns if column.found.sha256 == version]
            tables[title] = AccuracyTable(_accuracy_rows(alike), _comparison_lines(alike, several=len(models) > 1))
    return tables


def _columns(name: str, models: Sequence[HasResults]) -> Iterator[_Column]:
    for model in models:
        if name in model.evaluations:
            yield _Column(model.name, model.evaluations[name], model.name)
        if UNTRAINED + name in model.evaluations:
            title = "untrained" if len(models) == 1 else f"{model.name} untrained"
            yield _Column(title, model.evaluations[UNTRAINED + name], None)


def _accuracy_rows(columns: Sequence[_Column]) -> list[list[str]]:
    phenomena = dict.fromkeys(phenomenon for column in columns for phenomenon in column.found.phenomena)
    rows = [["", "pairs", *(column.title for column in columns)]]
    lines: list[tuple[str, list[Accuracy | None]]] = [
        (phenomenon.replace("_", " "), [column.found.phenomena.get(phenomenon) for column in columns])
        for phenomenon in phenomena
    ]
    lines.append((f"overall ({columns[0].found.overall_is})", [column.found.overall for column in columns]))
    for label, cells in lines:
        pairs = next(cell.pairs for cell in cells if cell is not None)
        rows.append([label, f"{pairs:,}", *(_percent(cell) if cell else "-" for cell in cells)])
    return rows


def _comparison_lines(columns: Sequence[_Column], *, several: bool) -> list[str]:
    """A line of floors a model, one of the paper, one of the overlap. several: whether it must be said whose text is
    meant.
    """
    lines: dict[str, None] = {}
    for column in columns:
        if column.whose is None:
            continue
        beside = column.found.beside
        floors = {key: one[""] for key, one in beside.items() if not key.endswith(_PAPER)}
        paper = {key.removesuffix(_PAPER): one[""] for key, one in beside.items() if key.endswith(_PAPER)}
        whose = f" of {column.whose}'s text" if several else ""
        for title, shares in ((f"without grammar{whose}", floors), ("BLiMP's paper, overall", paper)):
            if shares:
                lines[f"{title}: " + ", ".join(f"{key} {100 * share:.1f}" for key, share in shares.items())] = None
        if column.found.overlap:
            lines[f"overlap{whose}: {column.found.overlap}"] = None
    return list(lines)


def _percent(accuracy: Accuracy) -> str:
    return f"{100 * accuracy.share:5.1f} [{100 * accuracy.low:.1f} {100 * accuracy.high:.1f}]"


def measure_table(models: Sequence[HasResults]) -> list[list[str]]:
    """Tasks that are no minimal pairs: a row a task with its metric, a column a model; empty where there are none."""
    names = dict.fromkeys(name for model in models for name in model.measures)
    if not names:
        return []
    rows = [["", "metric", *(model.name for model in models)]]
    for name in names:
        found = [model.measures.get(name) for model in models]
        for version, title in titles(name, (one.sha256 for one in found if one)).items():
            alike = [one if one and one.sha256 == version else None for one in found]
            metric = next(one.metric for one in alike if one)
            rows.append([title, metric, *(_measure(one) if one else "-" for one in alike)])
    return rows


def _measure(one: Measured) -> str:
    if one.low is None or one.high is None:
        return f"{one.value:.3f}"
    return f"{one.value:.3f} [{one.low:.3f} {one.high:.3f}]"
