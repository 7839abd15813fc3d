"""Parameter groups and the optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import AdamW, Optimizer

from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings, TrainingSettings
from firstwords.training.devices import choose_device
from firstwords.training.lean import LeanOptimizer, fresh_moments
from firstwords.training.muon import MuonWithAdamW

_ADAMW_STEP = inspect.unwrap(AdamW.step)


def make_optimizer(model: Llama, settings: TrainingSettings) -> Optimizer:
    """The optimizer of all weights of a model: AdamW (Loshchilov & Hutter 2019), or Muon for the blocks' matrices.

    Weight decay is decoupled from the gradients; matrices, embeddings, head and norms have each their own.
    """
    groups = _groups(model, settings)
    betas = settings.beta1, settings.beta2
    if settings.optimizer == "adamw":
        return LeanAdamW(groups, lr=settings.peak_lr, betas=betas, eps=settings.eps)
    return MuonWithAdamW(
        groups,
        lr=settings.peak_lr,
        betas=betas,
        eps=settings.eps,
        momentum=settings.muon_momentum,
        nesterov=settings.muon_nesterov,
        steps=settings.muon_steps,
        scale=settings.muon_scale,
        products=choose_device(settings).dtype,
    )


class LeanAdamW(LeanOptimizer, AdamW):
    """PyTorch's AdamW, whose step does not load the compiler either.

    The moments are there from the begin: where memory runs out, it is for the gradients then, which can be made of
    fewer tokens at once.
    """

    def __init__(self, groups: list[dict[str, Any]], **settings: Any) -> None:
        """As of PyTorch's; fused."""
        super().__init__(groups, fused=True, **settings)
        for weight in (weight for group in self.param_groups for weight in group["params"]):
            self.state[weight] = fresh_moments(weight)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all weights that have gradients."""
        return _ADAMW_STEP(self, closure)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of every group: the step's, and of Muon's matrices its share of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_share", 1.0)


def _groups(model: Llama, settings: TrainingSettings) -> list[dict[str, Any]]:
    """Weights that are stepped and decay alike.

    Their order is that of the optimizer's state on disk: of AdamW with one decay first what decays, then the rest.
    """
    shared = settings.weight_decay if settings.decay_embeddings else 0.0
    embeddings, head, norms = (
        given if given is not None else otherwise
        for given, otherwise in (
            (settings.weight_decay_embeddings, shared),
            (settings.weight_decay_head, shared),
            (settings.weight_decay_norms, 0.0),
        )
    )
    decays = {"matrix": settings.weight_decay, "embedding": embeddings, "head": head, "norm": norms}
    groups: dict[tuple[bool, bool, float], dict[str, Any]] = {}
    for name, weight in model.named_parameters():
        kind = _kind(name, weight)
        by_muon = settings.optimizer == "muon" and kind == "matrix"
        with_matrices = kind == "matrix" or (settings.decay_embeddings and kind != "norm")
        group = groups.setdefault((by_muon, with_matrices, decays[kind]), {"params": [], "weight_decay": decays[kind]})
        group["params"].append(weight)
        if by_muon:
            group["rule"], group["lr_share"] = "muon", (settings.muon_lr or settings.peak_lr) / settings.peak_lr
            group.setdefault("parts", []).append(_rows_of_parts(name, weight, model.shape))
    return [groups[key] for key in sorted(groups, reverse=True)]


def _kind(name: str, weight: torch.Tensor) -> str:
    """What a weight is: matrix (of a block), embedding, head or norm."""
    if name.startswith("embedding"):
        return "embedding"
    if name.startswith("unembedding"):
        return "head"
    return "matrix" if weight.dim() == 2 else "norm"


def _rows_of_parts(name: str, weight: torch.Tensor, shape: ModelSettings) -> tuple[int, ...]:
    """Rows of each matrix that a block's weight holds: the model lays some together, so that one product makes them."""
    if name.endswith("attention.qkv.weight"):
        kv_rows = shape.hidden // shape.heads * (shape.kv_heads or shape.heads)
        return shape.hidden, kv_rows, kv_rows
    if name.endswith("feed_forward.gate_up.weight"):
        return shape.intermediate, shape.intermediate
    return (len(weight),)
