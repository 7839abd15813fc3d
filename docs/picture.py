"""Draw the README's picture from what a run has measured: accuracy of each phenomenon with its interval.

python docs/picture.py runs/model-a/evaluation/blimp.firstwords.json docs/model-a.svg
"""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path

LEFT, RIGHT, TOP, ROW = 230, 700, 58, 24
LOWEST, HIGHEST = 20, 100


def x_of(accuracy: float) -> float:
    """Place of an accuracy (0 to 1) on the scale, in pixels."""
    return LEFT + (100 * accuracy - LOWEST) / (HIGHEST - LOWEST) * (RIGHT - LEFT)


def row(y: float, name: str, found: dict[str, float], bold: bool) -> str:
    """A name, a point, its interval and its number."""
    weight = ' font-weight="bold"' if bold else ""
    middle, low, high = (x_of(found[key]) for key in ("accuracy", "low", "high"))
    return (
        f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end"{weight}>{escape(name)}</text>'
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="#0072b2" stroke-width="3" opacity="0.45"/>'
        f'<circle cx="{middle:.1f}" cy="{y}" r="4.5" fill="#0072b2"/>'
        f'<text x="{RIGHT + 52}" y="{y + 4}" text-anchor="end"{weight}>{100 * found["accuracy"]:.1f}%</text>'
    )


def picture(result: dict[str, object]) -> str:
    """The whole SVG."""
    phenomena: dict[str, dict[str, float]] = result["phenomena"]  # type: ignore[assignment]
    rows = sorted(phenomena.items(), key=lambda item: -item[1]["accuracy"])
    height = TOP + ROW * (len(rows) + 1) + 44
    chance = x_of(0.5)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 770 {height}" font-family="sans-serif" font-size="13"'
        ' fill="#57606a" role="img">',
        f'<text x="20" y="26" font-size="16" font-weight="bold">{escape(str(result["title"]))}</text>',
        f'<line x1="{chance}" x2="{chance}" y1="{TOP - 12}" y2="{height - 40}" stroke="#8c959f"/>',
        f'<text x="{chance}" y="{height - 24}" text-anchor="middle">chance</text>',
    ]
    for number, (name, found) in enumerate(rows):
        parts.append(row(TOP + ROW * number, name.replace("_", " "), found, bold=False))
    overall: dict[str, float] = result["overall"]  # type: ignore[assignment]
    parts.append(row(TOP + ROW * len(rows), "all 67 paradigms", overall, bold=True))
    parts.append(f'<text x="{LEFT}" y="{height - 6}" font-size="11">points: accuracy; bars: 95% intervals</text></svg>')
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    measured = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    name = Path(sys.argv[1]).resolve().parents[1].name
    title = f"{name}: BLiMP, {measured['counts']['pairs']:,} pairs, protocol {measured['protocol']}"
    Path(sys.argv[2]).write_text(picture(measured | {"title": title}), encoding="utf-8")
