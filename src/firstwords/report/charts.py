"""The charts of a report, pure functions of numbers: Vega-Lite specs by altair, drawn by vl-convert without a browser.

A spec holds its data and names no address, so that the same spec gives the SVG of the page and the files for a paper.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from firstwords.report.chart_parts import (
    BLUE,
    CHANCE,
    COLORS,
    GREEN,
    INK,
    MOST_NARROW_ROWS,
    MUTED,
    Chart,
    Spec,
    altair_module,
    by,
    chance_line,
    finished,
    missing,
    roomy,
    shaped,
    short,
    table,
)

Over = Literal["words", "tokens"]
"""What the course of a training is drawn over."""

_VEGA_LITE = "6.4"
_LOG_FROM_RATIO = 20
"""Words seen are drawn on a logarithmic axis where the last checkpoint has so many times the words of the first."""


@dataclass(frozen=True, slots=True)
class LossPoint:
    """A loss in nats a token after so many words and tokens seen."""

    words: int
    tokens: int
    loss: float


@dataclass(frozen=True, slots=True)
class RatePoint:
    """The learning rate of a step, after so many words and tokens seen."""

    words: int
    tokens: int
    rate: float


@dataclass(frozen=True, slots=True)
class AccuracyPoint:
    """A phenomenon or paradigm with the share of its pairs judged right, 0 to 1, and its 95% interval."""

    label: str
    accuracy: float
    low: float
    high: float
    pairs: int


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What a checkpoint reaches on one phenomenon: shares, 0 to 1."""

    label: str
    words: int
    accuracy: float
    low: float
    high: float


def losses(train: Sequence[LossPoint], dev: Sequence[LossPoint], over: Over) -> Chart:
    """Training and dev loss in nats a token over words or tokens seen."""
    alt = altair_module()
    kinds = ["training text", "dev text"]
    rows = [
        {
            "kind": kind,
            "seen": getattr(point, over),
            "loss": point.loss,
            "told": f"{kind}: {point.loss:.3f} nats a token after {getattr(point, over):,} {over}",
        }
        for kind, points in zip(kinds, (train, dev), strict=True)
        for point in points
    ]
    title = f"Loss over {over} seen"
    lines = (
        alt.Chart(table("rows"))
        .mark_line(strokeWidth=1.8)
        .encode(
            x=alt.X("seen:Q", title=f"{over} seen", axis=alt.Axis(format="~s", tickCount=5, labelOverlap=True)),
            y=alt.Y("loss:Q", title="loss, nats a token", scale=alt.Scale(zero=False)),
            color=by("kind", kinds, COLORS),
            strokeDash=alt.StrokeDash(
                "kind:N", title=None, scale=alt.Scale(domain=kinds, range=[[1, 0], [6, 3]]), legend=None
            ),
        )
    )
    points = (
        alt.Chart(table("rows"))
        .mark_point(filled=True, size=34, opacity=1, shape="square")
        .encode(x="seen:Q", y="loss:Q", color=by("kind", kinds, COLORS), description="told:N")
        .transform_filter(alt.FieldEqualPredicate(field="kind", equal="dev text"))
    )
    chart = alt.layer(lines, points)
    return Chart(f"loss-over-{over}", title, finished(chart, {"rows": rows}, title, 330, 220))


def learning_rate(points: Sequence[RatePoint], over: Over) -> Chart:
    """The learning rate over words or tokens seen."""
    alt = altair_module()
    rows = [{"seen": getattr(point, over), "rate": point.rate} for point in points]
    title = f"Learning rate over {over} seen"
    chart = (
        alt.Chart(table("rows"))
        .mark_line(strokeWidth=1.8, color=GREEN)
        .encode(
            x=alt.X("seen:Q", title=f"{over} seen", axis=alt.Axis(format="~s", tickCount=5, labelOverlap=True)),
            y=alt.Y("rate:Q", title="learning rate", axis=alt.Axis(format="~e")),
        )
    )
    return Chart(f"learning-rate-over-{over}", title, finished(chart, {"rows": rows}, title, 330, 150))


