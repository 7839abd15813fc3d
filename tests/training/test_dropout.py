"""Dropout is where the recipe says, as much as it says, anew at each step, and never when a model is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from firstwords.model.attention import Layout
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings
from firstwords.tokens.encoding import TokenFile
from firstwords.tokens.tokenizer import Vocabulary
from firstwords.training.dev_loss import dev_loss
from firstwords.training.devices import choose_device
from firstwords.training.loop import train
from firstwords.training.trackers import read_metrics
from tests.training.conftest import recipe_with

SHARE = 0.3


def model_with(dropout: float) -> Llama:
    return Llama(ModelSettings(hidden=64, layers=2, heads=2, intermediate=96, dropout=dropout), 50, seed=1)


def watched(model: Llama, ids: Tensor) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """What went into and came out of each dropout, in order, and the states after the last block."""
    seen: list[tuple[Tensor, Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda _, given, out: seen.append((given[0].detach(), out.detach())))
        for module in model.modules()
        if isinstance(module, nn.Dropout)
    ]
    hidden = model.hidden(ids, Layout.of([len(ids)]))
    for hook in hooks:
        hook.remove()
    return seen, hidden.detach()


def test_embeddings_and_both_additions_of_every_block_are_dropped_by_the_share_and_scaled_up() -> None:
    model, ids = model_with(SHARE).train(), torch.arange(500) % 50
    torch.manual_seed(0)
    seen, _ = watched(model, ids)
    assert len(seen) == 1 + 2 * 2
    assert torch.equal(seen[0][0], model.embedding(ids))
    for given, out in seen:
        kept = out != 0
        assert torch.allclose(out[kept], given[kept] / (1 - SHARE))
        # 32,000 draws: the standard deviation of the share is 0.0026.
        assert abs(float((~kept).float().mean()) - SHARE) < 0.013


def test_the_residual_stream_is_the_sum_of_what_was_not_dropped() -> None:
    model, ids = model_with(SHARE).train(), torch.arange(40) % 50
    torch.manual_seed(0)
    seen, hidden = watched(model, ids)
    total = torch.stack([out for _, out in seen]).sum(dim=0)
    assert torch.allclose(hidden, model.norm(total), atol=1e-5)


def test_without_a_share_and_when_measured_nothing_is_dropped() -> None:
    ids = torch.arange(40) % 50
    plain = model_with(0.0).train().hidden(ids, Layout.of([40]))
    assert torch.equal(model_with(SHARE).eval().hidden(ids, Layout.of([40])), plain)
    assert not torch.equal(model_with(SHARE).train().hidden(ids, Layout.of([40])), plain)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_recomputed_activations_are_dropped_as_the_first_time(checkpointing: bool) -> None:
    model, ids = model_with(SHARE).train(), torch.arange(40) % 50
    model.gradient_checkpointing = checkpointing
    torch.manual_seed(7)
    model.hidden(ids, Layout.of([40])).square().sum().backward()
    expected = model_with(SHARE).train()
    torch.manual_seed(7)
    expected.hidden(ids, Layout.of([40])).square().sum().backward()
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        assert ours.grad is None or torch.allclose(ours.grad, theirs.grad, atol=1e-5)


def test_the_recipes_share_trains_and_the_dev_loss_is_without_it(
    tokens: Path, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    recipes = {share: recipe_with(dropout=share, max_steps=3, precision="fp32") for share in (0.0, 0.5)}
    losses = {}
    for share, recipe in recipes.items():
        train(recipe, vocabulary.size, tokens, tmp_path / str(share))
        lines = read_metrics(tmp_path / str(share) / "metrics.jsonl")
        losses[share] = [line["train_loss"] for line in lines if "train_loss" in line]
    assert losses[0.0] != losses[0.5]
    # The first step's loss is of the same weights: only dropout tells the two apart.
    assert losses[0.0][0] != losses[0.5][0]
    device, dev = choose_device(recipes[0.5].training), TokenFile(tokens, "dev")
    found = {}
    for share, recipe in recipes.items():
        model = Llama(recipe.model, vocabulary.size, seed=1).train()
        found[share] = dev_loss(model, dev, recipe.tokens, device)
        assert model.training, "measuring does not end the training"
    assert found[0.0] == found[0.5]
