"""Optimizers that leave PyTorch's compiler where it is: on disk."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor
from torch.optim import Optimizer


class LeanOptimizer(Optimizer):
    """PyTorch's optimizer, without a mark on four of its methods.

    The mark tells torch.compile to pass them by, and loads all of it for that when the first is called: 3 seconds of a
    start, half of them sympy, where nothing may be compiled at all.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)


def fresh_moments(weight: Tensor) -> dict[str, Tensor]:
    """The state of a weight that fused AdamW has not stepped yet."""
    return {
        "step": torch.zeros((), dtype=torch.float32, device=weight.device),
        "exp_avg": torch.zeros_like(weight),
        "exp_avg_sq": torch.zeros_like(weight),
    }
