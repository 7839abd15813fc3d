"""A comparison as one offline page, built and drawn as a run's report is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from firstwords.report.chart_parts import Chart
from firstwords.report.charts_compared import Gap, Standing, differences, dumbbells
from firstwords.report.compared import (
    By,
    Compared,
    difference_cells,
    is_sure,
    legend,
    line_name,
    notes,
    p_cell,
    rows_by,
    seeds_told,
)
from firstwords.report.comparison import Comparison, Overall, Row
from firstwords.report.page import Glance, Head, charts_of, render, write_charts
from firstwords.report.page_parts import Block, Cell, Part, Table, decimal, interval, percent, table, whole
from firstwords.report.summary import LOSS_LEGEND

_Line = TypeVar("_Line")
_MOST_DRAWN = 100
"""Rows of a chart; the tables have all."""
_LEVELS: tuple[By, ...] = ("phenomenon", "field", "paradigm")


def page(found: Compared, by: By = "phenomenon", charts: str | None = None) -> str:
    """The page. charts: address of the folder that holds its charts as files, seen from the page; None for none."""
    head = Head(
        title=found.title,
        kind="a comparison by firstwords",
        told=f"Compared on {found.result}, {found.first.overall.pairs:,} pairs, by firstwords.",
        source="the results and the runs of the models",
        lead=tuple(found.sentences),
        glance=_glance(found),
        charts=charts,
    )
    return render(head, _parts(found, by))


def chart_files(found: Compared, by: By, folder: Path) -> list[tuple[str, Path]]:
    """Write the charts of the page as SVG, PNG and PDF; title and path without ending of those of `by`."""
    charts = charts_of(_parts(found, by))
    write_charts(charts, folder)
    return [(chart.title, folder / chart.name) for chart in charts if chart.name.endswith(by)]


def _parts(found: Compared, by: By) -> list[Part]:
    others = [level for level in _LEVELS if level != by]
    facts = _facts(found)
    return [
        Part(
            "differences", "Differences", tuple(block for level in (by, *others) for block in _level(found, level, by))
        ),
        Part(
            "models",
            "Side by side",
            (Block(tables=(facts,)), Block(said=(f"{LOSS_LEGEND}.",) if "losses" in found.facts() else ())),
        ),
        Part("how", "How it was measured", (Block(said=(found.first.statement, *notes(found))),)),
    ]


def _facts(found: Compared) -> Table:
    blank = [""] * len(found.models)
    rows: list[tuple[Cell | str, ...]] = []
    for topic, facts in found.facts().items():
        rows.append((Cell(topic, topic=True), *blank))
        rows += [(label, *cells) for label, cells in facts.items()]
    head = ("", *(model.label for model in found.models))
    return table("Architecture, data, cost and accuracies", head, rows, sortable=False)


def _level(found: Compared, level: By, by: By) -> list[Block]:
    """The blocks of phenomena, fields or paradigms: all models in one chart, and each comparison."""
    if not rows_by(found.first, level):
        return []
    return [
        Block(
            f"By {level}",
            charts=(
                _standings(found, level),
                *(_gaps(found, one, number, level) for number, one in enumerate(found.comparisons)),
            ),
            tables=tuple(_table(one, level) for one in found.comparisons),
            folded=level != by,
        ),
        # After what it explains, for most readers know.
        *((Block(said=tuple(legend(found, level))),) if level == by else ()),
    ]


def _standings(found: Compared, level: By) -> Chart:
    rows = [rows_by(one, level) for one in found.comparisons]
    standings = [
        Standing(line_name(row, level), (row.a.estimate, *(of[place].b.estimate for of in rows)), row.pairs)
        for place in _order(found, level)
        for row in (rows[0][place],)
    ]
    title = f"Accuracy by {level}: {found.result}"
    shown, title = _shown(standings, title)
    return dumbbells(f"{found.result}.compared.{level}", title, shown, [model.label for model in found.models])


def _order(found: Compared, level: By) -> list[int]:
    """Places of the lines, the greatest gain of the second model first: all charts have their rows in this order."""
    rows = rows_by(found.first, level)
    return sorted(range(len(rows)), key=lambda place: -rows[place].difference.estimate)


def _gaps(found: Compared, one: Comparison, number: int, level: By) -> Chart:
    gaps = [
        Gap(line_name(row, level), row.difference.estimate, row.difference.low, row.difference.high, is_sure(row))
        for row in (rows_by(one, level)[place] for place in _order(found, level))
    ]
    title = f"Difference, with 95% intervals: {one.b.label} minus {one.a.label}"
    several = f"-{number + 1}" if len(found.comparisons) > 1 else ""
    shown, title = _shown(gaps, title)
    return differences(f"{found.result}.difference{several}.{level}", title, shown, one.a.label, one.b.label)


def _shown(lines: Sequence[_Line], title: str) -> tuple[Sequence[_Line], str]:
    """Of very many lines the first and the last: a drawing of all could not be read."""
    half = _MOST_DRAWN // 2
    if len(lines) <= _MOST_DRAWN:
        return lines, title
    return [*lines[:half], *lines[-half:]], f"{title} (the first and the last {half})"


def _table(one: Comparison, level: By) -> Table:
    counted = one.overall.only_a is not None
    only = ("right alone: A", "right alone: B") if counted else ()
    rows: list[tuple[Cell | str, ...]] = [
        (line_name(row, level), *_line(row, row.p_holm, counted=counted)) for row in rows_by(one, level)
    ]
    these = one.overall.these_paradigms
    last: list[tuple[Cell | str, ...]] = [
        ("overall", *_line(one.overall, one.overall.difference.p, counted=counted)),
        (
            "on these paradigms",
            *[""] * 5,
            *_difference(these.estimate, these.low, these.high),
            *[""] * len(only),
            _p(these.p),
        ),
    ]
    a, b = f"A: {one.a.label}, %", f"B: {one.b.label}, %"
    head = (level, "pairs", a, "A, 95% interval", b, "B, 95% interval", "B − A, points", "95% interval", *only, "p")
    return table(f"{one.b.label} against {one.a.label} by {level}", head, rows, last)


def _line(line: Row | Overall, p: float, *, counted: bool) -> tuple[Cell, ...]:
    found = line.difference
    return (
        whole(line.pairs),
        percent(line.a.estimate),
        interval(line.a.low, line.a.high),
        percent(line.b.estimate),
        interval(line.b.low, line.b.high),
        *_difference(found.estimate, found.low, found.high),
        *((whole(line.only_a), whole(line.only_b)) if counted else ()),
        _p(p),
    )


def _difference(estimate: float, low: float, high: float) -> tuple[Cell, Cell]:
    from firstwords.evaluation.statistics import Interval

    between, limits = difference_cells(Interval(estimate, low, high))
    return Cell(between.replace("-", "−"), estimate), Cell(limits.replace("-", "−"), low)


def _p(p: float) -> Cell:
    return Cell(p_cell(p), p) if p < 0.001 else decimal(p)


def _glance(found: Compared) -> list[Glance]:
    shown = []
    for model in found.models:
        least, most = (f"{100 * end:.1f}" for end in (model.overall.low, model.overall.high))
        told = seeds_told(model.overall)
        under = f"{least} to {most}" + (f"; {told}" if told else "")
        shown.append(Glance(model.label, f"{100 * model.overall.estimate:.1f}%", under))
    for one in found.comparisons:
        between, limits = difference_cells(one.overall.difference)
        p = p_cell(one.overall.difference.p)
        p = f"p < {p[1:]}" if p.startswith("<") else f"p = {p}"
        shown.append(Glance(f"{one.b.label} minus {one.a.label}, points", between, f"{limits}; {p}"))
    return shown
