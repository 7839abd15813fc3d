"""A training's products and attention on a CPU with a matrix unit (AMX): `matrices.cpp` and `attention.cpp`.

oneDNN makes a kernel for every shape that it meets, and a step on lines has shapes of its own; its gradients of weights
run at half the rate of its other products, and float32 weights are first copied to bfloat16 (docs/experiments.md).
These products take any shape and read weights as they are. They are operators of PyTorch, so that compiled loops can
call them. Where there is no compiler or no matrix unit, PyTorch multiplies.

Shape letters: N tokens, I inputs and O outputs of a layer; H heads, K key/value heads, E width of a head, C sequences
and one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from firstwords.model.built import built_loops
from firstwords.model.fusion import missing_for_fusion

_MATRICES, _ATTENTION = (Path(__file__).with_name(name) for name in ("matrices.cpp", "attention.cpp"))

_in_tiles = False
"""Not asked of the library each time: what is compiled may read a variable, and not call what loads a library."""


def tiles_are_there() -> bool:
    """Whether the processor has tiles of bfloat16 and the machine a compiler; nothing is compiled to find out."""
    return cpu_has("amx_bf16") and missing_for_fusion("cpu") is None


def cpu_has(name: str) -> bool:
    """Whether the CPU has some instructions, by the name that PyTorch gives them."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get(name))


def prepare_tiles() -> None:
    """Have products in bfloat16 on the CPU made by tiles from now on, where the processor has them."""
    global _in_tiles  # noqa: PLW0603
    _in_tiles = _library(_MATRICES) is not None and _library(_ATTENTION) is not None


def attends_in_tiles(dtype: torch.dtype) -> bool:
    """Whether tensors of this type on the CPU can be given to `attend_in_tiles`."""
    return _in_tiles and dtype == torch.bfloat16


def multiplied_in_tiles(x_NI: Tensor, weight_OI: Tensor) -> bool:
    """Whether `product` is to be used, and not PyTorch's: under autocast to bfloat16, on the CPU."""
    half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return _in_tiles and half and x_NI.dim() == 2 and x_NI.device.type == "cpu" and weight_OI.dtype == torch.float32


def product(x_NI: Tensor, weight_OI: Tensor) -> Tensor:
    """x @ weight.T, (N, O) in bfloat16, differentiable; weight in float32, and so is its gradient."""
    return torch.ops.firstwords.product(x_NI.to(torch.bfloat16), weight_OI)


def gradient_of_inputs(grad_NO: Tensor, weight_OI: Tensor) -> Tensor:
    """grad @ weight, (N, I) in bfloat16."""
    return torch.ops.firstwords.gradient_of_inputs(grad_NO, weight_OI)


def gradient_of_weight(grad_NO: Tensor, x_NI: Tensor) -> Tensor:
    """grad.T @ x, (O, I) in float32."""
    return torch.ops.firstwords.gradient_of_weight(grad_NO, x_NI)


_operators = torch.library.Library("firstwords", "DEF")
_operators.define("product(Tensor x_NI, Tensor weight_OI) -> Tensor")
_operators.define("gradient_of_inputs(Tensor grad_NO, Tensor weight_OI) -> Tensor")
_operators.define("gradient_of_weight(Tensor grad_NO, Tensor x_NI) -> Tensor")


MANY_ROWS, _MANY_OUTPUTS = 1_024, 8_192
"""With more rows oneDNN is the faster, but for outputs as many as a vocabulary (docs/experiments.md)."""


@torch.library.impl(_operators, "product", "CPU")
def _product(x_NI: Tensor, weight_OI: Tensor) -> Tensor:
    (rows, inputs), outputs = x_NI.shape, len(weight_OI)
    if rows > MANY_ROWS and outputs < _MANY_OUTPUTS:
        return x_NI @ weight_OI.to(x_NI.dtype).T
    y_NO = x_NI.new_empty(rows, outputs)
    _call("product", x_NI, weight_OI, y_NO, rows, inputs, outputs)
    return y_NO


@torch.library.impl(_operators, "gradient_of_inputs", "CPU")
def _gradient_of_inputs(grad_NO: Tensor, weight_OI: Tensor) -> Tensor:
    rows, (outputs, inputs) = len(grad_NO), weight_OI.shape
    if rows > MANY_ROWS:
        return grad_NO @ weight_OI.to(grad_NO.dtype)
    grad_NI = grad_NO.new_empty(rows, inputs)
    _call("gradient_of_inputs", grad_NO, weight_OI, grad_NI, rows, inputs, outputs)
    return grad_NI


