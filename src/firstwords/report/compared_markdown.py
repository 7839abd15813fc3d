"""A comparison in Markdown, as GitHub and the Hugging Face Hub show it; the card takes its parts from here too."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from firstwords.report.compared import (
    LETTERS,
    By,
    Compared,
    accuracy,
    difference_cells,
    is_sure,
    legend,
    line_name,
    notes,
    p_cell,
    rows_by,
    seeds_told,
)
from firstwords.report.compared_drawing import drawing
from firstwords.report.comparison import Comparison
from firstwords.report.summary import LOSS_LEGEND

_SPECIAL = re.compile(r"([\\`*_\[\]|~$]|<(?=[A-Za-z/!?])|&(?=#?\w+;)|^[#>+-])")

_PLAIN_NAME = re.compile(r"[^`|\s\\]+")


def markdown(found: Compared, by: By = "phenomenon", charts: Sequence[tuple[str, str]] = ()) -> str:
    """The whole comparison.

    charts: title and address of each picture that is to stand in it; without, a drawing of characters does.
    """
    lines = [f"# {text(found.title)}", ""]
    lines += [f"On {code(found.result)}, {found.first.overall.pairs:,} pairs.", ""]
    for sentence in found.sentences:
        lines += [f"**{text(sentence)}**", ""]
    lines += [f"![{text(title)}](<{address}>)\n" for title, address in charts]
    drawn = [] if charts else drawing(found, by)
    if drawn:
        letters = [f"{letter} is {text(model.label)}" for letter, model in zip(LETTERS, found.models, strict=False)]
        lines += [f"Accuracies in %, where {', '.join(letters)}:", "", "```text", *drawn, "```", ""]
    lines += ["## Differences", ""]
    for one in found.comparisons:
        if len(found.comparisons) > 1:
            lines += [f"### {text(one.b.label)} and {text(one.a.label)}", ""]
        lines += [*differences(one, by), ""]
    lines += [f"{text(told)}\n" for told in legend(found, by)]
    lines += ["## Side by side", "", *facts([model.label for model in found.models], found.facts()), ""]
    lines += [f"{text(model.label)}: {told}.\n" for model in found.models if (told := seeds_told(model.overall))]
    lines += ["## How it was measured", "", text(found.first.statement), ""]
    lines += [f"- {text(note)}" for note in notes(found)]
    return "\n".join(lines).rstrip() + "\n"


def facts(names: Sequence[str], groups: Mapping[str, Mapping[str, list[str]]]) -> list[str]:
    """The cards' comparison table: topics, facts, a column a model."""
    rows = []
    for topic, facts_of in groups.items():
        rows.append([f"**{text(topic)}**", *("" for _ in names)])
        rows += [[text(label), *map(text, cells)] for label, cells in facts_of.items()]
    lines = _table(["", *map(text, names)], rows)
    return [*lines, "", text(LOSS_LEGEND)] if "losses" in groups else lines


def differences(found: Comparison, by: By) -> list[str]:
    """A row for each phenomenon (field, paradigm), then overall; what is sure is in bold."""
    rows = []
    for row in rows_by(found, by):
        between, interval = difference_cells(row.difference)
        sure = f"**{between}**" if is_sure(row) else between
        name = code(row.name) if by == "paradigm" else text(line_name(row, by))
        rows.append([name, f"{row.pairs:,}", accuracy(row.a), accuracy(row.b), sure, interval, p_cell(row.p_holm)])
    overall = found.overall
    between, interval = difference_cells(overall.difference)
    sure = f"**{between}**" if is_sure(overall) else between
    cells = [accuracy(overall.a), accuracy(overall.b), sure, interval, p_cell(overall.difference.p)]
    rows.append(["**overall**", f"{overall.pairs:,}", *cells])
    these = overall.these_paradigms
    rows.append(["on these paradigms", "", "", "", *difference_cells(these), p_cell(these.p)])
    head = [by, "pairs", text(found.a.label), text(found.b.label), "difference", "95% interval", "p"]
    return _table(head, rows, right=range(1, len(head)))


def text(plain: str) -> str:
    """Plain text so that it reads as it is: nothing in it is taken for markup."""
    return _SPECIAL.sub(r"\\\1", " ".join(plain.split()))


def code(name: str) -> str:
    """A name as code; one that a table or backticks would cut, as text."""
    return f"`{name}`" if _PLAIN_NAME.fullmatch(name) else text(name)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    rule = ["---:" if column in right else "---" for column in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]
