"""Loops of our own for a model that scores on a CPU: `native.cpp`, compiled once for a machine.

PyTorch makes each of these in several passes over memory, and its fused attention calls a matrix product for every head
of every sentence, however short. Together they took a fifth of the time of scoring (docs/experiments.md). Where
there is no compiler, or none that works, PyTorch's operations do the same.

Shape letters: N nodes (tokens with all that stands before them), H heads, K key/value heads, E width of a head, F width
of the feed-forward layer, r rows of logits, v a tile of the vocabulary.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from firstwords.model.built import built_loops
from firstwords.model.llama import RMSNorm

_SOURCE = Path(__file__).with_name("native.cpp")


class NativeLoops:
    """The compiled functions, on float32 tensors of the CPU without gradients."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def attend_along_tree(
        self, qkv_NX: Tensor, rotation: tuple[Tensor, Tensor], positions_N: Tensor, heads: int
    ) -> Tensor:
        """Softmax of scaled products over each node and all that lead to it: (N, H * E).

        qkv_NX: X = (H + 2K) * E, not yet rotated. rotation: cosines and sines, (N, 1, E) each. positions_N: places in a
        text of nodes in the order of a walk through the tree: before a node, and one place lower, comes its parent.
        """
        cosines_N1E, sines_N1E = (part.contiguous() for part in rotation)
        size = cosines_N1E.shape[-1]
        kv_heads = (qkv_NX.shape[1] // size - heads) // 2
        out_NX = qkv_NX.new_empty(len(qkv_NX), heads * size)
        sizes = (len(qkv_NX), heads, kv_heads, size, int(positions_N.max()) + 1)
        self._call("attend_along_tree", qkv_NX, cosines_N1E, sines_N1E, positions_N, out_NX, *sizes)
        return out_NX

    def add_and_norm(self, x_ND: Tensor, added_ND: Tensor, norm: RMSNorm) -> Tensor:
        """x += added, in place; returns norm(x), (N, D)."""
        out_ND = torch.empty_like(x_ND)
        self._call("add_and_norm", x_ND, added_ND, norm.weight, out_ND, *x_ND.shape, norm.eps)
        return out_ND

    def swiglu(self, gate_up_NX: Tensor) -> Tensor:
        """silu(gate) * up, (N, F); X = 2F, the gates first."""
        width = gate_up_NX.shape[1] // 2
        out_NF = gate_up_NX.new_empty(len(gate_up_NX), width)
        self._call("swiglu", gate_up_NX, out_NF, len(out_NF), width)
        return out_NF

    def log_sums_(self, logits_rv: Tensor) -> Tensor:
        """log of the sum of each row's exponentials, (r,). The logits are written over."""
        out_r = logits_rv.new_empty(len(logits_rv))
        self._call("log_sums", logits_rv, out_r, *logits_rv.shape)
        return out_r

    def _call(self, name: str, *given: Tensor | int | float) -> None:
        getattr(self._library, name)(*map(_argument, given), ctypes.c_int(torch.get_num_threads()))


def _argument(given: Tensor | int | float) -> ctypes.c_void_p | ctypes.c_int64 | ctypes.c_float:
    if isinstance(given, Tensor):
        # The loops read memory as it lies.
        assert given.is_contiguous() and given.device.type == "cpu" and given.dtype in (torch.float32, torch.int64)
        return ctypes.c_void_p(given.data_ptr())
    return ctypes.c_int64(given) if isinstance(given, int) else ctypes.c_float(given)


@cache
def native_loops() -> NativeLoops | None:
    """The compiled loops, from the cache folder or made now, which takes a second; None where that fails."""
    library = built_loops(_SOURCE)
    return None if library is None else NativeLoops(library)
