"""What a training step on CUDA does between its products: one kernel a chain, and gradients written by hand.

PyTorch runs these chains as many kernels, each of which reads and writes all tokens; a small model's step is mostly
that. Compiled by torch.compile they are fewer, but it takes half a minute to make them. The kernels here are Triton's
(Tillet et al. 2019), and are made in a few seconds. Every sum is float32 and has one order, so that results are the
same every time.

Needs triton, which comes with PyTorch for CUDA: import it where there is a CUDA device. With TRITON_INTERPRET=1 in the
environment the kernels run on the CPU, slowly, as the tests do.

Shape letters: N tokens, D hidden width, H heads, K key/value heads, E width of a head, F width of the feed-forward
layer, V vocabulary; P programs of a kernel.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from firstwords.model.loss import IGNORE

_TILE = 4_096
"""Numbers that a program holds at once, about: of several tokens where they are few of each."""
_ROW = 32_768
"""Numbers of the longest row that all of a program's registers hold."""
_PROGRAMS, _LEAST_ROWS = 512, 16
"""Programs of a kernel that sums over tokens: some for each of a GPU's processors. Each sums up its share first, of so
many tokens at the least: the sums of few are soon added."""


def add_and_norm(
    x_ND: Tensor, added_ND: Tensor | None, weight_D: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The residual stream with what is added to it, float32, and its RMS norm (Zhang & Sennrich 2019) in `dtype`."""
    return _AddAndNorm.apply(x_ND, added_ND, weight_D, eps, dtype)


def project(
    normed_ND: Tensor, weight: Tensor, cos_N1E: Tensor, sin_N1E: Tensor, heads: int, kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (N, H, E), keys and values (N, K, E) by one product with `weight`, of ((H + 2 K) E, D).

    Queries and keys are turned by their positions' angles (Su et al. 2021).
    """
    return _Project.apply(normed_ND, weight, cos_N1E, sin_N1E, heads, kv_heads)


def product(x_ND: Tensor, weight: Tensor) -> Tensor:
    """x times the transposed weight, in x's type; the weight's gradient is summed up in float32."""
    return _Product.apply(x_ND, weight)


def feed_forward(normed_ND: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """SwiGLU (Shazeer 2020), (N, D) -> (N, D): gate_up (2 F, D) gives both inputs of silu(gate) * up."""
    return _FeedForward.apply(normed_ND, gate_up, down)


def logits_to_gradient_(logits_NV: Tensor, targets_N: Tensor, vocabulary: int, z_loss: float) -> Tensor:
    """Write the gradient of the rows' summed loss over their logits, and return that loss: `model.loss` says which.

    Columns from `vocabulary` on are filler: their gradient is 0.
    """
    losses_N = torch.empty(len(targets_N), device=logits_NV.device, dtype=torch.float32)
    size = triton.next_power_of_2(logits_NV.shape[1])
    if size > _ROW:
        size = _TILE
    _softmax_to_gradient[len(targets_N),](
        *(logits_NV, targets_N, losses_N, vocabulary, z_loss, IGNORE),
        WIDTH=logits_NV.shape[1],
        SIZE=size,
        num_warps=max(4, min(32, size // 1_024)),
    )
    return losses_N.sum()


class _AddAndNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, added_ND: Tensor | None, weight_D: Tensor, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        (rows, width), tile = x_ND.shape, _tile(x_ND.shape[1])
        adds = added_ND is not None
        sum_ND = torch.empty_like(x_ND) if adds else x_ND
        normed_ND, inverse_N = torch.empty_like(x_ND, dtype=dtype), x_ND.new_empty(rows)
        _add_and_norm[triton.cdiv(rows, tile["ROWS"]),](
            *(x_ND, added_ND if adds else x_ND, weight_D, sum_ND, normed_ND, inverse_N, rows, width, eps),
            ADDS=adds,
            **tile,
        )
        ctx.save_for_backward(sum_ND, weight_D, inverse_N)
        ctx.added_dtype = None if added_ND is None else added_ND.dtype
        return sum_ND, normed_ND

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None, None]:
        sum_ND, weight_D, inverse_N = ctx.saved_tensors
        grad_sum_ND, grad_normed_ND = (grad_ND.contiguous() for grad_ND in grad_outputs)
        (rows, width), tile = sum_ND.shape, _tile(sum_ND.shape[1])
        adds = ctx.added_dtype is not None
        grad_x_ND = torch.empty_like(sum_ND)
        grad_added_ND = torch.empty_like(sum_ND, dtype=ctx.added_dtype) if adds else None
        programs = min(_PROGRAMS, triton.cdiv(rows, max(_LEAST_ROWS, tile["ROWS"])))
        grad_weight_PD = sum_ND.new_empty(programs, width)
        _add_and_norm_backward[programs,](
            *(sum_ND, weight_D, inverse_N, grad_sum_ND, grad_normed_ND),
            *(grad_x_ND, grad_added_ND if adds else grad_x_ND, grad_weight_PD, rows, width),
            ADDS=adds,
            **tile,
        )
        return grad_x_ND, grad_added_ND, grad_weight_PD.sum(0), None, None


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, normed_ND: Tensor, weight: Tensor, cos_N1E: Tensor, sin_N1E: Tensor, heads: int, kv_heads: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        weight = weight.to(normed_ND.dtype)
        qkv_NW = normed_ND @ weight.T
        half = cos_N1E.shape[2] // 2
        pairs = (heads + kv_heads) * half
        _rotate_[len(qkv_NW),](
            *(qkv_NW, cos_N1E, sin_N1E, qkv_NW.shape[1], pairs), HALF=half, PAIRS=triton.next_power_of_2(pairs)
        )
        ctx.save_for_backward(normed_ND, weight, cos_N1E, sin_N1E)
        return qkv_NW.unflatten(1, (-1, 2 * half)).split((heads, kv_heads, kv_heads), dim=1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        normed_ND, weight, cos_N1E, sin_N1E = ctx.saved_tensors
        grad_q_NHE, grad_k_NKE, grad_v_NKE = (grad_NHE.contiguous() for grad_NHE in grad_outputs)
        grad_qkv_NW = normed_ND.new_empty(len(normed_ND), len(weight))
        half = cos_N1E.shape[2] // 2
        q_pairs, kv_pairs = grad_q_NHE.shape[1] * half, grad_k_NKE.shape[1] * half
        pairs = q_pairs + 2 * kv_pairs
        _rotate_back[len(normed_ND),](
            *(grad_q_NHE, grad_k_NKE, grad_v_NKE, grad_qkv_NW, cos_N1E, sin_N1E, q_pairs, kv_pairs),
            HALF=half,
            PAIRS=triton.next_power_of_2(pairs),
        )
        return grad_qkv_NW @ weight, _weight_gradient(grad_qkv_NW, normed_ND), None, None, None, None


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight: Tensor) -> Tensor:
        weight = weight.to(x_ND.dtype)
        ctx.save_for_backward(x_ND, weight)
        return x_ND @ weight.T

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
        x_ND, weight = ctx.saved_tensors
        return grad_outputs[0] @ weight, _weight_gradient(grad_outputs[0], x_ND)


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, normed_ND: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        gate_up, down = gate_up.to(normed_ND.dtype), down.to(normed_ND.dtype)
        gate_up_N2F = normed_ND @ gate_up.T
        inner_NF = gate_up_N2F.new_empty(len(gate_up_N2F), down.shape[1])
        grid, size = _by_columns(inner_NF)
        _swiglu[grid](gate_up_N2F, inner_NF, inner_NF.shape[1], SIZE=size)
        ctx.save_for_backward(normed_ND, gate_up, down, gate_up_N2F, inner_NF)
        return inner_NF @ down.T

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        normed_ND, gate_up, down, gate_up_N2F, inner_NF = ctx.saved_tensors
        grad_down = _weight_gradient(grad_outputs[0], inner_NF)
        grad_inner_NF = grad_outputs[0] @ down
        grad_N2F = torch.empty_like(gate_up_N2F)
        grid, size = _by_columns(inner_NF)
        _swiglu_backward[grid](gate_up_N2F, grad_inner_NF, grad_N2F, inner_NF.shape[1], SIZE=size)
        return grad_N2F @ gate_up, _weight_gradient(grad_N2F, normed_ND), grad_down


def _weight_gradient(grad_NW: Tensor, x_ND: Tensor) -> Tensor:
    """Gradient of a weight (W, D) in float32, without rounding to the products' type on the way."""
    if grad_NW.is_cuda and grad_NW.dtype != torch.float32:
        return torch.mm(grad_NW.T, x_ND, out_dtype=torch.float32)
    return (grad_NW.T @ x_ND).float()


def _tile(width: int) -> dict[str, int]:
    """Rows of such a width that a program holds, and their width in numbers."""
    columns = triton.next_power_of_2(width)
    return {"ROWS": max(1, _TILE // 2 // columns), "COLUMNS": columns}


def _by_columns(x_NF: Tensor) -> tuple[tuple[int, int], int]:
    """A grid of programs over rows and parts of them, and columns of a part."""
    size = min(_TILE // 2, triton.next_power_of_2(x_NF.shape[1]))
    return (len(x_NF), triton.cdiv(x_NF.shape[1], size)), size


# ---- the kernels: tensors by where they begin, row by row ----


@triton.jit
def _add_and_norm(
    x, added, weight, sums, normed, inverse, rows, width, eps,
    ADDS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row, column = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    inside = (row[:, None] < rows) & (column[None, :] < width)
    place = row[:, None].to(tl.int64) * width + column[None, :]
    values = tl.load(x + place, mask=inside, other=0.0)
    if ADDS:
        values += tl.load(added + place, mask=inside, other=0.0).to(tl.float32)
        tl.store(sums + place, values, mask=inside)
    scale = 1.0 / tl.sqrt(tl.sum(values * values, axis=1) / width + eps)
    tl.store(inverse + row, scale, mask=row < rows)
    weights = tl.load(weight + column, mask=column < width, other=0.0)
    found = values * scale[:, None] * weights[None, :]
    tl.store(normed + place, found.to(normed.dtype.element_ty), mask=inside)


@triton.jit
def _add_and_norm_backward(
    sums, weight, inverse, grad_sums, grad_normed, grad_x, grad_added, grad_weights, rows, width,
    ADDS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    column = tl.arange(0, COLUMNS)
    weights = tl.load(weight + column, mask=column < width, other=0.0)
    grad_weight = tl.zeros((COLUMNS,), tl.float32)
    first = tl.program_id(0) * ROWS
    while first < rows:
        row = first + tl.arange(0, ROWS)
        inside = (row[:, None] < rows) & (column[None, :] < width)
        place = row[:, None].to(tl.int64) * width + column[None, :]
        scale = tl.load(inverse + row, mask=row < rows, other=0.0)[:, None]
        scaled = tl.load(sums + place, mask=inside, other=0.0) * scale
        grad = tl.load(grad_normed + place, mask=inside, other=0.0).to(tl.float32)
        grad_weight += tl.sum(grad * scaled, axis=0)
        grad *= weights[None, :]
        mean = tl.sum(grad * scaled, axis=1) / width
        found = (grad - scaled * mean[:, None]) * scale + tl.load(grad_sums + place, mask=inside, other=0.0)
        tl.store(grad_x + place, found, mask=inside)
        if ADDS:
            tl.store(grad_added + place, found.to(grad_added.dtype.element_ty), mask=inside)
        first += tl.num_programs(0) * ROWS
    tl.store(grad_weights + tl.program_id(0) * width + column, grad_weight, mask=column < width)


@triton.jit
def _rotate_(qkv, cos, sin, width, pairs, HALF: tl.constexpr, PAIRS: tl.constexpr):
    row, pair = tl.program_id(0).to(tl.int64), tl.arange(0, PAIRS)
    inside = pair < pairs
    place = row * width + pair // HALF * (2 * HALF) + pair % HALF
    angle = row * (2 * HALF) + pair % HALF
    cosine = tl.load(cos + angle, mask=inside, other=0.0).to(tl.float32)
    sine = tl.load(sin + angle, mask=inside, other=0.0).to(tl.float32)
    first = tl.load(qkv + place, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(qkv + place + HALF, mask=inside, other=0.0).to(tl.float32)
    tl.store(qkv + place, (first * cosine - second * sine).to(qkv.dtype.element_ty), mask=inside)
    tl.store(qkv + place + HALF, (second * cosine + first * sine).to(qkv.dtype.element_ty), mask=inside)


@triton.jit
def _rotate_back(
    grad_q, grad_k, grad_v, grad_qkv, cos, sin, q_pairs, kv_pairs, HALF: tl.constexpr, PAIRS: tl.constexpr
):
    row, pair = tl.program_id(0).to(tl.int64), tl.arange(0, PAIRS)
    all_pairs = q_pairs + 2 * kv_pairs
    inside = pair < all_pairs
    in_q, in_v = pair < q_pairs, inside & (pair >= q_pairs + kv_pairs)
    in_k = inside & (pair >= q_pairs) & (pair < q_pairs + kv_pairs)
    place = pair // HALF * (2 * HALF) + pair % HALF
    place_q = row * (2 * q_pairs) + place
    place_k = row * (2 * kv_pairs) + place - 2 * q_pairs
    place_v = place_k - 2 * kv_pairs
    first = tl.load(grad_q + place_q, mask=in_q, other=0.0).to(tl.float32)
    first += tl.load(grad_k + place_k, mask=in_k, other=0.0).to(tl.float32)
    first += tl.load(grad_v + place_v, mask=in_v, other=0.0).to(tl.float32)
    second = tl.load(grad_q + place_q + HALF, mask=in_q, other=0.0).to(tl.float32)
    second += tl.load(grad_k + place_k + HALF, mask=in_k, other=0.0).to(tl.float32)
    second += tl.load(grad_v + place_v + HALF, mask=in_v, other=0.0).to(tl.float32)
    angle = row * (2 * HALF) + pair % HALF
    turned = in_q | in_k
    cosine = tl.load(cos + angle, mask=turned, other=1.0).to(tl.float32)
    sine = tl.load(sin + angle, mask=turned, other=0.0).to(tl.float32)
    place = row * (2 * all_pairs) + place
    tl.store(grad_qkv + place, (first * cosine + second * sine).to(grad_qkv.dtype.element_ty), mask=inside)
    tl.store(grad_qkv + place + HALF, (second * cosine - first * sine).to(grad_qkv.dtype.element_ty), mask=inside)


@triton.jit
def _swiglu(gate_up, inner, width, SIZE: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * SIZE + tl.arange(0, SIZE)
    inside = column < width
    place = row * (2 * width) + column
    gate = tl.load(gate_up + place, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + place + width, mask=inside, other=0.0).to(tl.float32)
    found = gate * tl.sigmoid(gate) * up
    tl.store(inner + row * width + column, found.to(inner.dtype.element_ty), mask=inside)


@triton.jit
def _swiglu_backward(gate_up, grad_inner, grad_gate_up, width, SIZE: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * SIZE + tl.arange(0, SIZE)
    inside = column < width
    place = row * (2 * width) + column
    gate = tl.load(gate_up + place, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + place + width, mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(grad_inner + row * width + column, mask=inside, other=0.0).to(tl.float32)
    share = tl.sigmoid(gate)
    grad_gate = grad * up * share * (1.0 + gate * (1.0 - share))
    tl.store(grad_gate_up + place, grad_gate.to(grad_gate_up.dtype.element_ty), mask=inside)
    tl.store(grad_gate_up + place + width, (grad * gate * share).to(grad_gate_up.dtype.element_ty), mask=inside)


@triton.jit
def _softmax_to_gradient(logits, targets, losses, vocabulary, z_loss, ignored, WIDTH: tl.constexpr, SIZE: tl.constexpr):
    """A row of WIDTH, with its filler: sizes that let memory be read in wide pieces."""
    row = tl.program_id(0).to(tl.int64)
    begin = logits + row * WIDTH
    target = tl.load(targets + row)
    kept = target != ignored
    chosen = tl.load(begin + target, mask=kept, other=0.0).to(tl.float32)
    column = tl.arange(0, SIZE)
    values = _logits_at(begin, column, vocabulary, WIDTH)
    largest = tl.max(values, axis=0)
    total = tl.sum(tl.exp(values - largest), axis=0)
    for first in range(SIZE, WIDTH, SIZE):
        more = _logits_at(begin, first + column, vocabulary, WIDTH)
        before, largest = largest, tl.maximum(largest, tl.max(more, axis=0))
        total = total * tl.exp(before - largest) + tl.sum(tl.exp(more - largest), axis=0)
    log_z = largest + tl.log(total)
    tl.store(losses + row, tl.where(kept, log_z - chosen + z_loss * log_z * log_z, 0.0))
    factor = tl.where(kept, 1.0 + 2.0 * z_loss * log_z, 0.0)
    _store_gradient(begin, column, values, target, log_z, factor, WIDTH)
    for first in range(SIZE, WIDTH, SIZE):
        more = _logits_at(begin, first + column, vocabulary, WIDTH)
        _store_gradient(begin, first + column, more, target, log_z, factor, WIDTH)


@triton.jit
def _logits_at(begin, column, vocabulary, WIDTH: tl.constexpr):
    values = tl.load(begin + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    return tl.where(column < vocabulary, values, -float("inf"))


@triton.jit
def _store_gradient(begin, column, values, target, log_z, factor, WIDTH: tl.constexpr):
    found = tl.exp(values - log_z) * factor - tl.where(column == target, 1.0, 0.0)
    tl.store(begin + column, found.to(begin.dtype.element_ty), mask=column < WIDTH)