@torch.library.impl(_operators, "gradient_of_weight", "CPU")
def _gradient_of_weight(grad_NO: Tensor, x_NI: Tensor) -> Tensor:
    (rows, outputs), inputs = grad_NO.shape, x_NI.shape[1]
    grad_OI = grad_NO.new_empty(outputs, inputs, dtype=torch.float32)
    _call("gradient_of_weight", grad_NO, x_NI, grad_OI, rows, inputs, outputs)
    return grad_OI


# What they make, for those who ask before it is made. `len` would take a size for one that never changes.
torch.library.register_fake(
    "firstwords::product", lambda x_NI, weight_OI: x_NI.new_empty(x_NI.shape[0], weight_OI.shape[0])
)
torch.library.register_fake(
    "firstwords::gradient_of_inputs", lambda grad_NO, weight_OI: grad_NO.new_empty(grad_NO.shape[0], weight_OI.shape[1])
)
torch.library.register_fake(
    "firstwords::gradient_of_weight",
    lambda grad_NO, x_NI: grad_NO.new_empty(grad_NO.shape[1], x_NI.shape[1], dtype=torch.float32),
)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad_NO: Tensor) -> tuple[Tensor | None, Tensor | None]:
    x_NI, weight_OI = ctx.saved_tensors
    of_inputs, of_weight = ctx.needs_input_grad
    return (
        gradient_of_inputs(grad_NO, weight_OI) if of_inputs else None,
        gradient_of_weight(grad_NO, x_NI) if of_weight else None,
    )


torch.library.register_autograd("firstwords::product", _backward, setup_context=_keep)


def _call(name: str, left: Tensor, right: Tensor, made: Tensor, *sizes: int) -> None:
    assert left.dtype == torch.bfloat16
    if left.numel() == 0:  # no tokens
        made.zero_()
        return
    left, right = (x if x.stride(1) == 1 else x.contiguous() for x in (left, right))
    _run(_MATRICES, name, (left, right, made), (*sizes, left.stride(0), right.stride(0)))


def attend_in_tiles(q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor, bounds_C: Tensor) -> Tensor:
    """Softmax of scaled products over each token's sequence up to itself: (N, H, E), differentiable; all in bfloat16.

    bounds_C: where each sequence begins, and at last the end, int32.
    """
    return _InTiles.apply(*map(heads_joined, (q_NHE, k_NKE, v_NKE)), bounds_C)


class _InTiles(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor, bounds_C: Tensor) -> Tensor:
        out_NHE = q_NHE.new_empty(q_NHE.shape)
        log_sums = q_NHE.new_empty(q_NHE.shape[:2], dtype=torch.float32)
        _attend("attend", (q_NHE, k_NKE, v_NKE), bounds_C, (out_NHE, log_sums))
        ctx.save_for_backward(q_NHE, k_NKE, v_NKE, bounds_C, out_NHE, log_sums)
        return out_NHE

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        *inputs, bounds_C, out_NHE, log_sums = ctx.saved_tensors
        grads = tuple(x.new_empty(x.shape) for x in inputs)
        _attend("gradients", inputs, bounds_C, (out_NHE, log_sums, grad_outputs[0].contiguous(), *grads))
        return (*grads, None)


def _attend(name: str, inputs: Sequence[Tensor], bounds_C: Tensor, others: tuple[Tensor, ...]) -> None:
    assert bounds_C.dtype == torch.int32 and all(x.dtype == torch.bfloat16 for x in inputs)
    q_NHE, k_NKE, _ = inputs
    sizes = len(bounds_C) - 1, q_NHE.shape[1], *k_NKE.shape[1:], *(x.stride(0) for x in inputs)
    _run(_ATTENTION, name, (*inputs, bounds_C, *others), sizes)


def heads_joined(x_NHE: Tensor) -> Tensor:
    """Heads of a token side by side; between tokens there may be gaps."""
    return x_NHE if x_NHE.stride()[1:] == (x_NHE.shape[2], 1) else x_NHE.contiguous()


def _run(source: Path, name: str, tensors: tuple[Tensor, ...], sizes: tuple[int, ...]) -> None:
    pointers = (ctypes.c_void_p(x.data_ptr()) for x in tensors)
    getattr(_library(source), name)(*pointers, *map(ctypes.c_int64, sizes), ctypes.c_int(torch.get_num_threads()))


@cache
def _library(source: Path) -> ctypes.CDLL | None:
    library = built_loops(source)
    return library if library is not None and library.are_there() else None