def accuracies(
    name: str,
    title: str,
    points: Sequence[AccuracyPoint],
    *,
    model: str,
    beside: Mapping[str, Mapping[str, float]],
) -> Chart:
    """A row for each label: the model's accuracy with its interval, and what others reach; chance as a line.

    beside: for each other model its accuracies (0 to 1) by label.
    """
    return Chart(
        name,
        title,
        _accuracies(title, points, model, beside, width=380),
        # Names of many rows are too long for a phone, and a second drawing of them too heavy.
        _accuracies(title, points, model, beside, width=150) if len(points) <= MOST_NARROW_ROWS else None,
    )


def _accuracies(
    title: str, points: Sequence[AccuracyPoint], model: str, beside: Mapping[str, Mapping[str, float]], *, width: int
) -> Spec:
    alt = altair_module()
    model = short(model)
    series = [model, *(name for name in beside if name != model)]
    rows: list[dict[str, Any]] = [
        {
            "label": point.label,
            "series": model,
            "accuracy": 100 * point.accuracy,
            "low": 100 * point.low,
            "high": 100 * point.high,
            "told": f"{point.label}, {model}: {100 * point.accuracy:.1f}% [{100 * point.low:.1f}, "
            f"{100 * point.high:.1f}], {point.pairs:,} pairs",
        }
        for point in points
    ]
    labels = [point.label for point in points]
    others = [
        {
            "label": label,
            "series": name,
            "accuracy": 100 * found[label],
            "told": f"{label}, {name}: {100 * found[label]:.1f}%",
        }
        for name, found in beside.items()
        for label in labels
        if label in found
    ]
    x = alt.X("accuracy:Q", title="pairs judged right, %", scale=alt.Scale(domain=[0, 100]), axis=alt.Axis(tickCount=5))
    narrow = width < 300
    y = alt.Y("label:N", title=None, sort=labels, axis=alt.Axis(labelLimit=150 if narrow else 330, grid=True))
    color, shape = by("series", series, COLORS, 2 if narrow else 4), shaped("series", series, 2 if narrow else 4)
    layers = [
        chance_line(),
        alt.Chart(table("others"))
        .mark_point(filled=False, size=32, strokeWidth=1.4)
        .encode(x=x, y=y, color=color, shape=shape, description="told:N"),
        alt.Chart(table("rows")).mark_rule(strokeWidth=2, color=BLUE).encode(x="low:Q", x2="high:Q", y=y),
        alt.Chart(table("rows"))
        .mark_point(filled=True, size=46, opacity=1)
        .encode(x=x, y=y, color=color, shape=shape, description="told:N"),
    ]
    if not others:
        layers.pop(1)
    chart = alt.layer(*layers)
    spec = finished(
        chart,
        {"chance": CHANCE, "others": others, "rows": rows},
        title,
        width,
        {"step": 15 if len(points) > 20 else 20},
    )
    return roomy(spec, labels, width)


def learning_curves(name: str, title: str, points: Sequence[CurvePoint]) -> Chart:
    """A small panel for each phenomenon: accuracy and its interval over words seen; chance as a line."""
    return Chart(name, title, _curves(title, points, columns=5), _curves(title, points, columns=2))


