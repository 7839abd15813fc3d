"""The command that holds models against each other on the same minimal pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from firstwords.cli.options import Json, Workspace

if TYPE_CHECKING:
    from firstwords.report.compared import By, Compared, Seed

_DEFAULT_PROTOCOL = "firstwords"
_MODEL_HELP = (
    "A run, a model that was evaluated, a folder with `evaluation/` in it, or a result's .json file. Commas join the "
    "seeds of one model: model-a,model-a-seed2"
)
Format = Literal["terminal", "markdown", "latex", "html", "json"]
_ENDINGS: dict[str, Format] = {
    ".md": "markdown",
    ".tex": "latex",
    ".html": "html",
    ".htm": "html",
    ".json": "json",
    ".txt": "terminal",
}
_FORM = Group("Form", sort_key=1)


def compare(
    a: Annotated[str, Parameter(name="A", help=_MODEL_HELP)],
    b: Annotated[str, Parameter(name="B", help="The model that is held against it, named likewise.")],
    /,
    *others: Annotated[str, Parameter(name="C", help="More models, each held against A too.")],
    suite: Annotated[str | None, Parameter(help="Test set; the one that all were judged on otherwise.")] = None,
    protocol: Annotated[
        str | None, Parameter(help="How they were judged; the one that all have otherwise, or firstwords.")
    ] = None,
    by: Annotated[
        Literal["phenomenon", "field", "paradigm"], Parameter(help="What each line of the table is.")
    ] = "phenomenon",
    form: Annotated[
        Format | None,
        Parameter(
            name="--format",
            group=_FORM,
            help="How it is written: for the terminal, as Markdown, as LaTeX tables (booktabs), as one HTML page that "
            "needs no network. The ending of --output says it too: .md, .tex, .html.",
        ),
    ] = None,
    output: Annotated[
        Path | None, Parameter(name=("--output", "-o"), group=_FORM, help="Write it to this file, not to stdout.")
    ] = None,
    charts: Annotated[
        Path | None,
        Parameter(
            group=_FORM,
            help="Write its charts into this folder, as SVG, PNG and PDF. Markdown and LaTeX show them then.",
        ),
    ] = None,
    workspace: Workspace = Path("runs"),
    json: Json = False,
) -> None:
    """Compare models on the same minimal pairs: is B better than A, by how much, and how sure is that?"""
    from firstwords.report.compared import compare_all

    chosen_form = _form(form, output, json=json)
    sides = [_Side(name, workspace) for name in (a, b, *others)]
    found = compare_all([side.seeds for side in sides], _choose(sides, suite, protocol))
    text = _written(found, chosen_form, by, output, charts)
    if output is None:
        print(text, end="")
        return
    from firstwords.run_folder import atomic_write_text

    atomic_write_text(output, text)
    print(output)


def _form(form: Format | None, output: Path | None, *, json: bool) -> Format:
    """What the user asks for, in one of three ways that must not contradict."""
    from firstwords.errors import FirstwordsError

    if json and form not in (None, "json"):
        raise FirstwordsError(f"--json is no {form}", where="--json and --format", do="give one of them")
    if output is not None and output.is_dir():
        raise FirstwordsError(
            f"'{output}' is a folder", where="--output", do=f"name a file in it, such as {output / 'comparison.html'}"
        )
    if json or form is not None:
        return form or "json"
    if output is None:
        return "terminal"
    known = _ENDINGS.get(output.suffix.lower())
    if known is None:
        raise FirstwordsError(
            f"the name '{output.name}' does not say how the comparison is to be written",
            where="--output",
            do=f"give --format, or end the name in {', '.join(_ENDINGS)}",
        )
    return known


def _written(found: Compared, form: Format, by: By, output: Path | None, charts: Path | None) -> str:
    """The comparison in that form; its charts are written where they are asked for."""
    from firstwords.cli.comparison_text import comparison_text
    from firstwords.cli.printing import json_text

    drawn: list[tuple[str, str]] = []
    folder = None
    if charts is not None:
        from firstwords.report.compared_page import chart_files

        beside = Path() if output is None else output.parent
        folder = _seen_from(charts, beside)
        ending = "pdf" if form == "latex" else "svg"
        drawn = [(title, f"{folder}/{path.name}.{ending}") for title, path in chart_files(found, by, charts)]
    match form:
        case "markdown":
            from firstwords.report.compared_markdown import markdown

            return markdown(found, by, drawn)
        case "latex":
            from firstwords.report.compared_latex import latex

            return latex(found, by, drawn)
        case "html":
            from firstwords.report.compared_page import page

            return page(found, by, folder)
        case "json":
            return json_text(found.to_json()) + "\n"
        case _:
            return comparison_text(found, by)


def _seen_from(folder: Path, place: Path) -> str:
    """The relative address of a folder in a file of `place`."""
    import os

    return Path(os.path.relpath(folder, place)).as_posix()


class _Side:
    """One model's seeds, found by what the user calls them."""

    def __init__(self, names: str, workspace: Path) -> None:
        # A path may have commas in its name.
        words = [names] if Path(names).exists() else [word for word in names.split(",") if word]
        self.seeds = [_named(word, workspace) for word in words or [names]]

    def common(self) -> list[tuple[str, str]]:
        """The suites and protocols of which every seed has a result."""
        return [key for key in self.seeds[0].results if all(key in seed.results for seed in self.seeds)]

    def listed(self) -> str:
        """What there is, for messages."""
        return "; ".join(
            f"{seed.name}: {', '.join('.'.join(key) for key in seed.results) or 'nothing'}" for seed in self.seeds
        )


