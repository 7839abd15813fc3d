"""Causal attention inside each sequence of a flat batch.

Shape letters: N tokens of the batch, n those of one group, B sequences of the group, T the longest of them, H heads, K
key/value heads, E width of a head; G heads of all the group's sequences, g some of them, t queries of one block, s the
keys that they see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from firstwords.model.fusion import fused, fusing


@dataclass(frozen=True, slots=True)
class AttentionGroup:
    """Neighbouring sequences of a flat batch that attend in one call.

    tokens: how many of the batch's tokens are the group's. rows, width: B sequences, the longest has T tokens.
    scatter_n: where each of the group's n tokens stands in the padded B*T grid; None where nothing is padded.
    """

    tokens: int
    rows: int
    width: int
    scatter_n: Tensor | None


@dataclass(frozen=True, slots=True)
class Layout:
    """How a flat batch is made of sequences; each token sees those of its own sequence up to itself.

    Where sequences begin alike, a scorer may give the shared tokens once. Then attention, which must see whole
    sequences, works on more places than there are tokens: `expand` says which token stands in each of its places,
    `pick` in which place each token is found again. Both are None where every token stands in one place, its own.
    """

    positions_N: Tensor
    groups: tuple[AttentionGroup, ...]
    expand: Tensor | None = None
    pick: Tensor | None = None

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device | str = "cpu") -> Layout:
        """Layout of sequences with these lengths, in this order.

        Attention is cheapest where neighbours have similar lengths: sort sequences before joining them.
        """
        groups: list[AttentionGroup] = []
        for alike in of_like_length(lengths):
            group = lengths[alike]
            count, width = sum(group), max(group)
            scatter_n = None if count == len(group) * width else _scatter(group, width).to(device)
            groups.append(AttentionGroup(count, len(group), width, scatter_n))
        return cls(_positions(lengths).to(device), tuple(groups))


def of_like_length(lengths: Sequence[int]) -> Iterator[slice]:
    """Neighbours whose lengths are within a factor of two, which bounds what padding them to one width costs."""
    first = 0
    for end in range(1, len(lengths) + 1):
        group = lengths[first:end]
        if end == len(lengths) or max(*group, lengths[end]) > 2 * min(*group, lengths[end]):
            yield slice(first, end)
            first = end


def _positions(lengths: Sequence[int]) -> Tensor:
    lengths_B = torch.tensor(lengths, dtype=torch.int64)
    starts_B = lengths_B.cumsum(0) - lengths_B
    return torch.arange(int(lengths_B.sum())) - starts_B.repeat_interleave(lengths_B)


def _scatter(lengths: Sequence[int], width: int) -> Tensor:
    rows_n = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    return rows_n * width + _positions(lengths)


def attend(q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor, layout: Layout) -> Tensor:
    """Softmax of scaled products over each token's sequence up to itself; (N, H, E)."""
    counts = [group.tokens for group in layout.groups]
    parts = zip(q_NHE.split(counts), k_NKE.split(counts), v_NKE.split(counts), layout.groups, strict=True)
    out = [_attend_in_group(q_nHE, k_nKE, v_nKE, group) for q_nHE, k_nKE, v_nKE, group in parts]
    out_NHE = torch.cat(out) if len(out) > 1 else out[0]
    return out_NHE if layout.pick is None else out_NHE.index_select(0, layout.pick)


def _attend_in_group(q_nHE: Tensor, k_nKE: Tensor, v_nKE: Tensor, group: AttentionGroup) -> Tensor:
    """Padding stands to the right of the tokens, so the causal mask alone keeps it out of their sight."""
    share = q_nHE.shape[1] // k_nKE.shape[1]
    if group.width == 1:  # a token that sees itself alone
        return v_nKE.repeat_interleave(share, dim=1)

    def grid(x_nHE: Tensor) -> Tensor:
        if group.scatter_n is not None:
            padded = x_nHE.new_zeros(group.rows * group.width, *x_nHE.shape[1:])
            x_nHE = padded.index_copy(0, group.scatter_n, x_nHE)
        return x_nHE.unflatten(0, (group.rows, group.width)).transpose(1, 2)

    q_BHTE, k_BKTE, v_BKTE = grid(q_nHE), grid(k_nKE), grid(v_nKE)
    if q_BHTE.device.type == "cpu":
        kv_BHTE = (x_BKTE.repeat_interleave(share, dim=1) if share > 1 else x_BKTE for x_BKTE in (k_BKTE, v_BKTE))
        out_GTE = _CpuAttention.apply(*(x_BHTE.flatten(0, 1) for x_BHTE in (q_BHTE, *kv_BHTE)))
        out_BHTE = out_GTE.unflatten(0, q_BHTE.shape[:2])
    else:
        out_BHTE = F.scaled_dot_product_attention(q_BHTE, k_BKTE, v_BKTE, is_causal=True, enable_gqa=share > 1)
    out_nHE = out_BHTE.transpose(1, 2).flatten(0, 1)
    return out_nHE if group.scatter_n is None else out_nHE.index_select(0, group.scatter_n)


