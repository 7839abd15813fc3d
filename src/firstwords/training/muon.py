"""Muon for the blocks' matrices and AdamW for the other weights, as one optimizer.

Shape letters: M matrices of one shape, R rows, C columns, S = min(R, C).
Sources: Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/); for steps as large as AdamW's Liu et al. 2025
(arXiv:2502.16982). On a matrix of its own a step is that of `torch.optim.Muon`, which the tests hold it against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from firstwords.training.lean import LeanOptimizer, fresh_moments

_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of x, x^3 and x^5 that bring singular values near 1 in the fewest iterations."""
_SMALLEST_NORM = 1e-7


class MuonWithAdamW(LeanOptimizer):
    """Each group of weights is stepped by its `rule`, `muon` or `adamw`.

    A weight of a group of rule `muon` may be several matrices in one, laid one under the other: queries, keys and
    values, or gate and up. Each of them is made orthogonal by itself; `parts` of the group says, for each weight, how
    many rows each of its matrices has. All matrices of one shape go through the iteration together.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        momentum: float,
        nesterov: bool,
        steps: int,
        scale: Literal["match-rms-adamw", "original"],
        products: torch.dtype,
    ) -> None:
        """products: type of the iteration's matrix products."""
        self._products = products
        defaults = {"lr": lr, "weight_decay": 0.0, "rule": "adamw", "betas": betas, "eps": eps, "fused": True}
        super().__init__(
            groups, defaults | {"momentum": momentum, "nesterov": nesterov, "steps": steps, "scale": scale}
        )
        for group in self.param_groups:
            for weight in group["params"]:
                by_muon = group["rule"] == "muon"
                self.state[weight] = {"momentum_buffer": torch.zeros_like(weight)} if by_muon else fresh_moments(weight)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all weights that have gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            (self._muon if group["rule"] == "muon" else self._adamw)(group)
        return loss

    def _muon(self, group: Mapping[str, Any]) -> None:
        given = zip(group["params"], group["parts"], strict=True)
        stepped = [(weight, rows) for weight, rows in given if weight.grad is not None]
        weights, gradients = [weight for weight, _ in stepped], [weight.grad for weight, _ in stepped]
        if not weights:
            return
        averages = [self.state[weight]["momentum_buffer"] for weight in weights]
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, averages, group["momentum"]) if group["nesterov"] else averages
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        updates = [part for update, (_, rows) in zip(ahead, stepped, strict=True) for part in update.split(rows)]
        matrices = [part for weight, rows in stepped for part in weight.split(rows)]
        for shape in dict.fromkeys(part.shape for part in matrices):
            places = [place for place, part in enumerate(matrices) if part.shape == shape]
            updates_MRC = torch.stack([updates[place].to(self._products) for place in places])
            steps_MRC = orthogonalized(updates_MRC, group["steps"]).float()
            rate = group["lr"] * _scale(group["scale"], *shape)
            torch._foreach_add_([matrices[place] for place in places], list(steps_MRC), alpha=-rate)

    def _adamw(self, group: Mapping[str, Any]) -> None:
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if not weights:
            return
        adamw(
            weights,
            [weight.grad for weight in weights],
            [self.state[weight]["exp_avg"] for weight in weights],
            [self.state[weight]["exp_avg_sq"] for weight in weights],
            [],
            [self.state[weight]["step"] for weight in weights],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def orthogonalized(matrices_MRC: Tensor, steps: int) -> Tensor:
    """U S V^T made about U V^T, by Newton-Schulz iterations in the given type; matrices of any scale, (M, R, C).

    About: the iteration is fast and not exact, five leave the singular values of most matrices between 0.7 and 1.2.
    """
    first, third, fifth = _QUINTIC
    tall = matrices_MRC.shape[1] > matrices_MRC.shape[2]
    x_MSC = matrices_MRC.mT if tall else matrices_MRC
    # The Frobenius norm is no less than the largest singular value, which must not be above 1.
    x_MSC = x_MSC / x_MSC.norm(dim=(1, 2), keepdim=True).clamp(min=_SMALLEST_NORM)
    for _ in range(steps):
        gram_MSS = x_MSC @ x_MSC.mT
        odd_MSS = torch.baddbmm(gram_MSS, gram_MSS, gram_MSS, beta=third, alpha=fifth)
        x_MSC = torch.baddbmm(x_MSC, odd_MSS, x_MSC, beta=first)
    return x_MSC.mT if tall else x_MSC


def _scale(scale: str, rows: int, columns: int) -> float:
    """What the learning rate of a matrix is multiplied with."""
    return 0.2 * math.sqrt(max(rows, columns)) if scale == "match-rms-adamw" else math.sqrt(max(1.0, rows / columns))
