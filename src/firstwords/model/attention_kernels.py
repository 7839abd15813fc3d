"""Attention within short sequences on CUDA, in kernels of Triton: tokens of many lines share a tile.

Flash attention gives every sequence tiles of its own, of 128 by 128 places: a line of 18 tokens fills a fiftieth of
one. Here a tile holds the next tokens of the flat batch, whatever lines they are of, and sees the keys from where the
first of these lines begins. Nothing is added up by several programs, so that results are the same every time.

Shape letters as in `model.attention`: N tokens, H heads, K key/value heads, E width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 64
"""Queries, and keys, of a tile."""


def attend_by_tiles(q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor, positions_N: Tensor) -> Tensor:
    """Causal attention of each token to its own sequence, (N, H, E); positions_N: of the tokens within theirs."""
    return _AttendByTiles.apply(q_NHE, k_NKE, v_NKE, positions_N)


class _AttendByTiles(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor, positions_N: Tensor) -> Tensor:
        rows, heads, width = q_NHE.shape
        out_NHE, log_sums_HN = q_NHE.new_empty(q_NHE.shape), q_NHE.new_empty(heads, rows, dtype=torch.float32)
        _attend[triton.cdiv(rows, _TILE), heads](
            *(q_NHE, k_NKE, v_NKE, out_NHE, log_sums_HN, positions_N, rows, q_NHE.stride(0), k_NKE.stride(0)),
            *(v_NKE.stride(0), width, width**-0.5),
            **_constants(q_NHE, k_NKE),
        )
        ctx.save_for_backward(q_NHE, k_NKE, v_NKE, out_NHE, log_sums_HN, positions_N)
        return out_NHE

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q_NHE, k_NKE, v_NKE, out_NHE, log_sums_HN, positions_N = ctx.saved_tensors
        rows, heads, width = q_NHE.shape
        grad_out_NHE = grad_outputs[0].contiguous()
        grad_q_NHE, grad_k_NKE, grad_v_NKE = (x.new_empty(x.shape) for x in (q_NHE, k_NKE, v_NKE))
        given = (q_NHE, k_NKE, v_NKE, out_NHE, grad_out_NHE, log_sums_HN, positions_N)
        sizes = (rows, q_NHE.stride(0), k_NKE.stride(0), v_NKE.stride(0), width, width**-0.5)
        tiles, constants = triton.cdiv(rows, _TILE), _constants(q_NHE, k_NKE)
        _gradient_of_queries[tiles, heads](*given, grad_q_NHE, *sizes, **constants)
        _gradients_of_keys[tiles, k_NKE.shape[1]](*given, grad_k_NKE, grad_v_NKE, *sizes, **constants)
        return grad_q_NHE, grad_k_NKE, grad_v_NKE, None


def _constants(q_NHE: Tensor, k_NKE: Tensor) -> dict[str, int]:
    share, width = q_NHE.shape[1] // k_NKE.shape[1], q_NHE.shape[2]
    return {"SHARE": share, "TILE": _TILE, "COLUMNS": max(16, triton.next_power_of_2(width))}


# ---- the kernels. A tile's rows that stand behind the last token are zeros, see themselves alone, and are not stored.


@triton.jit
def _load(x, place, column, rows, stride, head, width):
    """The rows `place` of one head, (TILE, COLUMNS)."""
    inside = (place[:, None] < rows) & (column[None, :] < width)
    return tl.load(x + place[:, None].to(tl.int64) * stride + head * width + column[None, :], mask=inside, other=0.0)


@triton.jit
def _store(x, values, place, column, rows, stride, head, width):
    inside = (place[:, None] < rows) & (column[None, :] < width)
    places = x + place[:, None].to(tl.int64) * stride + head * width + column[None, :]
    tl.store(places, values.to(x.dtype.element_ty), mask=inside)


@triton.jit
def _load_queries(q, out, grad_out, log_sums, positions, query, column, rows, q_stride, out_stride, head, width):
    """What gradients need of some queries: where their lines begin, the queries, the gradient of what they found, its
    mean under their weights, and the logarithm of the sum that the weights were divided by.
    """
    begin = query - tl.load(positions + query, mask=query < rows, other=0).to(tl.int32)
    queries = _load(q, query, column, rows, q_stride, head, width)
    grads = _load(grad_out, query, column, rows, out_stride, head, width)
    outs = _load(out, query, column, rows, out_stride, head, width)
    mean = tl.sum(grads.to(tl.float32) * outs.to(tl.float32), axis=1)
    log_sum = tl.load(log_sums + head * rows + query, mask=query < rows, other=0.0)
    return begin, queries, grads, mean, log_sum


@triton.jit
def _attend(
    q, k, v, out, log_sums, positions, rows, q_stride, k_stride, v_stride, width, scale,
    SHARE: tl.constexpr, TILE: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    head, column = tl.program_id(1), tl.arange(0, COLUMNS)
    query = tl.program_id(0) * TILE + tl.arange(0, TILE)
    begin = query - tl.load(positions + query, mask=query < rows, other=0).to(tl.int32)
    queries = _load(q, query, column, rows, q_stride, head, width)
    largest = tl.full((TILE,), -float("inf"), tl.float32)
    total = tl.zeros((TILE,), tl.float32)
    found = tl.zeros((TILE, COLUMNS), tl.float32)
    first = tl.min(begin, axis=0)
    while first < tl.minimum((tl.program_id(0) + 1) * TILE, rows):
        key = first + tl.arange(0, TILE)
        keys = _load(k, key, column, rows, k_stride, head // SHARE, width)
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * scale
        seen = (key[None, :] <= query[:, None]) & (key[None, :] >= begin[:, None])
        scores = tl.where(seen, scores, -float("inf"))
        now = tl.maximum(largest, tl.max(scores, axis=1))
        # Queries of later lines may not have seen a key yet.
        base = tl.where(now == -float("inf"), 0.0, now)
        weights = tl.exp(scores - base[:, None])
        before = tl.exp(largest - base)
        total = total * before + tl.sum(weights, axis=1)
        values = _load(v, key, column, rows, v_stride, head // SHARE, width)
        found = found * before[:, None] + tl.dot(weights.to(values.dtype), values, input_precision="ieee")
        largest = now
        first += TILE
    total = tl.where(query < rows, total, 1.0)
    _store(out, found / total[:, None], query, column, rows, tl.num_programs(1) * width, head, width)
    tl.store(log_sums + head * rows + query, largest + tl.log(total), mask=query < rows)


@triton.jit
def _gradient_of_queries(
    q, k, v, out, grad_out, log_sums, positions, grad_q, rows, q_stride, k_stride, v_stride, width, scale,
    SHARE: tl.constexpr, TILE: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    head, column = tl.program_id(1), tl.arange(0, COLUMNS)
    out_stride = tl.num_programs(1) * width
    query = tl.program_id(0) * TILE + tl.arange(0, TILE)
    begin, queries, grads, mean, log_sum = _load_queries(
        q, out, grad_out, log_sums, positions, query, column, rows, q_stride, out_stride, head, width
    )
    found = tl.zeros((TILE, COLUMNS), tl.float32)
    first = tl.min(begin, axis=0)
    while first < tl.minimum((tl.program_id(0) + 1) * TILE, rows):
        key = first + tl.arange(0, TILE)
        keys = _load(k, key, column, rows, k_stride, head // SHARE, width)
        values = _load(v, key, column, rows, v_stride, head // SHARE, width)
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * scale
        seen = (key[None, :] <= query[:, None]) & (key[None, :] >= begin[:, None])
        weights = tl.where(seen, tl.exp(scores - log_sum[:, None]), 0.0)
        grad_weights = tl.dot(grads, tl.trans(values), input_precision="ieee")
        grad_scores = weights * (grad_weights - mean[:, None]) * scale
        found += tl.dot(grad_scores.to(keys.dtype), keys, input_precision="ieee")
        first += TILE
    _store(grad_q, found, query, column, rows, out_stride, head, width)


@triton.jit
def _gradients_of_keys(
    q, k, v, out, grad_out, log_sums, positions, grad_k, grad_v, rows, q_stride, k_stride, v_stride, width, scale,
    SHARE: tl.constexpr, TILE: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    kv_head, column = tl.program_id(1), tl.arange(0, COLUMNS)
    out_stride = tl.num_programs(1) * SHARE * width
    key = tl.program_id(0) * TILE + tl.arange(0, TILE)
    keys = _load(k, key, column, rows, k_stride, kv_head, width)
    values = _load(v, key, column, rows, v_stride, kv_head, width)
    found_k, found_v = tl.zeros((TILE, COLUMNS), tl.float32), tl.zeros((TILE, COLUMNS), tl.float32)
    last = tl.minimum((tl.program_id(0) + 1) * TILE, rows) - 1
    for one in range(SHARE):
        head = kv_head * SHARE + one
        first = tl.program_id(0) * TILE
        begin_of_first = first
        # Lines follow one another: behind the first query whose line begins after these keys, none sees them.
        while begin_of_first <= last:
            query = first + tl.arange(0, TILE)
            begin, queries, grads, mean, log_sum = _load_queries(
                q, out, grad_out, log_sums, positions, query, column, rows, q_stride, out_stride, head, width
            )
            scores = tl.dot(keys, tl.trans(queries), input_precision="ieee") * scale
            seen = (key[:, None] <= query[None, :]) & (key[:, None] >= begin[None, :])
            weights = tl.where(seen, tl.exp(scores - log_sum[None, :]), 0.0)
            found_v += tl.dot(weights.to(grads.dtype), grads, input_precision="ieee")
            grad_weights = tl.dot(values, tl.trans(grads), input_precision="ieee")
            grad_scores = weights * (grad_weights - mean[None, :]) * scale
            found_k += tl.dot(grad_scores.to(queries.dtype), queries, input_precision="ieee")
            first += TILE
            begin_of_first = tl.where(
                first < rows, first - tl.load(positions + first, mask=first < rows, other=0), rows
            )
            begin_of_first = begin_of_first.to(tl.int32)
    kv_stride = tl.num_programs(1) * width
    _store(grad_k, found_k, key, column, rows, kv_stride, kv_head, width)
    _store(grad_v, found_v, key, column, rows, kv_stride, kv_head, width)
