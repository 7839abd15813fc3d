from __future__ import annotations

import argparse
import importlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("gpu_step")


def given(rows: str, batch: int = 64) -> argparse.Namespace:
    return argparse.Namespace(model="model-b", rows=rows, batch=batch, device="cpu", set=[])


def test_packed_rows_are_the_tokens_of_a_step(script: Any) -> None:
    recipe = script.recipe_of(given("packed"))
    for batch in script.batches_of(recipe):
        assert batch.targets == 64 * 512
        assert {len(sequence.ids) for sequence in batch.sequences} == {513}


def test_lines_are_as_many_as_the_card_s_and_as_long_as_its_text_s(script: Any) -> None:
    recipe = script.recipe_of(given("lines"))
    batches = script.batches_of(recipe)
    assert {len(batch.sequences) for batch in batches} == {128}
    lengths = [len(sequence.ids) for batch in batches for sequence in batch.sequences]
    assert 15 < sum(lengths) / len(lengths) < 25
    assert max(lengths) <= recipe.tokens.context
    assert all(len(a.ids) >= len(b.ids) for batch in batches for a, b in pairwise(batch.sequences))
