"""Commands that carry a recipe out, whole or up to a stage."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from firstwords.cli.options import NO_OPTIONS, RecipeName, RecipeOptions, RecipeSettings, load_recipe
from firstwords.cli.parsing import data_folders
from firstwords.cli.printing import print_columns, print_json
from firstwords.cli.results import print_accuracies
from firstwords.errors import FirstwordsError

if TYPE_CHECKING:
    from firstwords.pipeline import Trainer
    from firstwords.run_folder import RunFolder

TAKE_SETTINGS = ("plan", "quickstart", "run", "corpus", "tokenizer", "train", "evaluate", "export")
"""The commands whose options may be keys of the recipe."""


@Parameter(name="*", group=Group("Where to train", sort_key=1))
@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """Which processes train."""

    on: Annotated[
        Literal["here", "torchrun"],
        Parameter(help="Train in this process, or in several of this machine that torchrun starts."),
    ] = "here"
    processes: Annotated[
        int | None, Parameter(help="How many torchrun starts; as many as there are CUDA devices where not given.")
    ] = None
    deterministic: Annotated[
        bool,
        Parameter(
            help="On CUDA take only kernels that give the same bits every time; the same as --training.deterministic "
            "true.",
            show_default=False,
        ),
    ] = False

    @property
    def settings(self) -> dict[str, str]:
        """What it changes in the recipe."""
        return {"training.deterministic": "true"} if self.deterministic else {}

    def trainer(self) -> Trainer | None:
        """Who trains; None for this process."""
        if self.on == "here":
            if self.processes is not None:
                raise FirstwordsError(
                    "--processes says how many processes torchrun starts, and --on does not name it",
                    where="--processes",
                    do=f"give --on torchrun --processes {self.processes}",
                )
            return None
        from firstwords.launch.launchers import Torchrun, cuda_devices

        processes = self.processes if self.processes is not None else cuda_devices()
        if processes < 1:
            raise FirstwordsError(
                "it is not said how many processes are to train, and there are no CUDA devices to count",
                where="--processes",
                do="give a number above 0, as in --on torchrun --processes 2",
            )
        return Torchrun(processes)


HERE = LaunchOptions()
"""Training in this process."""


def run(
    recipe: RecipeName,
    /,
    *,
    launch: LaunchOptions = HERE,
    options: RecipeOptions = NO_OPTIONS,
    settings: RecipeSettings,
) -> None:
    """Carry out every stage of a recipe that is not done yet: text, tokenizer, training, evaluation, export, and its
    report.

    Ctrl-C stops it; the same command goes on where it stopped.
    """
    _run_until("report", recipe, options, settings, launch)


def corpus(recipe: RecipeName, /, *, options: RecipeOptions = NO_OPTIONS, settings: RecipeSettings) -> None:
    """Mix the training text and the dev text."""
    _run_until("corpus", recipe, options, settings)


def tokenizer(recipe: RecipeName, /, *, options: RecipeOptions = NO_OPTIONS, settings: RecipeSettings) -> None:
    """Learn the tokenizer and encode the text with it, after the text has been mixed."""
    _run_until("tokens", recipe, options, settings)


def train(
    recipe: RecipeName,
    /,
    *,
    launch: LaunchOptions = HERE,
    options: RecipeOptions = NO_OPTIONS,
    settings: RecipeSettings,
) -> None:
    """Train the model, and make what it needs. A run that was stopped goes on."""
    _run_until("training", recipe, options, settings, launch)


def quickstart(*, options: RecipeOptions = NO_OPTIONS, settings: RecipeSettings) -> None:
    """The whole job in a few minutes, on the built-in artificial text: no download."""
    _run_until("report", "quickstart", options, settings)


def carry_out(
    stage: str, name: str, options: RecipeOptions, settings: dict[str, str], launch: LaunchOptions = HERE
) -> RunFolder:
    """Make a recipe's run up to a stage, telling on stderr what happens."""
    recipe, trainer = load_recipe(name, options, settings | launch.settings), launch.trainer()

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
            train=trainer,
            reporter=progress,
        )


def _run_until(
    stage: str, name: str, options: RecipeOptions, settings: dict[str, str], launch: LaunchOptions = HERE
) -> None:
    from firstwords.report.summary import model_card, summarize

    summary = summarize(carry_out(stage, name, options, settings, launch))
    if options.json:
        print_json(asdict(summary))
        return
    page = Path(summary.path) / "report.html"
    if stage == "report":
        print_accuracies([summary])
        print()
    print_columns(
        [
            ("run", summary.path),
            *([("model", summary.model)] if summary.model else []),
            *([("card", str(card))] if (card := model_card(summary)) else []),
            *([("report", str(page))] if stage == "report" and page.is_file() else []),
            ("more", f"firstwords show {summary.name}"),
        ]
    )
