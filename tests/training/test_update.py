"""What an update does beside the optimizer's step: gradients are bounded together."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from firstwords.errors import FirstwordsError
from firstwords.training.step import update


def weights_with_gradients(scale: float) -> nn.ParameterList:
    generator = torch.Generator().manual_seed(0)
    weights = nn.ParameterList(nn.Parameter(torch.zeros(shape)) for shape in ((7, 5), (3,)))
    for weight in weights:
        weight.grad = scale * torch.randn(weight.shape, generator=generator)
    return weights


def updated(scale: float, clip_norm: float) -> tuple[float, list[torch.Tensor]]:
    """The norm that is told, and the steps of plain gradient descent."""
    weights = weights_with_gradients(scale)
    optimizer = torch.optim.SGD(weights.parameters(), lr=1.0)
    norm = update(weights, optimizer, torch.amp.GradScaler("cpu", enabled=False), clip_norm)
    assert all(weight.grad is None for weight in weights)
    return float(norm), [-weight.detach() for weight in weights]


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("clip_norm", [0.5, 1.0, 1e30])
def test_gradients_are_bounded_as_by_pytorch(scale: float, clip_norm: float) -> None:
    expected = weights_with_gradients(scale)
    norm = torch.nn.utils.clip_grad_norm_(expected.parameters(), clip_norm)
    told, steps = updated(scale, clip_norm)
    assert told == float(norm)
    assert all(torch.equal(step, weight.grad) for step, weight in zip(steps, expected, strict=True))


def test_0_bounds_nothing() -> None:
    _, steps = updated(30.0, 0.0)
    expected = weights_with_gradients(30.0)
    assert all(torch.equal(step, weight.grad) for step, weight in zip(steps, expected, strict=True))


@pytest.mark.parametrize("scale", [torch.nan, torch.inf])
def test_what_is_no_number_is_told(scale: float) -> None:
    assert not torch.tensor(updated(scale, 1.0)[0]).isfinite()


class Full(torch.optim.SGD):
    """An optimizer that finds no memory."""

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")


def test_memory_that_runs_out_in_a_step_is_the_users_error() -> None:
    weights = weights_with_gradients(1.0)
    optimizer = Full(weights.parameters(), lr=1.0)
    with pytest.raises(FirstwordsError, match="memory ran out in the optimizer's step") as told:
        update([*weights], optimizer, torch.amp.GradScaler("cpu", enabled=False), 1.0)
    assert "take a smaller model" in (told.value.do or "")
