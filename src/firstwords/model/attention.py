"""Causal attention inside each sequence of a flat batch.

Shape letters: N tokens of the batch, n those of one group, B rows of the group, T places in each of them, H heads, K
key/value heads, E width of a head; G heads of all the group's rows, g some of them, t queries of one block, s the keys
that they see.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from firstwords.model.flash import attend_by_flash, flash_is_there, suits_flash
from firstwords.model.fusion import fused, fusing, in_kernels
from firstwords.model.lines import LONGEST_LINE, attend_in_lines, attends_in_lines
from firstwords.model.matrices import attend_in_tiles, attends_in_tiles
from firstwords.model.products import products_as_usual


@dataclass(frozen=True, slots=True)
class AttentionGroup:
    """Neighbouring sequences of a flat batch that attend in one call, laid out on a grid of B rows.

    tokens: how many of the batch's tokens are the group's. rows, width: B rows of T places.
    scatter_n: where each of the group's n tokens stands in the padded B*T grid; None where nothing is padded.
    hidden_BTT: 0, or -inf where a query must not see a key, float32; None where every row holds one sequence, so that
    the causal mask is enough.
    """

    tokens: int
    rows: int
    width: int
    scatter_n: Tensor | None
    hidden_BTT: Tensor | None = None


@dataclass(frozen=True, slots=True)
class RaggedGroup:
    """Neighbouring sequences that attend in one call as they lie, one after the other.

    tokens: of the group. bounds_C: where each sequence begins, and at last the end, int32. longest: tokens of the
    longest sequence, or more.
    """

    tokens: int
    bounds_C: Tensor
    longest: int


@dataclass(frozen=True, slots=True)
class Layout:
    """How a flat batch is made of sequences; each token sees those of its own sequence up to itself.

    Where sequences begin alike, a scorer may give the shared tokens once. Then attention, which must see whole
    sequences, works on more places than there are tokens: `expand` says which token stands in each of its places,
    `pick` in which place each token is found again. Both are None where every token stands in one place, its own.
    """

    positions_N: Tensor
    groups: tuple[AttentionGroup | RaggedGroup, ...]
    expand: Tensor | None = None
    pick: Tensor | None = None

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device | str = "cpu") -> Layout:
        """Layout of sequences with these lengths, in this order.

        Attention is cheapest where neighbours have similar lengths: sort sequences before joining them.
        """
        positions_N = sent(_positions(lengths), device)
        if flash_is_there(device):
            return cls(positions_N, (_ragged(lengths, device),))
        if torch.device(device).type != "cpu":
            # Calls cost more than the products of a small grid, and a mask would rule out fused kernels.
            small = len(lengths) * max(lengths, default=0) <= _SMALL_GRID
            parts = [lengths] if small else [lengths[alike] for alike in of_like_length(lengths)]
            return cls(positions_N, tuple(_own_rows(part, device) for part in parts if part))
        groups: list[AttentionGroup | RaggedGroup] = []
        for short, run in itertools.groupby(lengths, lambda length: length <= LONGEST_LINE):
            some = list(run)
            if not short and lines_are_learnt() and attends_in_tiles(torch.bfloat16):
                groups.append(_ragged(some, device))
            elif short and len(some) > 1:
                groups.append(_ragged(some, device) if lines_are_learnt() else _shared_rows(some))
            else:
                groups += [_own_rows(some[alike], device) for alike in of_like_length(some)]
        return cls(positions_N, tuple(groups))


_SMALL_GRID = 2**15
"""Places, filled or not, that a GPU attends to in one call: rows of a few hundred lines."""


def lines_are_learnt() -> bool:
    """Whether short sequences on a CPU attend by loops of their own: in training, where a compiler is. A few sentences
    to score are not worth compiling them.
    """
    return torch.is_grad_enabled() and attends_in_lines(torch.float32)


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the CPU on a device. CUDA does not wait for what it has to do before."""
    if torch.device(device).type != "cuda" or not torch.cuda.is_available():
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _ragged(lengths: Sequence[int], device: torch.device | str) -> RaggedGroup:
    bounds_C = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
    return RaggedGroup(sum(lengths), sent(bounds_C, device), max(lengths))


