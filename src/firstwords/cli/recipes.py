"""Commands about recipes: what there is, a new one to edit, every setting, and what one would do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from firstwords.cli.options import (
    NO_OPTIONS,
    DataFolders,
    Json,
    RecipeName,
    RecipeOptions,
    RecipeSettings,
    Workspace,
    load_recipe,
)
from firstwords.cli.parsing import data_folders
from firstwords.cli.printing import print_columns, print_json
from firstwords.errors import FirstwordsError


def recipes(*, json: Json = False) -> None:
    """List the bundled recipes."""
    from firstwords.recipe import Recipe, bundled_names

    found = {name: Recipe.load(name).description for name in bundled_names()}
    if json:
        print_json([{"name": name, "description": description} for name, description in found.items()])
    else:
        print_columns(list(found.items()), wrap=True)


def new(
    name: Annotated[str, Parameter(name="NAME", help="Name of the new recipe; the file is NAME.toml.")],
    /,
    *,
    source: Annotated[str, Parameter(name="--from", help="Recipe to begin with: a bundled one or a file.")] = "model-a",
    json: Json = False,
) -> None:
    """Write a recipe to edit: every setting with what it means.

    An existing file is never overwritten.
    """
    from firstwords.cli.template import annotated_toml
    from firstwords.recipe import Recipe

    path = Path(name.removesuffix(".toml") + ".toml")
    recipe = Recipe.build(Recipe.load(source).to_values() | {"name": path.stem}, "the command line")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(annotated_toml(recipe))
    except FileExistsError:
        raise FirstwordsError(
            f"{path} is already there", where=str(path.absolute()), do="choose another name, or move that file away"
        ) from None
    if json:
        print_json({"path": str(path)})
    else:
        print(f"wrote {path}: edit it, then `firstwords plan {path}` and `firstwords run {path}`")


def schema() -> None:
    """Print the JSON schema of a recipe: every setting, its type and what it means."""
    from firstwords.recipe import json_schema

    print_json(json_schema())


def plan(
    recipe: RecipeName,
    /,
    *,
    options: RecipeOptions = NO_OPTIONS,
    settings: RecipeSettings,
) -> None:
    """Tell what a run would do: stages, steps, tokens, words, memory, time on this machine, and warnings."""
    chosen = load_recipe(recipe, options, settings)

    from firstwords.launch.plan import make_plan

    found = make_plan(
        chosen,
        data_folders(options.data),
        workspace=options.workspace,
        offline=options.offline,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    if options.json:
        print_json(found.to_json())
    else:
        print(found)


def doctor(*, data: DataFolders = (), workspace: Workspace = Path("runs"), json: Json = False) -> None:
    """Look at this machine: what it gives a training, what slows it, what is missing, and what to do about it."""
    from dataclasses import asdict

    from firstwords.launch.doctor import examine

    found = examine(workspace, data_folders(data))
    if json:
        print_json([asdict(finding) for finding in found])
        return
    print_columns([(finding.about, finding.state, finding.found) for finding in found], wrap=True)
    advice = [(finding.about, finding.do) for finding in found if finding.do]
    if advice:
        print("\nwhat to do")
        print_columns(advice, wrap=True)
