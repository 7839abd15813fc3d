"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from cyclopts import Group, Parameter

if TYPE_CHECKING:
    from firstwords.recipe import Recipe

_OPTIONS = Group(
    "Options",
    help="Every setting of the recipe is an option too: --training.peak-lr 1e-3 (`firstwords schema` lists them).",
)

Json: TypeAlias = Annotated[bool, Parameter(name="--json", help="Print the result as JSON.", show_default=False)]

DeviceName: TypeAlias = Annotated[
    Literal["auto", "cpu", "cuda", "mps"], Parameter(name="--device", help="Where to compute.")
]

Workspace: TypeAlias = Annotated[
    Path, Parameter(name="--workspace", env_var="FIRSTWORDS_WORKSPACE", help="Folder that holds the runs.")
]

DataFolders: TypeAlias = Annotated[
    tuple[Path, ...],
    Parameter(
        name="--data",
        help="Folder in which sources and test sets are looked for before they are downloaded. May be given "
        "again: the first folder that has a name wins. Those of $FIRSTWORDS_DATA come last.",
        show_default=False,
        consume_multiple=False,
    ),
]

RecipeName: TypeAlias = Annotated[str, Parameter(name="RECIPE", help="A bundled recipe's name or a .toml file.")]

RecipeSettings: TypeAlias = Annotated[dict[str, str], Parameter(parse=False)]
"""The recipe keys that were given as flags; `main` hands them over."""


@Parameter(name="*", group=_OPTIONS)
@dataclass(frozen=True, slots=True)
class RecipeOptions:
    """How a recipe's text is found and its run called."""

    seed: Annotated[int | None, Parameter(help="Seed of all randomness, instead of the recipe's.")] = None
    name: Annotated[str | None, Parameter(help="Name of the run's folder; the recipe's name otherwise.")] = None
    data: DataFolders = ()
    workspace: Workspace = Path("runs")
    offline: Annotated[bool, Parameter(help="Download nothing.", show_default=False)] = False
    json: Json = False


NO_OPTIONS = RecipeOptions()
"""What a command does when no option is given."""


def load_recipe(name: str, options: RecipeOptions, settings: dict[str, str]) -> Recipe:
    """The recipe with what the command line changes in it."""
    from firstwords.recipe import Recipe

    seed = {} if options.seed is None else {"seed": str(options.seed)}
    return Recipe.load(name).override(settings | seed)