def _own_rows(lengths: Sequence[int], device: torch.device | str) -> AttentionGroup:
    """Every sequence in a row of its own."""
    count, width = sum(lengths), max(lengths)
    scatter_n = None if count == len(lengths) * width else sent(_scatter(lengths, width), device)
    return AttentionGroup(count, len(lengths), width, scatter_n)


_SHARED_WIDTH = 2 * LONGEST_LINE
"""Places of a row that short sequences share, each half as long at most."""


def _shared_rows(lengths: Sequence[int]) -> AttentionGroup:
    """Rows of several sequences each, in their order, on the CPU."""
    fillings: list[int] = []  # places taken in each row
    rows = []
    for length in lengths:
        if not fillings or fillings[-1] + length > _SHARED_WIDTH:
            fillings.append(0)
        fillings[-1] += length
        rows.append(len(fillings) - 1)
    # Of one width, so that the CPU's kernels, made anew for each shape they meet, are found again.
    width = _SHARED_WIDTH if len(fillings) > 1 else max(fillings)
    scatter_n = _scatter(fillings, width)
    # Places that are filled up belong to no sequence; they see each other, so that no softmax is over nothing.
    sequence_BT = torch.full((len(fillings) * width,), -1)
    sequence_BT[scatter_n] = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    sequence_BT = sequence_BT.view(-1, width)
    hidden_BTT = torch.full((len(fillings), width, width), -torch.inf).triu_(1)
    hidden_BTT.masked_fill_(sequence_BT[:, :, None] != sequence_BT[:, None, :], -torch.inf)
    return AttentionGroup(sum(lengths), len(fillings), width, scatter_n, hidden_BTT)


def of_like_length(lengths: Sequence[int]) -> Iterator[slice]:
    """Neighbours whose lengths are within a factor of two, which bounds what padding them to one width costs."""
    first = 0
    for end in range(1, len(lengths) + 1):
        group = lengths[first:end]
        if end == len(lengths) or max(*group, lengths[end]) > 2 * min(*group, lengths[end]):
            yield slice(first, end)
            first = end


def _positions(lengths: Sequence[int]) -> Tensor:
    lengths_B, count = torch.tensor(lengths, dtype=torch.int64), sum(lengths)
    starts_B = lengths_B.cumsum(0) - lengths_B
    return torch.arange(count) - starts_B.repeat_interleave(lengths_B, output_size=count)


def _scatter(lengths: Sequence[int], width: int) -> Tensor:
    rows_n = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths), output_size=sum(lengths))
    return rows_n * width + _positions(lengths)


_LONGEST_BY_KERNEL, _WIDEST_BY_KERNEL = 512, 64
"""Tokens of a sequence and numbers of a head for which the kernel of tiles is faster than flash attention: on an H200
four times for lines, 1.6 times at 128 tokens, as fast at 512 (docs/experiments.md)."""


def attend(q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor, layout: Layout) -> Tensor:
    """Softmax of scaled products over each token's sequence up to itself; (N, H, E)."""
    if len(layout.groups) == 1 and layout.pick is None:  # not even cut, which would copy all gradients
        group = layout.groups[0]
        if in_kernels() and _suits_kernel(q_NHE, group):
            from firstwords.model.attention_kernels import attend_by_tiles

            return attend_by_tiles(q_NHE, k_NKE, v_NKE, layout.positions_N)
        return _attend_in_group(q_NHE, k_NKE, v_NKE, group)
    counts = [group.tokens for group in layout.groups]
    parts = zip(q_NHE.split(counts), k_NKE.split(counts), v_NKE.split(counts), layout.groups, strict=True)
    out = [_attend_in_group(q_nHE, k_nKE, v_nKE, group) for q_nHE, k_nKE, v_nKE, group in parts]
    out_NHE = torch.cat(out) if len(out) > 1 else out[0]
    return out_NHE if layout.pick is None else out_NHE.index_select(0, layout.pick)


def _suits_kernel(q_nHE: Tensor, group: AttentionGroup | RaggedGroup) -> bool:
    small = isinstance(group, RaggedGroup) and group.longest <= _LONGEST_BY_KERNEL
    return small and q_nHE.dtype != torch.float32 and q_nHE.shape[2] <= _WIDEST_BY_KERNEL