_QUERY_BLOCK = 128
"""Queries that attend in one product on the CPU; keys after the block are left out of it."""

_CHUNK_SCORES = 2**19
"""Scores that stand in float32 at once: 2 MiB, which the caches hold from one pass over them to the next."""
_FUSED_CHUNK_SCORES = 2**22
"""Fused, they are passed over once, and do not stand in float32."""


class _CpuAttention(torch.autograd.Function):
    """Blocks of queries against the keys before them: plain batched products, and a softmax in float32.

    PyTorch's fused attention was 2.6 to 5.8 times slower than plain products on a CPU for sequences of 14 to 128 tokens
    (docs/experiments.md). Of the scores only the softmax's weights are kept, in the products' type.
    """

    @staticmethod
    def forward(ctx: Any, q_GTE: Tensor, k_GTE: Tensor, v_GTE: Tensor) -> Tensor:
        out_GTE = torch.empty_like(q_GTE)
        weights: list[Tensor] = []
        keep = any(ctx.needs_input_grad)
        for some, block, keys in _blocks(*q_GTE.shape[:2]):
            scores_gts = q_GTE[some, block] @ k_GTE[some, keys].mT
            hidden_ts = torch.full(scores_gts.shape[1:], -torch.inf).triu_(1 + block.start)
            weights_gts = _softmax(scores_gts, hidden_ts, q_GTE.shape[2] ** -0.5)
            out_GTE[some, block] = weights_gts @ v_GTE[some, keys]
            if keep:
                weights.append(weights_gts)
        ctx.save_for_backward(q_GTE, k_GTE, v_GTE, out_GTE, *weights)
        return out_GTE

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q_GTE, k_GTE, v_GTE, out_GTE, *weights = ctx.saved_tensors
        grad_GTE = grad_outputs[0].contiguous()
        # With P the weights and O the output: dP = dO V', dS = P (dP - sum(dO O)), and so on (Dao et al. 2022, B.2).
        means_GT1 = (_wide(grad_GTE) * out_GTE).sum(dim=2, keepdim=True)
        grad_q_GTE = torch.empty_like(q_GTE)
        grad_k_GTE, grad_v_GTE = (torch.zeros_like(x_GTE, dtype=means_GT1.dtype) for x_GTE in (k_GTE, v_GTE))
        for (some, block, keys), weights_gts in zip(_blocks(*q_GTE.shape[:2]), weights, strict=True):
            grad_gtE = grad_GTE[some, block]
            grad_gts = grad_gtE @ v_GTE[some, keys].mT
            grad_gts = _softmax_gradient(grad_gts, means_GT1[some, block], weights_gts, q_GTE.shape[2] ** -0.5)
            grad_q_GTE[some, block] = grad_gts @ k_GTE[some, keys]
            grad_k_GTE[some, keys] += grad_gts.mT @ q_GTE[some, block]
            grad_v_GTE[some, keys] += weights_gts.mT @ grad_gtE
        return grad_q_GTE, grad_k_GTE.to(k_GTE.dtype), grad_v_GTE.to(v_GTE.dtype)


def _blocks(count: int, width: int) -> Iterator[tuple[slice, slice, slice]]:
    """Heads of sequences, their queries and the keys these see, that are worked on together: as the caches can hold."""
    scores = _FUSED_CHUNK_SCORES if fusing() else _CHUNK_SCORES
    for start in range(0, width, _QUERY_BLOCK):
        stop = min(start + _QUERY_BLOCK, width)
        size = max(1, scores // ((stop - start) * stop))
        for first in range(0, count, size):
            yield slice(first, first + size), slice(start, stop), slice(0, stop)


@fused
def _softmax(scores_gts: Tensor, hidden_ts: Tensor, scale: float) -> Tensor:
    """Weights of the keys, in the type of the scores. hidden_ts: 0, or -inf where a query must not see a key."""
    return (_wide(scores_gts) * scale + hidden_ts).softmax(dim=2).to(scores_gts.dtype)


@fused
def _softmax_gradient(grad_gts: Tensor, means_gt1: Tensor, weights_gts: Tensor, scale: float) -> Tensor:
    """Gradient of the unscaled scores from that of their weights, whose mean under the weights is given."""
    return ((_wide(grad_gts) - means_gt1) * weights_gts * scale).to(weights_gts.dtype)


def _wide(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
