"""Flash attention on CUDA (Dao et al. 2022), within sequences that lie one after the other.

PyTorch's function for it is not public, and its public one is not the same in all versions that we support.

Shape letters as in `model.attention`: n tokens, H heads, K key/value heads, E width of a head, C bounds of sequences.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor

_WIDEST_HEAD = 256
_KEYS, _WIDEST_HEAD_OF_KEYS = 128, 64
"""Keys of a block in the backward pass, for heads of so many numbers at most."""


def flash_is_there(device: torch.device | str) -> bool:
    """Whether a device can attend within sequences as they lie: from Ampere on."""
    return torch.device(device).type == "cuda" and torch.cuda.is_available() and _works()


@cache
def _works() -> bool:
    """Tried once: other versions of PyTorch need not have it as it is."""
    if torch.cuda.get_device_capability()[0] < 8:
        return False
    try:
        with torch.enable_grad():
            x_nHE = torch.ones(3, 1, 64, dtype=torch.bfloat16, device="cuda", requires_grad=True)
            bounds_C = torch.tensor([0, 2, 3], dtype=torch.int32, device="cuda")
            attend_by_flash(x_nHE, x_nHE, x_nHE, bounds_C, 2).sum().backward()
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False
    return True


def suits_flash(q_nHE: Tensor) -> bool:
    """Whether it is made for such queries."""
    width = q_nHE.shape[2]
    return q_nHE.dtype in (torch.float16, torch.bfloat16) and width <= _WIDEST_HEAD and width % 8 == 0


def attend_by_flash(q_nHE: Tensor, k_nKE: Tensor, v_nKE: Tensor, bounds_C: Tensor, longest: int) -> Tensor:
    """Causal attention of each token to its own sequence, (n, H, E). bounds_C, longest: as of a `RaggedGroup`.

    Gradients are the same bits every time.
    """
    return _Flash.apply(q_nHE, k_nKE, v_nKE, bounds_C, longest)


class _Flash(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_nHE: Tensor, k_nKE: Tensor, v_nKE: Tensor, bounds_C: Tensor, longest: int) -> Tensor:
        out_nHE, *more, _ = torch.ops.aten._flash_attention_forward(
            *(q_nHE, k_nKE, v_nKE, bounds_C, bounds_C, longest, longest, 0.0, True, False)
        )
        ctx.save_for_backward(q_nHE, k_nKE, v_nKE, out_nHE, bounds_C, *more)
        ctx.longest = longest
        return out_nHE

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q_nHE, k_nKE, v_nKE, out_nHE, bounds_C, log_sums, random, unused = ctx.saved_tensors
        # Blocks of keys add to the gradients of their queries. One has nobody to change places with.
        alone = ctx.longest <= _KEYS and q_nHE.shape[2] <= _WIDEST_HEAD_OF_KEYS
        with nullcontext() if alone else _sums_in_one_order():
            grads = torch.ops.aten._flash_attention_backward(
                *(grad_outputs[0].contiguous(), q_nHE, k_nKE, v_nKE, out_nHE, log_sums, bounds_C, bounds_C),
                *(ctx.longest, ctx.longest, 0.0, True, random, unused),
            )
        return *grads, None, None


@contextmanager
def _sums_in_one_order() -> Iterator[None]:
    """While it lasts, CUDA adds up in an order that is the same every time."""
    filler: Any = torch.utils.deterministic
    before, fills = torch.get_deterministic_debug_mode(), filler.fill_uninitialized_memory
    torch.set_deterministic_debug_mode("error")
    filler.fill_uninitialized_memory = False  # with NaN, which takes time
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        filler.fill_uninitialized_memory = fills
