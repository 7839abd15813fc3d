"""Cross-entropy and log-probabilities of targets, chunk by chunk, so that the logits never stand whole.

Shape letters: N predicted tokens, n those of one chunk, r those of a few rows of it, D hidden width, V vocabulary, W
the vocabulary filled up to a width that suits the device's products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from firstwords.model.fusion import fused, fusing, in_kernels
from firstwords.model.llama import compute_dtype
from firstwords.model.matrices import gradient_of_inputs, gradient_of_weight, multiplied_in_tiles, product

IGNORE = -100
"""A target that is none, as in PyTorch's cross_entropy."""

CHUNK_LOGITS = 5 * 2**24
"""Entries of the largest logits chunk: 160 MiB of bfloat16. Smaller chunks add the gradient of the whole unembedding
more often, which costs more."""

CUDA_CHUNK_LOGITS = 2**28
"""The same on CUDA: 512 MiB."""

_CUDA_ALIGNED = 128
"""CUDA's products run at a third of their rate where the vocabulary is no multiple of 8 (docs/experiments.md)."""

_CPU_CHUNK_LOGITS_READ = 2**22
"""The same on a CPU where nothing is learnt from them, and no gradient is to be added: 16 MiB of float32."""

_WIDE_LOGITS = 2**24
"""Entries that stand in float32 at once where nothing is learnt from them: 64 MiB, which a GPU passes over in 30
microseconds."""

_CPU_ROW_LOGITS = 2**20
"""Entries that go through the softmax at once on a CPU: 4 MiB of float32, which its caches hold from one pass over
them to the next. Softmax and its gradient of a whole chunk took twice as long."""
_FUSED_CPU_ROW_LOGITS = 2**21
"""Fused, they stand in float32 once: 8 MiB, where a whole chunk's would hold memory of another size in every step."""


def summed_cross_entropy(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, z_loss: float = 0.0) -> Tensor:
    """Sum of -log p(target) + z_loss log(Z)^2 over all rows: nats, float32 scalar, differentiable in hidden and weight.

    Rows whose target is IGNORE give neither loss nor gradient. Z is the sum of the exponentials of a row's logits
    (Chowdhery et al. 2022, section 5).
    The gradient is made in the forward pass, while a chunk's logits are there; products are in autocast's
    type, softmax and the weight's gradient in float32.
    """
    return _SummedCrossEntropy.apply(hidden_ND, weight_VD, targets_N, z_loss, compute_dtype(weight_VD))


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, z_loss: float, dtype: torch.dtype
    ) -> Tensor:
        in_tiles = multiplied_in_tiles(hidden_ND, weight_VD)
        product_WD = weight_VD.detach() if in_tiles else _for_products(weight_VD, dtype)
        loss = torch.zeros((), device=hidden_ND.device, dtype=torch.float32)
        grad_hidden_ND = torch.empty_like(hidden_ND)
        grad_weight_WD: Tensor | None = None
        with torch.autocast(hidden_ND.device.type, enabled=False):
            for rows in _chunks(len(targets_N), len(weight_VD), _chunk_logits(hidden_ND)):
                hidden_nD = hidden_ND[rows].detach().to(dtype)
                # The logits, until the next line makes their gradient of them.
                grad_nW = product(hidden_nD, product_WD) if in_tiles else hidden_nD @ product_WD.T
                loss += _logits_to_gradient_(grad_nW, targets_N[rows], len(weight_VD), z_loss)
                grad_hidden_ND[rows] = gradient_of_inputs(grad_nW, product_WD) if in_tiles else grad_nW @ product_WD
                chunk_WD = gradient_of_weight(grad_nW, hidden_nD) if in_tiles else grad_nW.T @ hidden_nD
                grad_weight_WD = chunk_WD.float() if grad_weight_WD is None else grad_weight_WD.add_(chunk_WD)
        grad_weight_VD = None if grad_weight_WD is None else grad_weight_WD[: len(weight_VD)]
        ctx.save_for_backward(grad_hidden_ND, grad_weight_VD)
        return loss

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        grad_hidden_ND, grad_weight_VD = ctx.saved_tensors
        scale = grad_outputs[0]
        # In place: these buffers are this function's own, and the pass runs backward once.
        return grad_hidden_ND.mul_(scale), grad_weight_VD.mul_(scale), None, None, None


