"""How many tokens pass the model at once: as asked, as remembered, as measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from firstwords.model.cost import training_memory_bytes
from firstwords.model.llama import Llama
from firstwords.recipe import Recipe
from firstwords.tokens.batches import Batches
from firstwords.tokens.encoding import TokenFile
from firstwords.tokens.tokenizer import Vocabulary
from firstwords.training import compiling, micro_batch
from firstwords.training.devices import Device
from firstwords.training.loop import wants_checkpointing
from firstwords.training.micro_batch import known_micro_tokens, micro_tokens_for
from tests.training.conftest import recipe_with

CPU = Device("cpu", "fp32")
USUAL = CPU.micro_tokens


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTWORDS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compiling, "_LONG_FLOPS", 0.0)


def chosen(tokens: Path, vocabulary: Vocabulary, say: list[str] | None = None, **training: object) -> int:
    recipe = recipe_with(**{"batch_size": 600, **training})
    batches = Batches(TokenFile(tokens, "train"), recipe.tokens, recipe.training, recipe.seed)
    model, told = Llama(recipe.model, vocabulary.size), say if say is not None else []
    return micro_tokens_for(model, recipe, batches.tokens_in_all, batches.step(0), CPU, say=told.append)


def clock(monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float]) -> list[int]:
    tried: list[int] = []

    def taken(_step_loss: object, _batch: object, size: int, *_: object) -> float:
        tried.append(size)
        return seconds[size]

    monkeypatch.setattr(micro_batch, "_seconds", taken)
    return tried


def test_the_fastest_is_taken_and_remembered(
    tokens: Path, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    tried = clock(monkeypatch, {USUAL // 4: 2.0, USUAL // 2: 1.5, USUAL: 1.49, 2 * USUAL: 1.0})
    assert chosen(tokens, vocabulary, said) == USUAL // 2, "larger parts that win nothing only need memory"
    turns = micro_batch._PASSES
    assert tried == turns * [USUAL // 4, USUAL // 2] + turns * [USUAL // 2, USUAL]
    assert len(said) == 1 and "later runs remember it" in said[0]
    assert chosen(tokens, vocabulary, said) == USUAL // 2
    assert len(tried) == 4 * turns and len(said) == 1, "nothing was measured again"
    assert known_micro_tokens(recipe_with(batch_size=600), vocabulary.size, CPU) == USUAL // 2
    assert known_micro_tokens(recipe_with(batch_size=601), vocabulary.size, CPU) is None


def test_a_slow_moment_decides_nothing(tokens: Path, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = iter([9.0, 1.0, 1.0, 9.0] + [1.0] * 20)
    monkeypatch.setattr(micro_batch, "_seconds", lambda _loss, _part, size, *_: next(slow) / size)
    assert chosen(tokens, vocabulary) == USUAL


def test_what_is_remembered_may_be_damaged(
    tokens: Path, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch, {USUAL // 4: 1.0, USUAL // 2: 2.0})
    assert chosen(tokens, vocabulary) == USUAL // 4
    (kept,) = (tmp_path / "cache" / "micro-batches").iterdir()
    for damaged in ("", "[1]", '{"micro_tokens": -3}', '{"micro_tokens": "many"}'):
        kept.write_text(damaged)
        assert chosen(tokens, vocabulary) == USUAL // 4


def test_nothing_is_measured_where_it_does_not_matter(
    tokens: Path, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch, {})
    assert chosen(tokens, vocabulary, micro_tokens=77) == 77
    assert chosen(tokens, vocabulary, deterministic=True) == USUAL
    assert chosen(tokens, vocabulary, batch_size=2) == USUAL // 4, "the whole step is one part"
    monkeypatch.setattr(compiling, "_LONG_FLOPS", 1e30)
    assert chosen(tokens, vocabulary) == USUAL


def test_a_real_measurement_leaves_no_gradient(tokens: Path, vocabulary: Vocabulary) -> None:
    recipe = recipe_with(batch_size=600)
    batches = Batches(TokenFile(tokens, "train"), recipe.tokens, recipe.training, recipe.seed)
    model = Llama(recipe.model, vocabulary.size)
    found = micro_tokens_for(model, recipe, batches.tokens_in_all, batches.step(0), CPU)
    assert found in (USUAL // 4, USUAL // 2, USUAL, 2 * USUAL)
    assert all(weight.grad is None for weight in model.parameters())


def test_the_largest_size_that_memory_holds_is_taken(
    tokens: Path, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(_step_loss: object, _batch: object, size: int, *_: object) -> float:
        if size == USUAL:
            raise torch.OutOfMemoryError
        return 1.0 / size

    monkeypatch.setattr(micro_batch, "_seconds", taken)
    assert chosen(tokens, vocabulary) == USUAL // 2
    monkeypatch.setattr(micro_batch, "_seconds", lambda *_: 1 / 0)
    monkeypatch.setattr(Device, "free_memory_bytes", lambda _: 1)
    monkeypatch.setattr(compiling, "_LONG_FLOPS", 1e30)
    assert chosen(tokens, vocabulary, batch_size=601) == USUAL // 4, "unmeasured, too"


def test_what_was_measured_is_for_one_schedule(
    tokens: Path, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch, {USUAL // 4: 1.0, USUAL // 2: 2.0})
    chosen(tokens, vocabulary)
    assert known_micro_tokens(recipe_with(batch_size=600), vocabulary.size, CPU) == USUAL // 4
    grown = recipe_with(batch_size=600, batch_size_schedule=[[8, 0.1]])
    assert known_micro_tokens(grown, vocabulary.size, CPU) is None


def test_activations_are_recomputed_where_the_smallest_parts_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, vocabulary = Recipe.load("model-a"), 16_002
    least = training_memory_bytes(
        *(recipe.model, vocabulary, USUAL // 4),
        half=False,
        checkpointing=False,
        context=recipe.tokens.context,
        sizes_vary=True,
    )
    monkeypatch.setattr(Device, "free_memory_bytes", lambda _: 1.2 * least)
    assert not wants_checkpointing(recipe, vocabulary, 10**6, CPU)
    monkeypatch.setattr(Device, "free_memory_bytes", lambda _: least)
    assert wants_checkpointing(recipe, vocabulary, 10**6, CPU)
    assert not wants_checkpointing(recipe, vocabulary, 64, CPU), "a small step needs less"
