"""What a report shows of the tests: accuracies with intervals beside what to compare them with, and other tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from firstwords.evaluation.reference import REFERENCE_SOURCE, reference_columns, reference_overall, reference_phenomena
from firstwords.report.chart_parts import Chart
from firstwords.report.charts import AccuracyPoint, CurvePoint, accuracies, learning_curves
from firstwords.report.curves import LearningCurves
from firstwords.report.curves import learning_curves as curves_of
from firstwords.report.page_pairs import SurprisalOf, pair_blocks
from firstwords.report.page_parts import Block, Cell, Table, decimal, interval, percent, plain, table, whole
from firstwords.report.results import UNTRAINED, checkpoint_of, result_names
from firstwords.run_folder import RunFolder, read_json

_DRAWN = ("5-gram", "untrained", "5-gram (paper)", "LSTM (paper)", "GPT-2 large (paper)", "people (paper)")
"""What is drawn beside a model; the tables have the rest too."""


_MOST_DRAWN = 100
"""Rows of a chart; the tables have all."""


@dataclass(frozen=True, slots=True)
class _Beside:
    """What a result must be compared with: accuracies (0 to 1) overall, by phenomenon and by paradigm."""

    overall: float
    phenomena: Mapping[str, float]
    paradigms: Mapping[str, float]


def result_blocks(run: RunFolder, surprisal_of: SurprisalOf | None) -> list[Block] | str:
    """All results on minimal pairs of the selected model; a sentence where there are none."""
    results = {name: run.result(name) for name in _names(run)}
    pairs = {name: values for name, values in results.items() if "suite" in values}
    if not pairs:
        return "The model is not tested on minimal pairs yet."
    blocks: list[Block] = []
    for name, values in pairs.items():
        # One result is read, the others are looked up.
        blocks += _result(run, name, values, surprisal_of, folded=len(blocks) > 0)
    return blocks


def task_blocks(run: RunFolder) -> list[Block] | str:
    """All other tasks of the selected model; a sentence where there are none."""
    results = {name: run.result(name) for name in _names(run)}
    tasks = {name: values for name, values in results.items() if "metric" in values}
    if not tasks:
        return "No other task was measured."
    rows, parts = [], []
    for name, values in tasks.items():
        rows.append((name, values["metric"], *_measure(values["overall"])))
        parts += [(name, plain(key), *_measure(measure)) for key, measure in values["parts"].items()]
    head = ("value", "95% interval", "items")
    said = [f"{name}: {values['statement']}" for name, values in tasks.items()]
    said += [f"{name}: {note}" for name, values in tasks.items() for note in values["notes"]]
    blocks = [Block(tables=(table("Tasks that are no minimal pairs", ("task and protocol", "metric", *head), rows),))]
    if parts:
        blocks.append(
            Block("Their parts", tables=(table("Parts of the tasks", ("task", "part", *head), parts),), folded=True)
        )
    return [*blocks, Block("How they are measured", said=tuple(said), folded=True)]


def _measure(values: Mapping[str, Any]) -> tuple[Cell, Cell, Cell]:
    low, high = values["low"], values["high"]
    between = Cell("none can be told") if low is None or high is None else Cell(f"{low:.3f} to {high:.3f}", low)
    return decimal(values["value"]), between, whole(values["items"])


def _names(run: RunFolder) -> list[str]:
    return [name for name in result_names(run) if checkpoint_of(name)[0] is None and not name.startswith(UNTRAINED)]


def _result(
    run: RunFolder, name: str, values: Mapping[str, Any], surprisal_of: SurprisalOf | None, *, folded: bool
) -> list[Block]:
    beside, statements = _beside(run, name, values)
    said = [values["statement"], _counts(values), *values.get("notes", ())]
    said += [f"Intervals, {plain(key)}: {meaning}." for key, meaning in values.get("intervals", {}).items()]
    said += [f"{floor}: {statement}" for floor, statement in statements.items()]
    if any("(paper)" in other for other in beside):
        said.append(f"(paper): {REFERENCE_SOURCE}.")
    found = curves_of(run, name)
    curves = (_curves(found),) if found else ()
    left_out = (f"Learning curves: {found.note}.",) if found and found.note else ()
    return [
        Block(
            name,
            said=(_overall(values), *left_out),
            tables=(_phenomena(values, beside),),
            charts=(
                _chart(
                    f"{name}.phenomena",
                    f"Accuracy by phenomenon: {name}",
                    run.name,
                    values["phenomena"],
                    _by_phenomenon(beside),
                ),
                *curves,
            ),
            folded=folded,
        ),
        Block(
            f"{name}: every paradigm",
            tables=(_paradigms(values, beside), *_groups(values)),
            charts=(
                _chart(
                    f"{name}.paradigms",
                    f"Accuracy by paradigm: {name}",
                    run.name,
                    values["paradigms"],
                    _by_paradigm(beside),
                ),
            ),
            folded=True,
        ),
        *pair_blocks(run, name, values, surprisal_of, folded=folded),
        Block(f"{name}: how it was scored, what the intervals say", said=tuple(said), folded=True),
    ]


def _beside(run: RunFolder, name: str, values: Mapping[str, Any]) -> tuple[dict[str, _Beside], dict[str, str]]:
    """What a result must be compared with, by name, and how the floors were made."""
    found, statements = {}, {}
    if run.has_result(UNTRAINED + name):
        found["untrained"] = _as_beside(run.result(UNTRAINED + name))
    path = run.stage("evaluation") / f"{name}.floors.json"
    if path.is_file():
        for floor, its in read_json(path)["floors"].items():
            found[floor], statements[floor] = _as_beside(its), its["statement"]
    uids = list(values["paradigms"])
    overall, phenomena, paradigms = reference_overall(uids), reference_phenomena(uids), reference_columns(uids)
    for column, value in overall.items():
        found[f"{column} (paper)"] = _Beside(value, phenomena[column], paradigms[column])
    return found, statements


def _as_beside(values: Mapping[str, Any]) -> _Beside:
    return _Beside(
        values["overall"]["accuracy"],
        {name: one["accuracy"] for name, one in values["phenomena"].items()},
        {name: one["accuracy"] for name, one in values.get("paradigms", {}).items()},
    )


def _by_phenomenon(beside: Mapping[str, _Beside]) -> dict[str, Mapping[str, float]]:
    return {name: beside[name].phenomena for name in _DRAWN if name in beside}


def _by_paradigm(beside: Mapping[str, _Beside]) -> dict[str, Mapping[str, float]]:
    return {name: beside[name].paradigms for name in _DRAWN if name in beside}


def _overall(values: Mapping[str, Any]) -> str:
    overall = values["overall"]
    of = (
        f"the mean of {len(values['paradigms'])} paradigms"
        if values["settings"]["overall"] == "paradigms"
        else "all pairs pooled"
    )
    share, low, high = (f"{100 * overall[key]:.1f}" for key in ("accuracy", "low", "high"))
    return (
        f"Overall {share}% right (95% interval {low} to {high}; {of}; {overall['pairs']:,} pairs, "
        f"{overall['ties']:,} ties), where guessing gives 50%."
    )


def _counts(values: Mapping[str, Any]) -> str:
    counts = values["counts"]
    return f"Of the pairs: {', '.join(f'{plain(key)} {count:,}' for key, count in counts.items())}."


def _chart(
    name: str, title: str, model: str, found: Mapping[str, Any], beside: Mapping[str, Mapping[str, float]]
) -> Chart:
    ordered = sorted(found.items(), key=lambda item: -item[1]["accuracy"])
    if len(ordered) > _MOST_DRAWN:
        half = _MOST_DRAWN // 2
        ordered, title = [*ordered[:half], *ordered[-half:]], f"{title} (the best and the worst {half})"
    points = [
        AccuracyPoint(plain(label), one["accuracy"], one["low"], one["high"], one["pairs"]) for label, one in ordered
    ]
    others = {other: {plain(label): share for label, share in by.items()} for other, by in beside.items()}
    return accuracies(name, title, points, model=model, beside=others)


def _phenomena(values: Mapping[str, Any], beside: Mapping[str, _Beside]) -> Table:
    rows: list[tuple[Cell | str, ...]] = [
        (plain(label), *_accuracy(one), *(percent(other.phenomena.get(label)) for other in beside.values()))
        for label, one in values["phenomena"].items()
    ]
    overall: tuple[Cell | str, ...] = (
        "overall",
        *_accuracy(values["overall"]),
        *(percent(other.overall) for other in beside.values()),
    )
    head = ("phenomenon", "right, %", "95% interval", "pairs", *beside)
    return table("Accuracy by phenomenon, in %", head, rows, [overall])


def _paradigms(values: Mapping[str, Any], beside: Mapping[str, _Beside]) -> Table:
    grouping: Mapping[str, Mapping[str, str]] = values.get("grouping", {})
    of = {
        uid: plain(grouping[uid]["phenomenon"]) for uid in values["paradigms"] if "phenomenon" in grouping.get(uid, {})
    }
    rows: list[tuple[Cell | str, ...]] = [
        (
            label,
            *((of.get(label, ""),) if of else ()),
            *_accuracy(one),
            *(percent(other.paradigms.get(label)) for other in beside.values()),
        )
        for label, one in values["paradigms"].items()
    ]
    head = ("paradigm", *(("phenomenon",) if of else ()), "right, %", "95% interval", "pairs", *beside)
    return table("Accuracy by paradigm, in %", head, rows)


def _groups(values: Mapping[str, Any]) -> list[Table]:
    """Accuracies by the columns of one's own file of pairs."""
    return [
        table(
            f"Accuracy by {column}, in %, pairs pooled",
            (column, "right, %", "95% interval", "pairs"),
            [(value, *_accuracy(one)) for value, one in found.items()],
        )
        for column, found in values.get("groups", {}).items()
    ]


def _accuracy(one: Mapping[str, Any]) -> tuple[Cell, Cell, Cell]:
    return percent(one["accuracy"]), interval(one["low"], one["high"]), whole(one["pairs"])


def _curves(found: LearningCurves) -> Chart:
    points = [
        CurvePoint(plain(label), words, one.share, one.low, one.high)
        for label, curve in {"overall": found.overall, **found.phenomena}.items()
        for words, one in curve.accuracies.items()
    ]
    title = f"Learning curves, with 95% intervals: {found.name}"
    return learning_curves(f"{found.name}.learning-curves", title, points)