def _for_products(weight_VD: Tensor, dtype: torch.dtype) -> Tensor:
    """The unembedding in the products' type; on CUDA with rows of zeros up to a width W that suits its products."""
    rows = -(-len(weight_VD) // _CUDA_ALIGNED) * _CUDA_ALIGNED if weight_VD.is_cuda else len(weight_VD)
    if rows == len(weight_VD):
        return weight_VD.detach().to(dtype)
    product_WD = weight_VD.new_zeros(rows, weight_VD.shape[1], dtype=dtype)
    product_WD[: len(weight_VD)].copy_(weight_VD.detach())
    return product_WD


def _chunk_logits(hidden_ND: Tensor) -> int:
    return CUDA_CHUNK_LOGITS if hidden_ND.is_cuda else CHUNK_LOGITS


def _logits_to_gradient_(logits_nW: Tensor, targets_n: Tensor, vocabulary: int, z_loss: float) -> Tensor:
    """Write the gradient of the rows' summed loss over the logits themselves, and return that loss.

    With p the softmax and Z its sum: d loss / d logit = p (1 + 2 z_loss log Z) - [target]. Columns from `vocabulary` on
    are filler, and stay 0.
    """
    if in_kernels():
        from firstwords.model.kernels import logits_to_gradient_

        return logits_to_gradient_(logits_nW, targets_n, vocabulary, z_loss)
    logits_nV = logits_nW[:, :vocabulary]
    kept_n1, targets_n1 = (targets_n[:, None] != IGNORE).float(), targets_n[:, None].clamp_min(0)
    chosen_n1 = logits_nV.gather(1, targets_n1).float()
    count, vocabulary = logits_nV.shape
    at_once = _FUSED_CPU_ROW_LOGITS if fusing() else _CPU_ROW_LOGITS
    size = max(1, at_once // vocabulary) if logits_nV.device.type == "cpu" else count
    log_z_n1 = torch.cat(
        [
            _softmax_(logits_nV[start : start + size], kept_n1[start : start + size], z_loss)
            for start in range(0, count, size)
        ]
    )
    gradient_n1 = (chosen_n1 - log_z_n1).exp() * (1 + 2 * z_loss * log_z_n1) - 1
    # Not scatter_: in half precision it copies all the logits there and back on a CPU.
    places = torch.arange(count, device=targets_n.device), targets_n1.squeeze(1)
    logits_nV[places] = (gradient_n1 * kept_n1).squeeze(1).to(logits_nV.dtype)
    return ((log_z_n1 - chosen_n1 + z_loss * log_z_n1**2) * kept_n1).sum()


@fused
def _softmax_(logits_rV: Tensor, kept_r1: Tensor, z_loss: float) -> Tensor:
    """Write kept p (1 + 2 z_loss log Z) over the logits, and return log Z."""
    exps_rV = logits_rV.float()
    largest_r1 = exps_rV.amax(dim=1, keepdim=True)
    exps_rV = exps_rV.sub_(largest_r1).exp_()
    sums_r1 = exps_rV.sum(dim=1, keepdim=True)
    log_z_r1 = largest_r1 + sums_r1.log()
    logits_rV.copy_(exps_rV.mul_(kept_r1 / sums_r1 * (1 + 2 * z_loss * log_z_r1)))
    return log_z_r1


@torch.no_grad()
def target_log_probs(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """log p(target) of every row: nats, float32, shape (N,)."""
    dtype = compute_dtype(weight_VD)
    product_WD = _for_products(weight_VD, dtype)
    out_N = torch.empty(len(targets_N), device=hidden_ND.device, dtype=torch.float32)
    logits = _CPU_CHUNK_LOGITS_READ if hidden_ND.device.type == "cpu" else CHUNK_LOGITS
    with torch.autocast(hidden_ND.device.type, enabled=False):
        for rows in _chunks(len(targets_N), len(weight_VD), logits):
            logits_nV = (hidden_ND[rows].to(dtype) @ product_WD.T)[:, : len(weight_VD)]
            size = max(1, _WIDE_LOGITS // len(weight_VD))
            parts = zip(logits_nV.split(size), targets_N[rows].split(size), strict=True)
            out_N[rows] = torch.cat([_log_probs(*part) for part in parts])
    return out_N


def _log_probs(logits_rV: Tensor, targets_r: Tensor) -> Tensor:
    logits_rV = logits_rV.float()
    return logits_rV.gather(1, targets_r[:, None]).squeeze(1) - logits_rV.logsumexp(dim=1)


def _chunks(rows: int, vocabulary: int, logits: int) -> list[slice]:
    """Chunks of nearly equal size, and few sizes: the CPU's matrix kernels are made anew for each."""
    largest = max(64, logits // vocabulary)
    count = max(1, -(-rows // largest))
    size = min(largest, 64 * -(-rows // (64 * count)))
    return [slice(start, start + size) for start in range(0, rows, size)]
