"""Causal attention within short sequences on a CPU, with its gradients: `lines.cpp`, compiled once for a machine.

A step on lines has hundreds of sequences of a dozen tokens. As batched products they are copied into rows that several
share, and most of what is multiplied there is masked; a tenth of a step of Model A (docs/experiments.md). These loops
read them where they lie.

Shape letters: N tokens of the batch, H heads, K key/value heads, E width of a head, C sequences and one.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from firstwords.model.built import built_loops
from firstwords.model.matrices import heads_joined

_SOURCE = Path(__file__).with_name("lines.cpp")
_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}

LONGEST_LINE = 64
"""Tokens of a sequence up to which these loops are faster than the products of matrices."""


def attends_in_lines(dtype: torch.dtype) -> bool:
    """Whether tensors of this type on the CPU can be given to `attend_in_lines`."""
    return dtype in _NAMES and _library() is not None


def attend_in_lines(q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor, bounds_C: Tensor, longest: int) -> Tensor:
    """Softmax of scaled products over each token's sequence up to itself: (N, H, E), differentiable.

    bounds_C: where each sequence begins, and at last the end, int32. longest: tokens of the longest, or more.
    """
    return _InLines.apply(*map(heads_joined, (q_NHE, k_NKE, v_NKE)), bounds_C, longest)


class _InLines(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor, bounds_C: Tensor, longest: int) -> Tensor:
        ctx.save_for_backward(q_NHE, k_NKE, v_NKE, bounds_C)
        ctx.longest = longest
        out_NHE = q_NHE.new_empty(q_NHE.shape)
        _call("attend", q_NHE, k_NKE, v_NKE, bounds_C, (out_NHE,), longest)
        return out_NHE

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q_NHE, k_NKE, v_NKE, bounds_C = ctx.saved_tensors
        grad_NHE = grad_outputs[0].contiguous()
        grad_q_NHE, grad_k_NKE, grad_v_NKE = (x.new_empty(x.shape) for x in (q_NHE, k_NKE, v_NKE))
        made = (grad_NHE, grad_q_NHE, grad_k_NKE, grad_v_NKE)
        _call("gradients", q_NHE, k_NKE, v_NKE, bounds_C, made, ctx.longest)
        return grad_q_NHE, grad_k_NKE, grad_v_NKE, None, None


def _call(
    name: str, q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor, bounds_C: Tensor, made: tuple[Tensor, ...], longest: int
) -> None:
    library = _library()
    assert library is not None and bounds_C.dtype == torch.int32
    inputs = (q_NHE, k_NKE, v_NKE)
    sizes = (len(bounds_C) - 1, longest, q_NHE.shape[1], k_NKE.shape[1], q_NHE.shape[2], *(x.stride(0) for x in inputs))
    function = getattr(library, f"{name}_{_NAMES[q_NHE.dtype]}")
    pointers = (ctypes.c_void_p(x.data_ptr()) for x in (*inputs, bounds_C, *made))
    function(*pointers, *map(ctypes.c_int64, sizes), ctypes.c_int(torch.get_num_threads()))


@cache
def _library() -> ctypes.CDLL | None:
    return built_loops(_SOURCE)
