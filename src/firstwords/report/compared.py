"""Several models held against the first: what they are, side by side, and the paired differences of each.

The data of every form of `firstwords compare` and of the card's comparison with a sibling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal, cast

from firstwords.evaluation import significance
from firstwords.evaluation.statistics import Interval, SeedsInterval
from firstwords.report.comparison import SURE, Comparison, Overall, Row, compare
from firstwords.report.judgements import Result, find_results, read_result
from firstwords.report.page_parts import listed
from firstwords.report.results import titles
from firstwords.report.summary import RunSummary, fact_groups, summarize
from firstwords.run_folder import RunFolder, read_json, undamaged

By = Literal["phenomenon", "field", "paradigm"]
"""What a line of a table of differences is."""

_NOT_COMPARED = ("run", "result")
"""Topics of a run's facts that say nothing of the model."""
LETTERS = (*ascii_uppercase, *map("".join, product(ascii_uppercase, repeat=2)))


@dataclass(frozen=True, slots=True)
class Seed:
    """One result's model. results: its files by suite and protocol. run: what its run says, where a run made it."""

    name: str
    results: Mapping[tuple[str, str], Path]
    run: RunSummary | None = None

    @classmethod
    def of_folder(cls, name: str, folder: Path) -> Seed:
        """A model by the folder that holds its `evaluation`; where that is a run, with all that the run says."""
        run = summarize(RunFolder(folder)) if (folder / "recipe.toml").is_file() else None
        return cls(name, find_results(folder / "evaluation"), run)


@dataclass(frozen=True, slots=True)
class Model:
    """A model that is compared, with its seeds, and the accuracies of all its results by `<suite>.<protocol>`."""

    label: str
    seeds: tuple[Seed, ...]
    overall: SeedsInterval


