"""The moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of the weights after each step; those before the first step have no part in it.

    After step t it is sum((1 - d) d^(t - i) w_i) / (1 - d^t) over i = 1 ... t with the decay d, the sum divided by the
    sum of its shares as Adam's moments are (Kingma & Ba 2015, section 7.2).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """decay: the share of the old average that a step leaves, once there have been many."""
        self._model, self._decay = model, decay
        self.tensors: dict[str, Tensor] = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take in the model's weights after its step number `steps`, which counts from 1."""
        share = (1 - self._decay) / (1 - self._decay**steps)
        torch._foreach_lerp_(list(self.tensors.values()), list(self._model.parameters()), share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While it lasts the model has the average as its weights; its own are put back bit for bit."""
        weights = list(self._model.parameters())
        own = [weight.detach().clone() for weight in weights]
        try:
            _copy(list(self.tensors.values()), weights)
            yield
        finally:
            _copy(own, weights)


@torch.no_grad()
def _copy(values: list[Tensor], weights: list[nn.Parameter]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)