def _curves(title: str, points: Sequence[CurvePoint], *, columns: int) -> Spec:
    alt = altair_module()
    labels = list(dict.fromkeys(point.label for point in points))
    rows = [
        {
            "label": point.label,
            "words": point.words,
            "accuracy": 100 * point.accuracy,
            "low": 100 * point.low,
            "high": 100 * point.high,
            "told": f"{point.label}: {100 * point.accuracy:.1f}% after {point.words:,} words",
        }
        for point in points
    ]
    words = [point.words for point in points]
    log = min(words) > 0 and max(words) >= _LOG_FROM_RATIO * min(words)
    x = alt.X(
        "words:Q",
        title="words seen",
        scale=alt.Scale(type="log" if log else "linear", nice=False),
        axis=alt.Axis(format="~s", tickCount=3, labelOverlap=True, grid=False),
    )
    y = alt.Y("accuracy:Q", title="right, %", scale=alt.Scale(domain=[0, 100]), axis=alt.Axis(tickCount=3))
    panel = alt.layer(
        alt.Chart().mark_area(opacity=0.2, color=BLUE).encode(x=x, y=alt.Y("low:Q", title="right, %"), y2="high:Q"),
        alt.Chart(table("chance")).mark_rule(strokeDash=[4, 3], color=MUTED).encode(y="chance:Q"),
        alt.Chart().mark_line(color=BLUE, strokeWidth=1.8).encode(x=x, y=y),
        alt.Chart().mark_point(color=BLUE, filled=True, size=18, opacity=1).encode(x=x, y=y, description="told:N"),
    ).properties(width=125, height=90)
    chart = panel.facet(
        facet=alt.Facet(
            "label:N", title=None, sort=labels, header=alt.Header(labelFontSize=10, labelColor=INK, labelLimit=125)
        ),
        data=table("rows"),
        columns=columns,
    ).properties(spacing={"row": 14, "column": 14})
    return finished(chart, {"chance": CHANCE, "rows": rows}, title, None, None)


def token_lengths(counts: Mapping[int, int]) -> Chart:
    """How many tokens of a vocabulary have so many characters. counts: tokens by number of characters."""
    alt = altair_module()
    rows = [
        {
            "characters": length,
            "tokens": counts.get(length, 0),
            "told": f"{counts.get(length, 0):,} of {length} characters",
        }
        for length in range(1, max(counts, default=0) + 1)
    ]
    title = "How long the tokens are"
    chart = (
        alt.Chart(table("rows"))
        .mark_bar(color=BLUE)
        .encode(
            x=alt.X("characters:O", title="characters of a token, its space counted", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("tokens:Q", title="tokens", axis=alt.Axis(tickCount=5)),
            description="told:N",
        )
    )
    return Chart("token-lengths", title, finished(chart, {"rows": rows}, title, 330, 150))


# ---- drawing ----


def _vl_convert() -> Any:
    try:
        import vl_convert
    except ImportError:
        raise missing("vl-convert-python") from None
    return vl_convert


def check_installed() -> None:
    """Raises FirstwordsError where a package that draws is not installed."""
    altair_module()
    _vl_convert()


def draw_svg(spec: Spec) -> str:
    """The chart as SVG. No address is ever read, whatever a spec names."""
    svg: str = _vl_convert().vegalite_to_svg(spec, vl_version=_VEGA_LITE, allowed_base_urls=[])
    return svg


def draw_files(spec: Spec) -> dict[str, bytes]:
    """The chart by file ending: svg, png (two pixels a unit) and pdf, all of one drawing."""
    svg = draw_svg(spec)
    convert: Any = _vl_convert()
    return {"svg": svg.encode(), "png": convert.svg_to_png(svg, scale=2), "pdf": convert.svg_to_pdf(svg)}


def inline_svg(svg: str, label: str, role: str) -> str:
    """SVG fit to stand in a page: with a label for screen readers (plain text) and a class that says when it shows.

    It is one image to them, so that what names each of its parts' roles is left out. Drawings of this module name
    nothing by id: several may stand in one page.
    """
    from markupsafe import escape

    # Within tags alone: a text may hold the same words.
    svg = re.sub(r"<[a-z]+ [^<>]*>", lambda tag: _FOR_READERS.sub("", tag[0]), svg)
    head = f'<svg class="chart {role}" role="img" aria-label="{escape(label)}"'
    return svg.replace("<svg", head, 1)


_FOR_READERS = re.compile(
    r' (?:role|aria-roledescription|aria-hidden|pointer-events|version|class|xmlns(?::xlink)?)="[^"]*"|'
    r' transform="translate\(0,0\)"'
)