def _attend_in_group(q_nHE: Tensor, k_nKE: Tensor, v_nKE: Tensor, group: AttentionGroup | RaggedGroup) -> Tensor:
    if isinstance(group, AttentionGroup):
        return _attend_on_grid(q_nHE, k_nKE, v_nKE, group)
    if q_nHE.device.type == "cpu":
        if group.longest > LONGEST_LINE and attends_in_tiles(q_nHE.dtype):
            return attend_in_tiles(q_nHE, k_nKE, v_nKE, group.bounds_C)
        if group.longest <= LONGEST_LINE and attends_in_lines(q_nHE.dtype):
            return attend_in_lines(q_nHE, k_nKE, v_nKE, group.bounds_C, group.longest)
        return _attend_on_grid(q_nHE, k_nKE, v_nKE, _grid_of(group))
    if suits_flash(q_nHE):
        return attend_by_flash(q_nHE, k_nKE, v_nKE, group.bounds_C, group.longest)
    return _attend_on_grid(q_nHE, k_nKE, v_nKE, _grid_of(group))


def _attend_on_grid(q_nHE: Tensor, k_nKE: Tensor, v_nKE: Tensor, group: AttentionGroup) -> Tensor:
    """Padding stands to the right of the tokens, so the causal mask alone keeps it out of their sight."""
    share = q_nHE.shape[1] // k_nKE.shape[1]
    if group.width == 1:  # tokens that see themselves alone
        return v_nKE.repeat_interleave(share, dim=1)

    def grid(x_nHE: Tensor) -> Tensor:
        if group.scatter_n is not None:
            padded = x_nHE.new_zeros(group.rows * group.width, *x_nHE.shape[1:])
            x_nHE = padded.index_copy(0, group.scatter_n, x_nHE)
        return x_nHE.unflatten(0, (group.rows, group.width)).transpose(1, 2)

    q_BHTE, k_BKTE, v_BKTE = grid(q_nHE), grid(k_nKE), grid(v_nKE)
    if q_BHTE.device.type == "cpu" and torch.is_grad_enabled():
        kv_BHTE = (x_BKTE.repeat_interleave(share, dim=1) if share > 1 else x_BKTE for x_BKTE in (k_BKTE, v_BKTE))
        out_GTE = _CpuAttention.apply(*(x_BHTE.flatten(0, 1) for x_BHTE in (q_BHTE, *kv_BHTE)), group.hidden_BTT)
        out_BHTE = out_GTE.unflatten(0, q_BHTE.shape[:2])
    else:
        mask_B1TT = None if group.hidden_BTT is None else group.hidden_BTT[:, None].to(q_BHTE.dtype)
        with products_as_usual():
            out_BHTE = F.scaled_dot_product_attention(
                *(q_BHTE, k_BKTE, v_BKTE), attn_mask=mask_B1TT, is_causal=mask_B1TT is None, enable_gqa=share > 1
            )
    out_nHE = out_BHTE.transpose(1, 2).flatten(0, 1)
    return out_nHE if group.scatter_n is None else out_nHE.index_select(0, group.scatter_n)


def _grid_of(group: RaggedGroup) -> AttentionGroup:
    """Each of the sequences in a row of its own."""
    starts_B, lengths_B = group.bounds_C[:-1].long(), group.bounds_C.diff()
    first_place_B = torch.arange(len(starts_B), device=starts_B.device) * group.longest - starts_B
    token_n = torch.arange(group.tokens, device=starts_B.device)
    scatter_n = token_n + first_place_B.repeat_interleave(lengths_B, output_size=group.tokens)
    return AttentionGroup(group.tokens, len(starts_B), group.longest, scatter_n)


QUERY_BLOCK = 128
"""Queries that attend in one product on the CPU; keys after the block are left out of it."""

_CHUNK_SCORES = 2**19
"""Scores that stand in float32 at once: 2 MiB, which the caches hold from one pass over them to the next."""
_FUSED_CHUNK_SCORES = 2**22
"""Fused, they are passed over once, and do not stand in float32."""


