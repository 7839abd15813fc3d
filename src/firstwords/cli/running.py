"""Commands that carry a recipe out, whole or up to a stage."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from firstwords.cli.options import NO_OPTIONS, RecipeName, RecipeOptions, RecipeSettings, load_recipe
from firstwords.cli.parsing import data_folders
from firstwords.cli.printing import print_columns, print_json
from firstwords.cli.results import print_accuracies

if TYPE_CHECKING:
    from firstwords.run_folder import RunFolder

TAKE_SETTINGS = ("plan", "quickstart", "run", "corpus", "tokenizer", "train", "evaluate", "export")
"""The commands whose options may be keys of the recipe."""


def run(recipe: RecipeName, /, *, options: RecipeOptions = NO_OPTIONS, settings: RecipeSettings) -> None:
    """Carry out every stage of a recipe that is not done yet: text, tokenizer, training, evaluation, export.

    Ctrl-C stops it; the same command goes on where it stopped.
    """
    _run_until("export", recipe, options, settings)


def corpus(recipe: RecipeName, /, *, options: RecipeOptions = NO_OPTIONS, settings: RecipeSettings) -> None:
    """Mix the training text and the dev text."""
    _run_until("corpus", recipe, options, settings)


def tokenizer(recipe: RecipeName, /, *, options: RecipeOptions = NO_OPTIONS, settings: RecipeSettings) -> None:
    """Learn the tokenizer, and what it reads."""
    _run_until("tokenizer", recipe, options, settings)


def train(recipe: RecipeName, /, *, options: RecipeOptions = NO_OPTIONS, settings: RecipeSettings) -> None:
    """Train the model, and make what it needs. A run that was stopped goes on."""
    _run_until("training", recipe, options, settings)


def quickstart(*, options: RecipeOptions = NO_OPTIONS, settings: RecipeSettings) -> None:
    """The whole job in a few minutes, on the built-in artificial text: no download."""
    _run_until("export", "quickstart", options, settings)


def carry_out(stage: str, name: str, options: RecipeOptions, settings: dict[str, str]) -> RunFolder:
    """Make a recipe's run up to a stage, telling on stderr what happens."""
    recipe = load_recipe(name, options, settings)

    from firstwords import pipeline
    from firstwords.report.terminal import reporter

    with reporter() as progress:
        return pipeline.run(
            recipe,
            workspace=options.workspace,
            name=options.name,
            data=data_folders(options.data),
            until=stage,
            offline=options.offline,
            reporter=progress,
        )


def _run_until(stage: str, name: str, options: RecipeOptions, settings: dict[str, str]) -> None:
    from firstwords.report.summary import model_card, summarize

    summary = summarize(carry_out(stage, name, options, settings))
    if options.json:
        print_json(asdict(summary))
        return
    if stage == "export":
        print_accuracies([summary])
        print()
    print_columns(
        [
            ("run", summary.path),
            *([("model", summary.model)] if summary.model else []),
            *([("card", str(card))] if (card := model_card(summary)) else []),
            ("more", f"firstwords show {summary.name}"),
        ]
    )