@dataclass(frozen=True, slots=True)
class Compared:
    """Models side by side; comparisons: each model but the first, against the first."""

    models: tuple[Model, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def first(self) -> Comparison:
        """That of the first two; what all comparisons share (suite, protocol, pairs) can be read from it."""
        return self.comparisons[0]

    @property
    def title(self) -> str:
        """`model-b against model-a`."""
        first, *others = (model.label for model in self.models)
        return f"{listed(others)} against {first}"

    @property
    def sentences(self) -> list[str]:
        """For each comparison: whether it is better, by how much, how sure."""
        return [one.sentence for one in self.comparisons]

    @property
    def result(self) -> str:
        """`<suite>.<protocol>`."""
        return f"{self.first.suite}.{self.first.protocol}"

    def tests(self, by: By) -> int:
        """How many tests the p-values of the lines are corrected for."""
        return sum(len(rows_by(one, by)) for one in self.comparisons)

    def facts(self) -> dict[str, dict[str, list[str]]]:
        """By topic and label a cell a model: architecture, data, training, cost, losses, accuracies."""
        own = {self.result: [accuracy(model.overall) for model in self.models]}
        return side_by_side([model.seeds for model in self.models], own)

    def to_json(self) -> dict[str, Any]:
        """The comparison of the first two with the models' facts; those of further models under `others`."""
        models = [
            {
                "label": model.label,
                "seeds": [seed.name for seed in model.seeds],
                "overall": asdict(model.overall),
                "facts": {
                    topic: {label: cells[place] for label, cells in facts.items()}
                    for topic, facts in self.facts().items()
                },
            }
            for place, model in enumerate(self.models)
        ]
        return self.first.to_json() | {"models": models, "others": [one.to_json() for one in self.comparisons[1:]]}


def compare_all(
    sides: Sequence[Sequence[Seed]],
    chosen: tuple[str, str],
    references: Mapping[str, Mapping[str, float]] | None = None,
) -> Compared:
    """Hold every side against the first. sides: of each model its seeds. chosen: suite and protocol.

    The p-values of lines are corrected for those of all comparisons together. Raises what `read_result` and `compare`
    raise.
    """
    results: list[list[Result]] = [[read_result(seed.results[chosen], seed.name) for seed in side] for side in sides]
    found = _corrected([compare(results[0], side, references=references) for side in results[1:]])
    labels = [found[0].a.label, *(one.b.label for one in found)]
    overall = [found[0].overall.a, *(one.overall.b for one in found)]
    models = [Model(label, tuple(side), its) for label, side, its in zip(labels, sides, overall, strict=True)]
    return Compared(tuple(models), tuple(found))


def _corrected(found: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with the p-values of their lines corrected as one family."""
    if len(found) == 1:
        return list(found)
    together: list[Comparison] = list(found)
    for level in ("fields", "phenomena", "paradigms"):
        p = iter(significance.holm([row.p for one in together for row in getattr(one, level)]))
        together = [replace(one, **{level: _with_p(getattr(one, level), p)}) for one in together]
    overall = significance.holm([one.overall.difference.p for one in found])
    told = ", ".join(f"{one.b.label} {p_cell(p)}" for one, p in zip(found, overall, strict=True))
    note = (
        f"Each model is held against {found[0].a.label} by itself. The p of overall, corrected for {len(found)} "
        f"comparisons (Holm): {told}."
    )
    return [replace(one, notes=(*one.notes, note)) for one in together]


def _with_p(rows: Sequence[Row], p: Iterator[float]) -> Any:
    return tuple(replace(row, p_holm=next(p)) for row in rows)


# ---- side by side ----


def side_by_side(
    sides: Sequence[Sequence[Seed]], known: Mapping[str, list[str]] | None = None
) -> dict[str, dict[str, list[str]]]:
    """The cards' comparison table: by topic and label a cell a side, a dash where a side has nothing to say.

    sides: of each model its seeds. known: by result the accuracies that stand there instead of those of each seed.
    """
    runs = [seed.run for side in sides for seed in side if seed.run is not None]
    found: dict[str, dict[str, list[str]]] = {}
    for topic, facts in fact_groups(runs).items():
        for label, cells in facts.items():
            if topic not in _NOT_COMPARED or label == "seed":
                by_run = dict(zip(map(id, runs), cells, strict=True))
                title = "architecture" if label == "seed" else topic
                found.setdefault(title, {})[label] = [_cell(side, label, by_run) for side in sides]
    found["accuracy, 95% interval"] = _accuracies(sides, known or {})
    return found


def _cell(side: Sequence[Seed], label: str, by_run: Mapping[int, str]) -> str:
    """What a model's seeds say of a fact, each answer once; of a model that no run made what its results know."""
    cells = [by_run[id(seed.run)] for seed in side if seed.run is not None]
    if not cells:
        facts = _facts_of(side[0])
        known = facts.get(label, facts.get("class") if label == "architecture" else None)
        return "-" if known is None else f"{known:,}" if isinstance(known, int) else str(known)
    return _joined(cells)


def _accuracies(sides: Sequence[Sequence[Seed]], known: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """All results on minimal pairs that any of the models has, and their other tasks; those on other data apart."""
    found: dict[str, list[str]] = {}
    read = [[_told_by(seed) for seed in side] for side in sides]
    for name in dict.fromkeys(name for side in read for seed in side for name in seed):
        told = [[seed[name] for seed in side if name in seed] for side in read]
        for version, title in titles(name, (one.sha256 for side in told for one in side)).items():
            alike = [[one for one in side if one.sha256 == version] for side in told]
            counted = next(one.counted for side in alike for one in side)
            cells = [_joined([one.cell for one in side]) for side in alike]
            found[f"{title} ({counted})"] = known.get(title, cells)
    return found


@dataclass(frozen=True, slots=True)
class _Told:
    """A seed's result in a cell. counted: `13,400 pairs`, or a task's metric. sha256: of the data."""

    cell: str
    counted: str
    sha256: str


def _told_by(seed: Seed) -> dict[str, _Told]:
    """All results by `<suite>.<protocol>`: minimal pairs, then other tasks."""
    found = {}
    for key, path in seed.results.items():
        name = ".".join(key)
        with undamaged(f"the result '{name}'", path):
            values = read_json(path)
            overall, sha256 = values["overall"], values["data"]["sha256"]
            interval = Interval(overall["accuracy"], overall["low"], overall["high"])
            found[name] = _Told(accuracy(interval), f"{overall['pairs']:,} pairs", sha256)
    for name, one in seed.run.measures.items() if seed.run else ():
        found[name] = _Told(f"{one.value:.3f}", one.metric, one.sha256)
    return found


def _joined(cells: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(cell for cell in cells if cell != "-")) or "-"


def _facts_of(seed: Seed) -> dict[str, Any]:
    """What a result says of the model that it is of."""
    for path in seed.results.values():
        return cast(dict[str, Any], read_json(path).get("model", {}))
    return {}


# ---- what the forms share ----


def rows_by(found: Comparison, by: By) -> tuple[Row, ...]:
    """The lines of a comparison; none where its results do not say which phenomenon or field a paradigm is of."""
    return {"field": found.fields, "phenomenon": found.phenomena, "paradigm": found.paradigms}[by]


def line_name(row: Row, by: By) -> str:
    """A phenomenon's name in words; a paradigm's as it is."""
    return row.name if by == "paradigm" else row.name.replace("_", " ")


def accuracy(found: Interval) -> str:
    """`57.2% (55.1 to 59.3)`."""
    return f"{100 * found.estimate:.1f}% ({100 * found.low:.1f} to {100 * found.high:.1f})"


def difference_cells(difference: Interval) -> tuple[str, str]:
    """`+4.4` and `2.1 to 6.7`, in points."""
    # Adding 0 makes a zero of a negative zero.
    estimate, low, high = (
        round(100 * value, 1) + 0.0 for value in (difference.estimate, difference.low, difference.high)
    )
    return f"{estimate:+.1f}", f"{low:.1f} to {high:.1f}"


def p_cell(p: float) -> str:
    """`0.012`, or `<0.001`."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def is_sure(line: Row | Overall) -> bool:
    """Whether its p, corrected where it is a line's, is at most 0.05."""
    return (line.p_holm if isinstance(line, Row) else line.difference.p) <= SURE


def seeds_told(overall: SeedsInterval) -> str:
    """`3 seeds from 56.8 to 57.9 (sd 0.44)`; empty of one seed."""
    spread = overall.spread
    if spread.sd is None:
        return ""
    return (
        f"{spread.seeds} seeds from {100 * spread.least:.1f} to {100 * spread.greatest:.1f} (sd {100 * spread.sd:.2f})"
    )


def legend(found: Compared, by: By) -> list[str]:
    """What the columns of the tables of differences say."""
    overall = found.first.overall
    lines = [
        "Accuracies in %, differences in points. Intervals and p are as were other pairs of the same paradigms drawn, "
        f"those of overall ({overall.kind}) as were other paradigms drawn."
    ]
    tests = found.tests(by)
    if tests:
        test = "over seeds and pairs" if any(one.overall.only_a is None for one in found.comparisons) else ""
        test = test or "of McNemar's exact test"
        lines.append(f"p of a {by}: {test}, corrected for {tests} tests (Holm); the intervals are not.")
    return lines


def notes(found: Compared) -> list[str]:
    """The notes of all comparisons, each once."""
    return list(dict.fromkeys(note for one in found.comparisons for note in one.notes))
