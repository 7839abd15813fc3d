"""What all charts of a report share: colours, legends, looks, and the package that makes their specs.

Colours are those of Okabe & Ito (2008), which people with any colour vision tell apart; shapes and dashes repeat them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from firstwords.errors import FirstwordsError

Spec = dict[str, Any]
"""A Vega-Lite specification."""

INK, MUTED, GRID = "#1b1b1b", "#5c5c5c", "#dddddd"
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
COLORS = (BLUE, VERMILLION, GREEN, PURPLE, INK, ORANGE, SKY, MUTED)
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "stroke")
CHANCE: list[dict[str, Any]] = [{"chance": 50}]
"""The table of the line at chance, in percent."""
MOST_NARROW_ROWS = 25
"""Names of more rows are too long for a phone, and a second drawing of them too heavy."""
_LONGEST_LABEL = 40


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart. name: of its files. narrow: the same for a phone's width, where the first does not fit one."""

    name: str
    title: str
    spec: Spec
    narrow: Spec | None = None


def by(field: str, domain: Sequence[str], colors: Sequence[str], columns: int = 4) -> Any:
    """A colour for each of `domain`, in the order of `colors`, with a legend below of so many columns."""
    alt = altair_module()
    shades = [colors[place % len(colors)] for place in range(len(domain))]
    return alt.Color(
        f"{field}:N", title=None, scale=alt.Scale(domain=list(domain), range=shades), legend=_legend(columns)
    )


def shaped(field: str, domain: Sequence[str], columns: int) -> Any:
    """A shape for each of `domain`: who sees no colours tells them apart too."""
    alt = altair_module()
    shapes = [SHAPES[place % len(SHAPES)] for place in range(len(domain))]
    return alt.Shape(
        f"{field}:N", title=None, scale=alt.Scale(domain=list(domain), range=shapes), legend=_legend(columns)
    )


def _legend(columns: int) -> Any:
    return altair_module().Legend(orient="bottom", columns=columns, symbolOpacity=1, labelLimit=170, columnPadding=18)


def table(name: str) -> Any:
    """Where a drawing finds its rows: among the tables of `finished`."""
    return altair_module().NamedData(name=name)


def chance_line() -> Any:
    """The line at chance; of the table CHANCE, called `chance`."""
    line = altair_module().Chart(table("chance"))
    return line.mark_rule(strokeDash=[4, 3], color=MUTED, description="chance: 50%").encode(x="chance:Q")


def roomy(spec: Spec, labels: Sequence[str], width: int) -> Spec:
    """A browser without the fonts that the drawing was measured with needs more room for the labels."""
    longest = max(map(len, labels), default=0)
    spec["padding"] = {"left": 6 + min(longest, 25 if width < 300 else 60), "top": 6, "right": 40, "bottom": 6}
    return spec


def finished(
    chart: Any,
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    title: str,
    width: int | None,
    height: int | Spec | None,
) -> Spec:
    """The spec of a chart, with its tables, its title and the looks that all share."""
    # In two lines, so that the name of a result fits a narrow drawing.
    values: Spec = {"title": title.split(": ", 1), "background": "white"}
    if width is not None:
        values |= {"width": width, "height": height}
    text = {"labelColor": INK, "titleColor": INK, "labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal"}
    # Altair checks each object as it is made, and the tests check the whole. Tables are added here, for it copies all
    # that a chart holds with every setting.
    spec: Spec = (
        chart.properties(**values)
        .configure(padding=6, font="Helvetica, Arial, sans-serif")
        .configure_axis(gridColor=GRID, domainColor=MUTED, tickColor=MUTED, **text)
        .configure_legend(**{key: value for key, value in text.items() if key.startswith("label")})
        .configure_title(anchor="start", fontSize=13, color=INK, fontWeight="bold", offset=8)
        .configure_view(stroke=None)
        .to_dict(validate=False)
    )
    return spec | {"datasets": {name: list(rows) for name, rows in tables.items()}}


def short(name: str) -> str:
    """A name that fits a legend."""
    return name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}…"


def altair_module() -> Any:
    """The package altair; FirstwordsError where it is not installed."""
    try:
        import altair
    except ImportError:
        raise missing("altair") from None
    return altair


def missing(package: str) -> FirstwordsError:
    """What is said where a package is not installed that draws charts."""
    return FirstwordsError(
        f"charts need the package {package}, which is not installed",
        where="the charts of a page",
        do="pip install 'firstwords[report]'",
    )
