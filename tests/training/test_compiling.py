"""A compiled training is the same training, but for rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from firstwords.errors import FirstwordsError
from firstwords.model.fusion import CompiledLoops, fused, missing_for_fusion
from firstwords.model.llama import Llama
from firstwords.tokens.tokenizer import Vocabulary
from firstwords.training import compiling
from firstwords.training.checkpoints import load_checkpoint
from firstwords.training.compiling import compiled_for
from firstwords.training.devices import choose_device
from firstwords.training.loop import train
from firstwords.training.trackers import read_metrics
from tests.training.conftest import recipe_with

needs_compiler = pytest.mark.skipif(missing_for_fusion("cpu") is not None, reason="there is no C++ compiler")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FIRSTWORDS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@needs_compiler
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_losses_are_those_of_the_plain_training(
    precision: str, tokens: Path, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    losses, weights = [], []
    for compile_ in (False, True):
        folder = tmp_path / str(compile_)
        recipe = recipe_with(dropout=0.0, compile=compile_, precision=precision, z_loss=1e-3)
        train(recipe, vocabulary.size, tokens, folder)
        lines = read_metrics(folder / "metrics.jsonl")
        losses.append([line["train_loss"] for line in lines if "train_loss" in line])
        model = Llama(recipe.model, vocabulary.size)
        load_checkpoint(folder / "checkpoints" / "last", model)
        weights.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
    close = 1e-4 if precision == "fp32" else 2e-2
    assert losses[1] == pytest.approx(losses[0], abs=close)
    assert losses[1] != losses[0], "rounding shows that another code ran"
    assert float((weights[1] - weights[0]).abs().max()) < 10 * close


@needs_compiler
def test_code_is_kept_for_the_next_start(own_cache: Path) -> None:
    recipe, device = recipe_with(compile=True), choose_device(recipe_with().training)
    said: list[str] = []
    fusion = compiled_for(Llama(recipe.model, 50), recipe, 0, device, say=said.append)
    assert fusion is not None and "compiling" in said[0]
    made = set(own_cache.rglob("*.so"))
    assert made
    again = compiled_for(Llama(recipe.model, 50, seed=1), recipe, 0, device)
    assert again is not None
    assert set(own_cache.rglob("*.so")) == made


def test_short_trainings_are_not_compiled(vocabulary: Vocabulary) -> None:
    recipe, device = recipe_with(), choose_device(recipe_with().training)
    assert compiled_for(Llama(recipe.model, vocabulary.size), recipe, 10_000, device) is None


def test_loops_are_compiled_for_whole_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_compile", lambda *_: None)
    monkeypatch.setattr(compiling, "missing_for_fusion", lambda _: None)
    recipe = recipe_with(compile=True)
    model, device = Llama(recipe.model, 50), choose_device(recipe.training)
    assert isinstance(compiled_for(model, recipe, 0, device), CompiledLoops)
    assert compiled_for(model, recipe, 0, device, sharded=True) is None


@pytest.mark.parametrize("asked", [True, "auto"])
def test_without_a_compiler_only_who_asked_is_told(asked: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    recipe = recipe_with(compile=asked)
    model, device = Llama(recipe.model, 50), choose_device(recipe.training)
    if asked == "auto":
        assert compiled_for(model, recipe, 10**15, device) is None
        return
    with pytest.raises(FirstwordsError, match=r"needs a C\+\+ compiler") as told:
        compiled_for(model, recipe, 0, device)
    assert told.value.where == "training.compile"


def test_where_compiling_fails_training_goes_on_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no room for code\nmore")

    monkeypatch.setattr(compiling, "_compile", fail)
    monkeypatch.setattr(compiling, "missing_for_fusion", lambda _: None)
    recipe, said = recipe_with(), []
    assert (
        compiled_for(Llama(recipe.model, 50), recipe, 10**15, choose_device(recipe.training), say=said.append) is None
    )
    assert said[-1] == "compiling failed (no room for code); training goes on without, more slowly"


@needs_compiler
def test_only_while_it_is_entered(own_cache: Path) -> None:
    ran: list[str] = []

    @fused
    def doubled(x: torch.Tensor) -> torch.Tensor:
        ran.append("as written")  # the compiler leaves it out
        return x + x

    x = torch.arange(6.0)
    fusion = CompiledLoops("a test")
    with fusion.entered():
        assert torch.equal(doubled(x), 2 * x)
    compiled = len(ran)
    assert torch.equal(doubled(x), 2 * x)
    assert len(ran) == compiled + 1
