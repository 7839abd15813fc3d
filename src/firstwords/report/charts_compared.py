"""The charts of a comparison: how far models lie apart, and how sure the difference is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from firstwords.report.chart_parts import (
    BLUE,
    CHANCE,
    COLORS,
    MOST_NARROW_ROWS,
    MUTED,
    Chart,
    Spec,
    altair_module,
    by,
    chance_line,
    finished,
    roomy,
    shaped,
    short,
    table,
)

_SURE, _UNSURE = "p ≤ 0.05", "p > 0.05"


_SIGNED = "datum.value > 0 ? '+' + datum.label : datum.label"
_WIDE, _NARROW = 330, 150


@dataclass(frozen=True, slots=True)
class Standing:
    """What the models reach on one phenomenon or paradigm: shares, 0 to 1, in the order of the models."""

    label: str
    accuracies: tuple[float, ...]
    pairs: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A difference of two shares with its 95% interval, -1 to 1. sure: whether the corrected p is at most 0.05."""

    label: str
    difference: float
    low: float
    high: float
    sure: bool


def dumbbells(name: str, title: str, standings: Sequence[Standing], models: Sequence[str]) -> Chart:
    """A row for each label: a mark a model, and a line between the lowest and the highest; chance as a line."""
    return Chart(
        name,
        title,
        _dumbbells(title, standings, models, width=_WIDE),
        _dumbbells(title, standings, models, width=_NARROW) if len(standings) <= MOST_NARROW_ROWS else None,
    )


def _dumbbells(title: str, standings: Sequence[Standing], models: Sequence[str], *, width: int) -> Spec:
    alt = altair_module()
    models = [short(model) for model in models]
    rows: list[dict[str, Any]] = [
        {
            "label": one.label,
            "model": model,
            "accuracy": 100 * share,
            "told": f"{one.label}, {model}: {100 * share:.1f}% of {one.pairs:,} pairs",
        }
        for one in standings
        for model, share in zip(models, one.accuracies, strict=True)
    ]
    spans: list[dict[str, Any]] = [
        {"label": one.label, "low": 100 * min(one.accuracies), "high": 100 * max(one.accuracies)} for one in standings
    ]
    x = alt.X("accuracy:Q", title="pairs judged right, %", scale=alt.Scale(domain=[0, 100]), axis=alt.Axis(tickCount=5))
    y = _labels([one.label for one in standings], width)
    columns = 2 if width < 300 else 4
    color, shape = by("model", models, COLORS, columns), shaped("model", models, columns)
    chart = alt.layer(
        chance_line(),
        alt.Chart(table("spans")).mark_rule(strokeWidth=2.5, color=MUTED).encode(x="low:Q", x2="high:Q", y=y),
        alt.Chart(table("rows"))
        .mark_point(filled=True, size=64, opacity=1)
        .encode(x=x, y=y, color=color, shape=shape, description="told:N"),
    )
    tables = {"chance": CHANCE, "spans": spans, "rows": rows}
    return roomy(finished(chart, tables, title, width, _step(standings)), [one.label for one in standings], width)


def differences(name: str, title: str, gaps: Sequence[Gap], a: str, b: str) -> Chart:
    """A row for each label: B minus A in points with its interval; no difference as a line."""
    return Chart(
        name,
        title,
        _differences(title, gaps, a, b, width=_WIDE),
        _differences(title, gaps, a, b, width=_NARROW) if len(gaps) <= MOST_NARROW_ROWS else None,
    )


def _differences(title: str, gaps: Sequence[Gap], a: str, b: str, *, width: int) -> Spec:
    alt = altair_module()
    rows: list[dict[str, Any]] = [
        {
            "label": one.label,
            "kind": _SURE if one.sure else _UNSURE,
            "difference": 100 * one.difference,
            "low": 100 * one.low,
            "high": 100 * one.high,
            "told": f"{one.label}: {100 * one.difference:+.1f} points [{100 * one.low:.1f}, {100 * one.high:.1f}], "
            f"{_SURE if one.sure else _UNSURE}",
        }
        for one in gaps
    ]
    kinds, columns = [_SURE, _UNSURE], 2
    color, shape = by("kind", kinds, (BLUE, MUTED), columns), shaped("kind", kinds, columns)
    # Names are in the title of the page; here they would not fit a phone.
    x = alt.X(
        "difference:Q", title=_axis(a, b, width), axis=alt.Axis(labelExpr=_SIGNED, tickCount=6, labelOverlap=True)
    )
    y = _labels([one.label for one in gaps], width)
    chart = alt.layer(
        alt.Chart(table("none"))
        .mark_rule(strokeDash=[4, 3], color=MUTED, description="no difference")
        .encode(x="none:Q"),
        alt.Chart(table("rows")).mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q", y=y, color=color),
        alt.Chart(table("rows"))
        .mark_point(filled=True, size=64, opacity=1)
        .encode(x=x, y=y, color=color, shape=shape, description="told:N"),
    )
    no_difference: list[dict[str, Any]] = [{"none": 0}]
    tables = {"none": no_difference, "rows": rows}
    return roomy(finished(chart, tables, title, width, _step(gaps)), [one.label for one in gaps], width)


def _axis(a: str, b: str, width: int) -> str | list[str]:
    """The axis's title; in two lines where one is too long."""
    whole = f"{b} minus {a}, points"
    return whole if 6 * len(whole) <= width else [f"{b}", f"minus {a}, points"]


def _labels(labels: Sequence[str], width: int) -> Any:
    alt = altair_module()
    return alt.Y(
        "label:N", title=None, sort=list(labels), axis=alt.Axis(labelLimit=150 if width < 300 else 330, grid=True)
    )


def _step(rows: Sequence[object]) -> Spec:
    return {"step": 15 if len(rows) > 20 else 22}
