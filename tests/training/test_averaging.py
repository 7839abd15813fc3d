"""The moving average is the closed form over all weights since the first step, and leaves the model as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from firstwords.tokens.encoding import TokenFile
from firstwords.tokens.tokenizer import Vocabulary
from firstwords.training.averaging import WeightAverage
from firstwords.training.checkpoints import load_checkpoint
from firstwords.training.dev_loss import dev_loss
from firstwords.training.devices import choose_device
from firstwords.training.loop import train
from firstwords.training.trackers import read_metrics
from tests.training.conftest import recipe_with


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.9999])
def test_it_is_the_closed_form(decay: float) -> None:
    model = nn.Linear(3, 2)
    average = WeightAverage(model, decay)
    generator = torch.Generator().manual_seed(0)
    seen = []
    for step in range(1, 41):
        with torch.no_grad():
            for weight in model.parameters():
                weight.copy_(torch.randn(weight.shape, generator=generator))
        average.update(step)
        seen.append(model.weight.detach().double().clone())
        shares = torch.tensor([decay ** (step - place) for place in range(1, step + 1)], dtype=torch.float64)
        expected = (torch.stack(seen) * (shares / shares.sum())[:, None, None]).sum(dim=0)
        assert torch.allclose(average.tensors["weight"].double(), expected, atol=1e-6)
    # The textbook's recursion from zero, its sum of shares made up for at the end.
    plain = torch.zeros(2, 3, dtype=torch.float64)
    for weights in seen:
        plain = decay * plain + (1 - decay) * weights
    assert torch.allclose(average.tensors["weight"].double(), plain / (1 - decay**40), atol=1e-6)


def test_in_place_the_model_is_the_average_and_afterwards_itself() -> None:
    model = nn.Linear(3, 2)
    average = WeightAverage(model, 0.9)
    average.update(1)
    before = model.weight.detach().clone()
    with torch.no_grad():
        model.weight += 1
    own, places = model.weight.detach().clone(), [weight.data_ptr() for weight in model.parameters()]
    with pytest.raises(RuntimeError, match="stopped"), average.in_place():
        assert torch.equal(model.weight, before)
        raise RuntimeError("stopped")
    assert torch.equal(model.weight, own)
    assert [weight.data_ptr() for weight in model.parameters()] == places


def test_it_is_kept_beside_the_weights_which_it_does_not_change(
    tokens: Path, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    settings = {"precision": "fp32", "ema_decay": 0.8, "max_steps": 12, "eval_every_steps": 5, "dropout": 0.1}
    recipe = recipe_with(**settings)
    train(recipe, vocabulary.size, tokens, tmp_path / "with")
    train(recipe_with(**settings | {"ema_decay": None}), vocabulary.size, tokens, tmp_path / "without")
    kept = {name: tmp_path / name / "checkpoints" for name in ("with", "without")}
    assert {path.name for path in kept["with"].iterdir()} == {"untrained", "best", "last", "ema"}
    assert {path.name for path in kept["without"].iterdir()} == {"untrained", "best", "last"}
    last, average = (load_file(kept["with"] / name / "model.safetensors") for name in ("last", "ema"))
    plain = load_file(kept["without"] / "last" / "model.safetensors")
    assert all(torch.equal(last[name], plain[name]) for name in plain)
    assert any(not torch.equal(last[name], average[name]) for name in plain)

    lines = [line for line in read_metrics(tmp_path / "with" / "metrics.jsonl") if "dev_loss" in line]
    assert [line["step"] for line in lines] == [5, 10, 12]
    assert all(line["ema_dev_loss"] != line["dev_loss"] for line in lines)
    from firstwords.model.llama import Llama

    model = Llama(recipe.model, vocabulary.size)
    load_checkpoint(kept["with"] / "ema", model)
    found = dev_loss(model, TokenFile(tokens, "dev"), recipe.tokens, choose_device(recipe.training))
    assert found.dev_loss == pytest.approx(lines[-1]["ema_dev_loss"], rel=1e-6)
    without = read_metrics(tmp_path / "without" / "metrics.jsonl")
    assert not any("ema" in key for line in without for key in line)
