"""Cross-entropy and log-probabilities of targets, chunk by chunk, so that the logits never stand whole.

Shape letters: N predicted tokens, n those of one chunk, D hidden width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from firstwords.model.llama import compute_dtype

IGNORE = -100
"""A target that is none, as in PyTorch's cross_entropy."""

_CHUNK_LOGITS = 2**25
"""Entries of the largest logits chunk: 128 MiB of float32. Smaller chunks fit the caches better but add the
gradient of the whole unembedding more often, which costs more."""


def summed_cross_entropy(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Sum of -log p(target) over all rows: nats, float32 scalar, differentiable in hidden and weight.

    Rows whose target is IGNORE give neither loss nor gradient.
    The gradient is made in the forward pass, while a chunk's logits are there; products are in autocast's
    type, softmax and the weight's gradient in float32.
    """
    return _SummedCrossEntropy.apply(hidden_ND, weight_VD, targets_N, compute_dtype(weight_VD))


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, dtype: torch.dtype) -> Tensor:
        needs_grad = hidden_ND.requires_grad or weight_VD.requires_grad
        product_VD = weight_VD.detach().to(dtype)
        loss = torch.zeros((), device=hidden_ND.device, dtype=torch.float32)
        grad_hidden_ND = torch.empty_like(hidden_ND) if needs_grad else None
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if needs_grad else None
        with torch.autocast(hidden_ND.device.type, enabled=False):
            for rows in _chunks(len(targets_N), len(weight_VD)):
                hidden_nD, kept_n1 = hidden_ND[rows].detach().to(dtype), targets_N[rows, None] != IGNORE
                targets_n1 = targets_N[rows, None].clamp_min(0)
                log_probs_nV = (hidden_nD @ product_VD.T).float().log_softmax(dim=1)
                loss -= torch.where(kept_n1, log_probs_nV.gather(1, targets_n1), 0.0).sum()
                if grad_hidden_ND is not None and grad_weight_VD is not None:
                    grad_nV = log_probs_nV.exp_()
                    grad_nV.scatter_add_(1, targets_n1, torch.full_like(targets_n1, -1, dtype=grad_nV.dtype))
                    grad_nV = torch.where(kept_n1, grad_nV.to(dtype), 0.0)
                    grad_hidden_ND[rows] = grad_nV @ product_VD
                    grad_weight_VD += grad_nV.T @ hidden_nD
        ctx.save_for_backward(grad_hidden_ND, grad_weight_VD)
        return loss

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden_ND, grad_weight_VD = ctx.saved_tensors
        scale = grad_outputs[0]
        # In place: these buffers are this function's own, and the pass runs backward once.
        return grad_hidden_ND.mul_(scale), grad_weight_VD.mul_(scale), None, None


@torch.no_grad()
def target_log_probs(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """log p(target) of every row: nats, float32, shape (N,)."""
    dtype = compute_dtype(weight_VD)
    product_VD = weight_VD.to(dtype)
    out_N = torch.empty(len(targets_N), device=hidden_ND.device, dtype=torch.float32)
    with torch.autocast(hidden_ND.device.type, enabled=False):
        for rows in _chunks(len(targets_N), len(weight_VD)):
            logits_nV = (hidden_ND[rows].to(dtype) @ product_VD.T).float()
            chosen_n = logits_nV.gather(1, targets_N[rows, None]).squeeze(1)
            out_N[rows] = chosen_n - logits_nV.logsumexp(dim=1)
    return out_N


def _chunks(rows: int, vocabulary: int) -> list[slice]:
    size = max(64, _CHUNK_LOGITS // vocabulary)
    return [slice(start, start + size) for start in range(0, rows, size)]