class _CpuAttention(torch.autograd.Function):
    """Blocks of queries against the keys before them: plain batched products, and a softmax in float32.

    For training alone: forward and backward of PyTorch's fused attention took 2.6 to 5.8 times as long on a CPU for
    sequences of 14 to 128 tokens, though its forward pass is the faster (docs/experiments.md). Of the scores only the
    softmax's weights are kept, in the products' type.
    """

    @staticmethod
    def forward(ctx: Any, q_GTE: Tensor, k_GTE: Tensor, v_GTE: Tensor, hidden_BTT: Tensor | None) -> Tensor:
        out_GTE = torch.empty_like(q_GTE)
        weights: list[Tensor] = []
        for some, block, keys in _blocks(*q_GTE.shape[:2]):
            scores_gts = q_GTE[some, block] @ k_GTE[some, keys].mT
            hidden_gts = _hidden(hidden_BTT, len(q_GTE), some, block, keys)
            weights_gts = _softmax(scores_gts, hidden_gts, q_GTE.shape[2] ** -0.5)
            out_GTE[some, block] = weights_gts @ v_GTE[some, keys]
            weights.append(weights_gts)
        ctx.save_for_backward(q_GTE, k_GTE, v_GTE, out_GTE, *weights)
        return out_GTE

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q_GTE, k_GTE, v_GTE, out_GTE, *weights = ctx.saved_tensors
        grad_GTE = grad_outputs[0].contiguous()
        # With P the weights and O the output: dP = dO V', dS = P (dP - sum(dO O)), and so on (Dao et al. 2022, B.2).
        means_GT1 = (_wide(grad_GTE) * out_GTE).sum(dim=2, keepdim=True)
        # Where one block holds all queries, nothing is added up, and nothing need stand in float32.
        dtype = q_GTE.dtype if q_GTE.shape[1] <= QUERY_BLOCK else means_GT1.dtype
        grad_q_GTE = torch.empty_like(q_GTE)
        grad_k_GTE, grad_v_GTE = (torch.empty_like(x_GTE, dtype=dtype) for x_GTE in (k_GTE, v_GTE))
        # The last blocks come first: they see all keys, and write what the others add to.
        for (some, block, keys), weights_gts in reversed(list(zip(_blocks(*q_GTE.shape[:2]), weights, strict=True))):
            grad_gtE = grad_GTE[some, block]
            grad_gts = grad_gtE @ v_GTE[some, keys].mT
            grad_gts = _softmax_gradient(grad_gts, means_GT1[some, block], weights_gts, q_GTE.shape[2] ** -0.5)
            grad_q_GTE[some, block] = grad_gts @ k_GTE[some, keys]
            grad_k_gsE, grad_v_gsE = grad_gts.mT @ q_GTE[some, block], weights_gts.mT @ grad_gtE
            if keys.stop == q_GTE.shape[1]:
                grad_k_GTE[some], grad_v_GTE[some] = grad_k_gsE, grad_v_gsE
            else:
                grad_k_GTE[some, keys] += grad_k_gsE
                grad_v_GTE[some, keys] += grad_v_gsE
        return grad_q_GTE, grad_k_GTE.to(k_GTE.dtype), grad_v_GTE.to(v_GTE.dtype), None


def _blocks(count: int, width: int) -> Iterator[tuple[slice, slice, slice]]:
    """Heads of sequences, their queries and the keys these see, that are worked on together: as the caches can hold."""
    scores = _FUSED_CHUNK_SCORES if fusing() else _CHUNK_SCORES
    for start in range(0, width, QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, width)
        size = max(1, scores // ((stop - start) * stop))
        for first in range(0, count, size):
            yield slice(first, first + size), slice(start, stop), slice(0, stop)


def _hidden(hidden_BTT: Tensor | None, count: int, some: slice, block: slice, keys: slice) -> Tensor:
    """0, or -inf where a query must not see a key: (t, s), or (g, t, s) where rows differ."""
    if hidden_BTT is None:
        return torch.full((block.stop - block.start, keys.stop), -torch.inf).triu_(1 + block.start)
    heads = count // len(hidden_BTT)
    row_g = torch.arange(count)[some] // heads
    return hidden_BTT[row_g, block, keys]


@fused
def _softmax(scores_gts: Tensor, hidden_gts: Tensor, scale: float) -> Tensor:
    """Weights of the keys, in the type of the scores. hidden_gts: as `_hidden` makes it."""
    return (_wide(scores_gts) * scale + hidden_gts).softmax(dim=2).to(scores_gts.dtype)


@fused
def _softmax_gradient(grad_gts: Tensor, means_gt1: Tensor, weights_gts: Tensor, scale: float) -> Tensor:
    """Gradient of the unscaled scores from that of their weights, whose mean under the weights is given."""
    return ((_wide(grad_gts) - means_gt1) * weights_gts * scale).to(weights_gts.dtype)


def _wide(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
