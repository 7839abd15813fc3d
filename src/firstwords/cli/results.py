"""Commands about what runs made: a list, a table of one or several, and text from a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from firstwords.cli.options import Json, Workspace
from firstwords.cli.printing import print_columns, print_json

if TYPE_CHECKING:
    from firstwords.report.results import HasResults
    from firstwords.report.summary import RunSummary
    from firstwords.run_folder import RunFolder


def runs(*, workspace: Workspace = Path("runs"), json: Json = False) -> None:
    """List the runs of the workspace, what they reached and how far they are."""
    from firstwords.report.summary import run_line, runs_table
    from firstwords.run_folder import runs_in

    found = [run_line(run) for run in runs_in(workspace)]
    if json:
        print_json([asdict(run) for run in found])
    elif found:
        print_columns(runs_table(found), right=(1, 2, 3), wrap=True)
    else:
        print(f"no runs in {workspace} yet: `firstwords run RECIPE` makes one")


def show(
    run: Annotated[str, Parameter(name="RUN", help="Name of a run in the workspace, or the path of its folder.")],
    /,
    *others: Annotated[str, Parameter(name="RUN", help="More runs, to stand beside it.")],
    beside: Annotated[
        bool,
        Parameter(
            help="Show by phenomenon what accuracies must be compared with: a guess, word frequency, a 5-gram model, "
            "and on BLiMP other models and people.",
            show_default=False,
        ),
    ] = False,
    workspace: Workspace = Path("runs"),
    json: Json = False,
) -> None:
    """Show what a run made: corpus, tokenizer, losses, accuracies. Several runs stand side by side."""
    from firstwords.report.results import beside_table, checkpoint_of, result_names
    from firstwords.report.summary import summarize
    from firstwords.run_folder import find_run

    folders = [find_run(name, workspace) for name in (run, *others)]
    summaries = [summarize(folder) for folder in folders]
    if json:
        print_json([asdict(summary) for summary in summaries])
        return
    print_summaries(summaries)
    for folder, summary in zip(folders, summaries, strict=True):
        kept = sorted({plain for of, plain in map(checkpoint_of, result_names(folder)) if of is not None})
        print_curves(folder, kept, f"{summary.name}, ")
        for name in [name for name, found in summary.evaluations.items() if beside and found.beside]:
            table = beside_table(summary, name)
            print(f"\n{summary.name}, {name}: accuracy in % and what it must be compared with")
            print_columns(table, right=range(1, len(table[0])))


def generate(
    run: Annotated[str, Parameter(name="RUN", help="Name of a run in the workspace, or the path of its folder.")],
    prompt: Annotated[str, Parameter(name="PROMPT", help="The beginning of the text.")],
    /,
    *,
    max_length: Annotated[int, Parameter(help="Most tokens, those of the prompt counted.")] = 50,
    temperature: Annotated[float, Parameter(help="Of the sampling; 0 always takes the likeliest token.")] = 0.7,
    seed: Annotated[int, Parameter(help="Of the sampling.")] = 0,
    checkpoint: Annotated[
        str | None, Parameter(help="last, best, untrained or words-0001M; the one that the recipe selects otherwise.")
    ] = None,
    workspace: Workspace = Path("runs"),
    json: Json = False,
) -> None:
    """Let a run's model go on with a text."""
    from firstwords.errors import FirstwordsError
    from firstwords.recipe import Recipe
    from firstwords.run_folder import find_run

    if not 0 <= temperature < math.inf:
        raise FirstwordsError(
            f"there is no sampling at a temperature of {temperature}",
            where="--temperature",
            do="give a number above 0, or 0 for the likeliest token each time",
        )
    folder = find_run(run, workspace)
    recipe = Recipe.load(folder.path / "recipe.toml")
    chosen = checkpoint or recipe.training.select

    from firstwords.model.generation import generate as continuation
    from firstwords.models import load_model

    model, vocabulary = load_model(folder, chosen)
    text = continuation(
        model,
        vocabulary,
        prompt,
        add_bos=recipe.tokens.add_bos,
        seed=seed,
        max_length=max_length,
        temperature=temperature,
    )
    if json:
        print_json({"run": folder.name, "checkpoint": chosen, "prompt": prompt, "text": text})
    else:
        print(text)


def print_summaries(summaries: Sequence[RunSummary]) -> None:
    """The table of facts and one table for each suite and protocol."""
    from firstwords.report.summary import LOSS_LEGEND, facts_table

    print_columns(facts_table(summaries), wrap=True)
    if any(summary.dev_losses for summary in summaries):
        print(LOSS_LEGEND)
    print_accuracies(summaries)


def print_curves(run: RunFolder, names: Sequence[str], of: str = "") -> None:
    """The learning curves of results; of: whose they are, where that must be said."""
    from firstwords.report.curves import curve_tables

    for name, table in curve_tables(run, names).items():
        print(f"\n{of}{name}: accuracy in % by words seen")
        print_columns(table.rows, right=range(1, len(table.rows[0])))
        if table.note:
            print(table.note)


def print_accuracies(models: Sequence[HasResults]) -> None:
    """Accuracies in percent with their intervals, the untrained control beside the trained model; other tasks last."""
    from firstwords.report.results import accuracy_tables, measure_table

    for name, table in accuracy_tables(models).items():
        print(f"\n{name}: accuracy in %, with 95% intervals")
        print_columns(table.rows, right=range(1, len(table.rows[0])), repeated=2)
        for line in table.lines:
            print(line)
    if rows := measure_table(models):
        print("\nother tasks, with 95% intervals")
        print_columns(rows, right=range(2, len(rows[0])))
