"""Which library multiplies matrices of float32 on a CPU: oneDNN or MKL, whichever is the faster for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

_BY_ONEDNN = "medium"
"""The precision of torch.set_float32_matmul_precision that gives products to oneDNN."""
_FLOAT32_ERROR = 1e-5
"""Relative to the largest entry. float32 products of 512 terms err by 1e-6, those of bfloat16 by 2e-3."""


@contextmanager
def products_by_onednn() -> Iterator[None]:
    """While it lasts, oneDNN makes float32 products on the CPU, where they stay float32.

    PyTorch gives them to MKL, which is up to twice as slow on AMD. No result changes by more than rounding.
    """
    # CUDA would round under this setting, and needs no such help.
    wanted = not torch.cuda.is_available() and _onednn_stays_float32()
    with _precision(_BY_ONEDNN if wanted else torch.get_float32_matmul_precision()):
        yield


@contextmanager
def products_as_usual() -> Iterator[None]:
    """While it lasts, products are made as PyTorch makes them: its fused attention on AMD wants that, or it takes nine
    times as long (docs/experiments.md).
    """
    with _precision("highest"):
        yield


def product_with(weight_OI: Tensor) -> Callable[[Tensor], Tensor]:
    """x -> x @ weight.T for a weight that will not change: (n, I) -> (n, O), without gradients.

    Where oneDNN makes the products (`products_by_onednn`), the weight is laid out once as it reads it, and not in every
    call: 5 to 15% faster at 1,500 rows, the same bits. The layout is a copy.
    """
    if torch.get_float32_matmul_precision() == _BY_ONEDNN:
        try:
            laid_out = torch.ops.mkldnn._reorder_linear_weight(weight_OI.detach())
            return lambda x_nI: torch.ops.mkldnn._linear_pointwise(x_nI, laid_out, None, "none", [], "")
        except (AttributeError, RuntimeError):
            pass  # neither is public, and other versions of PyTorch need not have them
    return partial(F.linear, weight=weight_OI.detach())


@cache
def _onednn_stays_float32() -> bool:
    """The setting that gives products to oneDNN allows it to round to bfloat16; it does where the CPU has AMX."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(128, 512, generator=generator), torch.randn(512, 128, generator=generator)
    exact = left.double() @ right.double()
    with _precision(_BY_ONEDNN):
        return float((left @ right - exact).abs().max() / exact.abs().max()) <= _FLOAT32_ERROR


@contextmanager
def _precision(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
