"""A comparison in the terminal: within 80 columns, and the same on a screen, in a pipe and in a file."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from firstwords.cli.printing import column_lines
from firstwords.evaluation.statistics import Interval
from firstwords.report.compared import (
    LETTERS,
    By,
    Compared,
    Model,
    legend,
    line_name,
    notes,
    p_cell,
    rows_by,
    seeds_told,
)
from firstwords.report.compared_drawing import drawing
from firstwords.report.comparison import Comparison, Overall, Row
from firstwords.report.summary import LOSS_LEGEND

_WIDTH = 80


def comparison_text(found: Compared, by: By) -> str:
    """The sentences, the tables, a drawing, what they say, and the models side by side."""
    lines = [f"{found.result}: {found.first.overall.pairs:,} pairs"]
    lines += column_lines([(letter, _overall(model)) for letter, model in zip(LETTERS, found.models, strict=False)])
    for letter, one in zip(LETTERS[1:], found.comparisons, strict=False):
        lines += ["", *_filled(one.sentence), "", *_table(one, by, letter)]
    lines.append("")
    if drawn := drawing(found, by, _WIDTH):
        lines += [*drawn, ""]
    for told in (*legend(found, by), *notes(found)):
        lines += _filled(told)
    return "\n".join([*lines, "", *_facts(found)]) + "\n"


def _filled(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _overall(model: Model) -> str:
    text = f"{', '.join(seed.name for seed in model.seeds)}: {_with_interval(model.overall)}"
    told = seeds_told(model.overall)
    return f"{text}, {told}" if told else text


def _with_interval(found: Interval) -> str:
    return f"{100 * found.estimate:.1f} [{100 * found.low:.1f} {100 * found.high:.1f}]"


# ---- the table of one comparison ----


def _table(found: Comparison, by: By, letter: str) -> list[str]:
    overall = found.overall
    # The long names of paradigms do not fit a screen anyway.
    counted = by == "paradigm" and overall.only_a is not None
    only = ("only A", f"only {letter}") if counted else ()
    rows = [["", "pairs", "A", letter, f"{letter} - A", "95% interval", *only, "p", *found.references]]
    rows += [
        [line_name(row, by), *_cells(row, row.p_holm, found.references, counted=counted)] for row in rows_by(found, by)
    ]
    rows.append(["overall", *_cells(overall, overall.difference.p, found.references, counted=counted)])
    these = overall.these_paradigms
    rows.append(["  on these paradigms", "", "", "", *_difference(these), *[""] * len(only), p_cell(these.p)])
    return column_lines(rows, right=range(1, len(rows[0])))


def _cells(line: Row | Overall, p: float, references: Sequence[str], *, counted: bool) -> list[str]:
    return [
        f"{line.pairs:,}",
        f"{100 * line.a.estimate:.1f}",
        f"{100 * line.b.estimate:.1f}",
        *_difference(line.difference),
        *([f"{line.only_a:,}", f"{line.only_b:,}"] if counted else []),
        p_cell(p),
        *(f"{100 * line.references[name]:.1f}" if name in line.references else "-" for name in references),
    ]


def _difference(difference: Interval) -> tuple[str, str]:
    # Adding 0 makes a zero of a negative zero.
    estimate, low, high = (
        round(100 * value, 1) + 0.0 for value in (difference.estimate, difference.low, difference.high)
    )
    return f"{estimate:+.1f}", f"[{low:.1f} {high:.1f}]"


# ---- side by side ----


def _facts(found: Compared) -> Iterator[str]:
    groups = found.facts()
    rows: list[list[str]] = [["", *(model.label for model in found.models)]]
    for topic, facts in groups.items():
        rows.append([topic.upper()])
        rows += [[f"  {label}", *cells] for label, cells in facts.items()]
    yield from column_lines(rows, width=_WIDTH)
    if "losses" in groups:
        yield LOSS_LEGEND
