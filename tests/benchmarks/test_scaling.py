from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("scaling"), importlib.import_module("training")


def test_every_place_of_every_axis_is_a_recipe_of_as_many_tokens_a_step(scripts: tuple[Any, Any]) -> None:
    scaling, training = scripts
    for axis, sizes in scaling.AXES.items():
        for size in sizes if axis != "text" else []:
            settings = [f"{key}={value}" for key, value in scaling.settings_at(axis, size).items()]
            given = argparse.Namespace(model="quickstart", device="cpu", rows="packed", batch=None, set=settings)
            recipe = training.recipe_of(given)
            assert recipe.tokens.context * recipe.training.batch_size == scaling.TOKENS, (axis, size)
            assert recipe.model.positions == recipe.tokens.context
