"""The command that holds two models against each other on the same minimal pairs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from firstwords.cli.options import Json, Workspace
from firstwords.cli.printing import print_columns, print_json

if TYPE_CHECKING:
    from firstwords.evaluation.statistics import Difference, Interval, SeedsInterval
    from firstwords.report.comparison import Comparison, Overall, Row
    from firstwords.report.judgements import Result

_DEFAULT_PROTOCOL = "firstwords"
_MODEL_HELP = (
    "A run, a model that was evaluated, a folder with `evaluation/` in it, or a result's .json file. Commas join the "
    "seeds of one model: model-a,model-a-seed2"
)


def compare(
    a: Annotated[str, Parameter(name="A", help=_MODEL_HELP)],
    b: Annotated[str, Parameter(name="B", help="The model that is held against it, named likewise.")],
    /,
    *,
    suite: Annotated[str | None, Parameter(help="Test set; the one that both were judged on otherwise.")] = None,
    protocol: Annotated[
        str | None, Parameter(help="How they were judged; the one that both have otherwise, or firstwords.")
    ] = None,
    by: Annotated[
        Literal["phenomenon", "field", "paradigm"], Parameter(help="What each line of the table is.")
    ] = "phenomenon",
    workspace: Workspace = Path("runs"),
    json: Json = False,
) -> None:
    """Compare two models on the same minimal pairs: is B better than A, by how much, and how sure is that?"""
    from firstwords.report.comparison import compare as comparison

    sides = [_Side(name, workspace) for name in (a, b)]
    chosen = _choose(sides, suite, protocol)
    found = comparison(*(side.read(chosen) for side in sides))
    if json:
        print_json(found.to_json())
    else:
        print_comparison(found, by)


class _Side:
    """The results of one model's seeds, found by what the user calls them."""

    def __init__(self, names: str, workspace: Path) -> None:
        # A path may have commas in its name.
        words = [names] if Path(names).exists() else [word for word in names.split(",") if word]
        self.seeds = [_named(word, workspace) for word in words or [names]]

    def common(self) -> list[tuple[str, str]]:
        """The suites and protocols of which every seed has a result."""
        first = self.seeds[0][1]
        return [key for key in first if all(key in results for _, results in self.seeds)]

    def read(self, chosen: tuple[str, str]) -> list[Result]:
        """The result of every seed on the chosen suite under the chosen protocol."""
        from firstwords.report.judgements import read_result

        return [read_result(results[chosen], name) for name, results in self.seeds]

    def listed(self) -> str:
        """What there is, for messages."""
        return "; ".join(
            f"{name}: {', '.join('.'.join(key) for key in results) or 'nothing'}" for name, results in self.seeds
        )


def _named(name: str, workspace: Path) -> tuple[str, dict[tuple[str, str], Path]]:
    """A model's name and its results by suite and protocol."""
    from firstwords.errors import FirstwordsError, did_you_mean
    from firstwords.models import EVALUATED, evaluated_folder, find_run_folder
    from firstwords.report.judgements import find_results, key_of
    from firstwords.run_folder import runs_in

    path = Path(name)
    if path.suffix == ".json" and path.is_file():
        suite, protocol = key = key_of(path)
        model = path.resolve().parent.parent.name
        prefix = path.stem.removesuffix(f"{suite}.{protocol}").rstrip(".")
        return f"{model} {prefix}".rstrip(), {key: path}
    run = find_run_folder(name, workspace)
    folders = [run.path if run else path, evaluated_folder(name, workspace).path]
    # A model of a folder is evaluated under that folder's name.
    folders.append(evaluated_folder(path.resolve().name, workspace).path)
    for folder in folders:
        if (folder / "evaluation").is_dir():
            return folder.resolve().name, find_results(folder / "evaluation")
    if run is not None or path.is_dir():
        raise FirstwordsError(
            f"'{name}' has no results yet",
            where=str((run.path if run else path).absolute()),
            do=f"`firstwords evaluate {name}` makes them",
        )
    others = workspace / EVALUATED
    known = [found.name for found in runs_in(workspace)]
    known += sorted(folder.name for folder in others.iterdir()) if others.is_dir() else []
    raise FirstwordsError(
        f"there is no model '{name}' with results",
        where=f"{workspace.absolute()}: {', '.join(known) or 'nothing yet'}",
        do=did_you_mean(name, known) or "name a run, a folder with `evaluation/` in it, or the .json file of a result",
    )