def _named(name: str, workspace: Path) -> Seed:
    """A model by its name."""
    from firstwords.errors import FirstwordsError, did_you_mean
    from firstwords.models import EVALUATED, evaluated_folder, find_run_folder, folder_name
    from firstwords.report.compared import Seed
    from firstwords.report.judgements import key_of
    from firstwords.run_folder import runs_in

    path = Path(name)
    if path.suffix == ".json" and path.is_file():
        suite, protocol = key = key_of(path)
        model = path.resolve().parent.parent.name
        prefix = path.stem.removesuffix(f"{suite}.{protocol}").rstrip(".")
        return Seed(f"{model} {prefix}".rstrip(), {key: path})
    run = find_run_folder(name, workspace)
    folders = [run.path if run else path, evaluated_folder(name, workspace).path]
    if run is None and (path / "config.json").is_file():
        folders.append(evaluated_folder(folder_name(path, workspace), workspace).path)
    for folder in folders:
        if (folder / "evaluation").is_dir():
            return Seed.of_folder(folder.resolve().name, folder)
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
    """The suite and protocol that the user names, or the only one that all models have."""
    from firstwords.errors import FirstwordsError, did_you_mean

    common = [key for key in sides[0].common() if all(key in side.common() for side in sides[1:])]
    if not common:
        raise FirstwordsError(
            "the models have no suite and protocol in common",
            where="\n         ".join(side.listed() for side in sides),
            do=_same_for_all(sides),
        )
    if suite is not None and protocol is None and (named := tuple(suite.rsplit(".", 1))) in common:
        return named
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


def _same_for_all(sides: Sequence[_Side]) -> str:
    """What makes models comparable that are not: a protocol that another has on the same test set, if there is one."""
    first, *others = sides
    for suite, protocol in first.common():
        lacking = [side for side in others if (suite, protocol) not in side.common()]
        if all(suite in (key[0] for key in side.common()) for side in lacking):
            name = lacking[0].seeds[0].name
            return (
                "evaluate them under the same protocol: "
                f"`firstwords evaluate {name} --suite {suite} --protocol {protocol}`"
            )
    return "evaluate them on the same test set: `firstwords evaluate MODEL --suite blimp`"
