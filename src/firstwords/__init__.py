"""firstwords: train small language models from little text, and know what grammar they learnt.

The library does all that the commands do:

    recipe = firstwords.Recipe.load("model-a").override({"seed": "2"})
    run = firstwords.run(recipe, data=[Path("texts")], name="model-a-seed2")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firstwords.errors import FirstwordsError
    from firstwords.pipeline import run
    from firstwords.recipe import Recipe

__all__ = ["FirstwordsError", "Recipe", "run"]

_HOMES = {"FirstwordsError": "errors", "Recipe": "recipe", "run": "pipeline"}


def __getattr__(name: str) -> Any:
    # Loaded when asked for, so that `firstwords --help` answers at once.
    if name not in _HOMES:
        raise AttributeError(f"module 'firstwords' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"firstwords.{_HOMES[name]}"), name)