def _choose(sides: Sequence[_Side], suite: str | None, protocol: str | None) -> tuple[str, str]:
    """The suite and protocol that the user names, or the only one that both models have."""
    from firstwords.errors import FirstwordsError, did_you_mean

    common = [key for key in sides[0].common() if key in sides[1].common()]
    if not common:
        raise FirstwordsError(
            "the models have no suite and protocol in common",
            where="\n         ".join(side.listed() for side in sides),
            do="evaluate both on the same test set: `firstwords evaluate MODEL --suite blimp`",
        )
    fitting = [key for key in common if suite in (None, key[0]) and protocol in (None, key[1])]
    if len(fitting) > 1 and protocol is None and len({key[0] for key in fitting}) == 1:
        fitting = [key for key in fitting if key[1] == _DEFAULT_PROTOCOL] or fitting
    if len(fitting) == 1:
        return fitting[0]
    asked = ".".join(word or "*" for word in (suite, protocol))
    listed = ", ".join(".".join(key) for key in fitting or common)
    near = did_you_mean(suite or "", [key[0] for key in common]) if not fitting else None
    raise FirstwordsError(
        f"the models have {len(fitting)} results in common"
        if fitting
        else f"the models have no result '{asked}' in common",
        where=f"in common: {listed}",
        do=near or "choose one with --suite and --protocol",
    )


def print_comparison(found: Comparison, by: str = "phenomenon") -> None:
    """The sentence, the table, and what its columns and intervals say."""
    overall = found.overall
    print(f"{found.suite}.{found.protocol}: {overall.pairs:,} pairs")
    print_columns([("A", _side(found.a.names, overall.a)), ("B", _side(found.b.names, overall.b))])
    print()
    _print_text(found.sentence)
    print()
    rows: tuple[Row, ...] = {"field": found.fields, "phenomenon": found.phenomena, "paradigm": found.paradigms}[by]
    # The long names of paradigms do not fit a screen anyway.
    counted = by == "paradigm" and overall.only_a is not None
    only = ("only A", "only B") if counted else ()
    table = [["", "pairs", "A", "B", "B - A", "95% interval", *only, "p", *found.references]]
    for row in rows:
        name = row.name if by == "paradigm" else row.name.replace("_", " ")
        table.append([name, *_cells(row, row.difference, row.p_holm, found.references, counted=counted)])
    table.append(["overall", *_cells(overall, overall.difference, None, found.references, counted=counted)])
    these = overall.these_paradigms
    table.append(["  on these paradigms", "", "", "", *_difference(these), *[""] * len(only), _p(these.p)])
    print_columns(table, right=range(1, len(table[0])))
    print()
    for text in (*_legend(found, by, len(rows)), *found.notes):
        _print_text(text)


def _print_text(text: str) -> None:
    print(textwrap.fill(text, 80, break_long_words=False, break_on_hyphens=False))


def _legend(found: Comparison, by: str, tests: int) -> list[str]:
    lines = [
        "Accuracies in %, differences in points. Intervals and p are as were other pairs of the same paradigms drawn, "
        f"those of overall ({found.overall.kind}) as were other paradigms drawn."
    ]
    if tests:
        test = "over seeds and pairs" if found.overall.only_a is None else "of McNemar's exact test"
        lines.append(f"p of a {by}: {test}, corrected for {tests} tests (Holm); the intervals are not.")
    return lines


def _side(names: Sequence[str], overall: SeedsInterval) -> str:
    text = f"{', '.join(names)}: {100 * overall.estimate:.1f} [{100 * overall.low:.1f} {100 * overall.high:.1f}]"
    spread = overall.spread
    if spread.sd is None:
        return text
    least, greatest = (f"{100 * value:.1f}" for value in (spread.least, spread.greatest))
    return f"{text}, {spread.seeds} seeds from {least} to {greatest} (sd {100 * spread.sd:.2f})"


def _cells(
    line: Row | Overall, difference: Difference, p: float | None, references: Sequence[str], *, counted: bool
) -> list[str]:
    return [
        f"{line.pairs:,}",
        f"{100 * line.a.estimate:.1f}",
        f"{100 * line.b.estimate:.1f}",
        *_difference(difference),
        *([f"{line.only_a:,}", f"{line.only_b:,}"] if counted else []),
        _p(difference.p if p is None else p),
        *(f"{100 * line.references[name]:.1f}" if name in line.references else "-" for name in references),
    ]


def _difference(difference: Interval) -> tuple[str, str]:
    # Adding 0 makes a zero of a negative zero.
    estimate, low, high = (
        round(100 * value, 1) + 0.0 for value in (difference.estimate, difference.low, difference.high)
    )
    return f"{estimate:+.1f}", f"[{low:.1f} {high:.1f}]"


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
