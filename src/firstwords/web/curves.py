"""Losses as lines of an SVG: places in a square of 100 by 100 that the page stretches to the room it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from firstwords.web.losses import Losses, Point, thinned

_SPARK_POINTS, _CHART_POINTS = 60, 240
_MARGIN = 4.0
"""Room above and below a line, so that its stroke is not cut."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line. number: which of the line styles it has. points: as SVG's polyline takes them."""

    label: str
    number: int
    points: str


@dataclass(frozen=True, slots=True)
class Curve:
    """Lines with a common scale. least, most: losses at the lower and upper edge. told: it in words."""

    lines: tuple[Line, ...]
    least: float
    most: float
    last_step: int
    told: str


def spark(losses: Losses) -> Curve | None:
    """The losses of the steps as one small line; None before there are two of them."""
    return _curve({"training": thinned(losses.train, _SPARK_POINTS)}) if len(losses.train) > 1 else None


def chart(losses: Losses) -> Curve | None:
    """Losses of training and dev text."""
    if len(losses.train) < 2:
        return None
    lines = {"training text": thinned(losses.train, _CHART_POINTS)}
    if len(losses.dev) > 1:
        lines["dev text"] = thinned(losses.dev, _CHART_POINTS)
    return _curve(lines)


def beside(by_run: Mapping[str, Losses]) -> Curve | None:
    """The losses of several runs' steps."""
    lines = {name: thinned(losses.train, _CHART_POINTS) for name, losses in by_run.items() if len(losses.train) > 1}
    return _curve(lines) if lines else None


def _curve(lines: Mapping[str, Sequence[Point]]) -> Curve:
    every = [point for points in lines.values() for point in points]
    steps, values = [step for step, _ in every], [loss for _, loss in every]
    least, most, first, last = min(values), max(values), min(steps), max(steps)
    wide, high = max(last - first, 1e-9), max(most - least, 1e-9)

    def place(point: Point) -> str:
        x = 100 * (point[0] - first) / wide
        y = 100 - _MARGIN - (100 - 2 * _MARGIN) * (point[1] - least) / high
        return f"{x:.1f},{y:.1f}"

    told = "; ".join(
        f"loss of {name} from {points[0][1]:.2f} to {points[-1][1]:.2f} at step {int(points[-1][0]):,}"
        for name, points in lines.items()
    )
    drawn = (Line(name, number, " ".join(map(place, points))) for number, (name, points) in enumerate(lines.items()))
    return Curve(tuple(drawn), least, most, int(last), told)
