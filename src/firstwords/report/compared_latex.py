"""A comparison as LaTeX tables to be put into a paper with `\\input`; they need the packages array and booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version

from firstwords.evaluation.statistics import Interval
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
)
from firstwords.report.comparison import Comparison
from firstwords.report.page_parts import listed
from firstwords.report.summary import LOSS_LEGEND

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",
    "]": "{]}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
_TO_ESCAPE = re.compile("|".join(map(re.escape, _SPECIAL)) + "|--+")


def latex(found: Compared, by: By = "phenomenon", charts: Sequence[tuple[str, str]] = ()) -> str:
    """The tables, each a float with its caption. charts: title and PDF file of each picture that is to stand in it."""
    packages = ["array", "booktabs", *(["graphicx"] if charts else []), *(["longtable"] if by == "paradigm" else [])]
    parts = [f"% Written by firstwords {version('firstwords')}. In the preamble: \\usepackage{{{','.join(packages)}}}"]
    for number, one in enumerate(found.comparisons, start=1):
        label = "differences" if len(found.comparisons) == 1 else f"differences-{number}"
        parts.append(_differences(found, one, by, label))
    parts.append(_facts(found))
    for number, (title, path) in enumerate(charts, start=1):
        picture = f"  \\centering\n  \\includegraphics[width=\\linewidth]{{{path}}}"
        parts.append(f"\\begin{{figure}}\n{picture}\n{_caption(title, f'fig:chart-{number}')}\n\\end{{figure}}")
    return "\n\n".join(parts) + "\n"


def text(plain: str) -> str:
    """Plain text so that LaTeX sets it as it is."""

    def escaped(match: re.Match[str]) -> str:
        sign = match[0]
        # Several hyphens would become a dash.
        return "{}".join(sign) if sign.startswith("--") else _SPECIAL[sign]

    return _TO_ESCAPE.sub(escaped, " ".join(plain.split()))


def _differences(found: Compared, one: Comparison, by: By, label: str) -> str:
    rows = []
    for row in rows_by(one, by):
        cells = [f"{row.pairs:,}", f"{100 * row.a.estimate:.1f}", f"{100 * row.b.estimate:.1f}"]
        rows.append([text(line_name(row, by)), *cells, *_difference(row.difference, row.p_holm, sure=is_sure(row))])
    overall, these = one.overall, one.overall.these_paradigms
    cells = [f"{overall.pairs:,}", f"{100 * overall.a.estimate:.1f}", f"{100 * overall.b.estimate:.1f}"]
    last = [
        ["overall", *cells, *_difference(overall.difference, overall.difference.p, sure=is_sure(overall))],
        [r"\quad on these paradigms", "", "", "", *_difference(these, these.p, sure=False)],
    ]
    head = [by, "pairs", text(one.a.label), text(one.b.label), "difference", "95\\% interval", "$p$"]
    told = " ".join([*legend(found, by), *notes(found)])
    caption = f"On {found.result}: {one.sentence}"
    return _table(f"l{'r' * (len(head) - 1)}", head, [rows, last], caption, told, label, long=by == "paradigm")


def _difference(difference: Interval, p: float, *, sure: bool) -> list[str]:
    between, interval = difference_cells(difference)
    least, most = interval.split(" to ")
    return [
        f"$\\mathbf{{{between}}}$" if sure else f"${between}$",
        f"${least}$ to ${most}$",
        f"${p_cell(p)}$",
    ]


def _facts(found: Compared) -> str:
    groups = found.facts()
    parts = [
        [[text(label), *map(text, cells)] for label, cells in facts.items()] for topic, facts in groups.items() if facts
    ]
    width = f"{0.58 / len(found.models):.2f}"
    columns = f"l*{{{len(found.models)}}}{{>{{\\raggedright\\arraybackslash}}p{{{width}\\linewidth}}}}"
    caption = f"{listed([model.label for model in found.models])}: architecture, data, cost and accuracies."
    told = f"{LOSS_LEGEND}." if "losses" in groups else ""
    return _table(columns, ["", *(text(model.label) for model in found.models)], parts, caption, told, "facts")


def _caption(told: str, label: str) -> str:
    return f"  \\caption{{{text(told)}}}\n  \\label{{{label}}}"


def _table(
    columns: str,
    head: Sequence[str],
    parts: Sequence[Sequence[Sequence[str]]],
    caption: str,
    told: str,
    label: str,
    *,
    long: bool = False,
) -> str:
    """A float with what its columns say below it; with `long` a table that goes on over pages."""
    titles, rule = _row(head), "    \\midrule"
    body = f"\n{rule}\n".join("\n".join(map(_row, part)) for part in parts if part)
    above = _caption(caption, f"tab:{label}")
    below = f"  \\par\\smallskip\\footnotesize {text(told)}\n" if told else ""
    columns = f"@{{}}{columns}@{{}}"
    if long:
        return (
            f"\\begingroup\\footnotesize\\setlength{{\\tabcolsep}}{{3pt}}\n"
            f"\\begin{{longtable}}{{{columns}}}\n{above} \\\\\n"
            f"    \\toprule\n{titles}\n{rule}\n    \\endfirsthead\n    \\toprule\n{titles}\n{rule}\n    \\endhead\n"
            f"{body}\n    \\bottomrule\n\\end{{longtable}}\n{below}\\endgroup"
        )
    return (
        f"\\begin{{table}}\n{above}\n  \\centering\\footnotesize\\setlength{{\\tabcolsep}}{{3pt}}\n"
        f"  \\begin{{tabular}}{{{columns}}}\n    \\toprule\n{titles}\n{rule}\n{body}\n    \\bottomrule\n"
        f"  \\end{{tabular}}\n{below}\\end{{table}}"
    )


def _row(cells: Sequence[str]) -> str:
    return f"    {' & '.join(cells)} \\\\"
