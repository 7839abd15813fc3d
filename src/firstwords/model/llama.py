"""The LLaMA that trains: pre-norm blocks of rotary attention and SwiGLU, over flat batches.

A batch is flat: the tokens of all its sequences stand one after the other, and a `Layout` says where each
sequence begins. Nothing is padded but inside attention, where sequences of similar length are laid side by side.

Shape letters: N tokens of the batch, D hidden width, B sequences of one attention group, T the longest of them,
H heads, K key/value heads, E width of a head, F width of the feed-forward layer, V vocabulary.
Source of the architecture: Touvron et al. 2023, as implemented by transformers' LlamaForCausalLM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from firstwords.settings import ModelSettings


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
    sequences, works on more rows than there are tokens: `expand` says which token stands in each of its rows, `pick` in
    which row each token is found again. Both are None where every token stands in one row, its own.
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
        first = 0
        for end in range(1, len(lengths) + 1):
            group = lengths[first:end]
            # Padding is bounded by keeping lengths of a group within a factor of two.
            if end < len(lengths) and max(*group, lengths[end]) <= 2 * min(*group, lengths[end]):
                continue
            count, width = sum(group), max(group)
            scatter_n = None if count == len(group) * width else _scatter(group, width).to(device)
            groups.append(AttentionGroup(count, len(group), width, scatter_n))
            first = end
        return cls(_positions(lengths).to(device), tuple(groups))


def _positions(lengths: Sequence[int]) -> Tensor:
    lengths_B = torch.tensor(lengths, dtype=torch.int64)
    starts_B = lengths_B.cumsum(0) - lengths_B
    return torch.arange(int(lengths_B.sum())) - starts_B.repeat_interleave(lengths_B)


def _scatter(lengths: Sequence[int], width: int) -> Tensor:
    rows_n = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    return rows_n * width + _positions(lengths)


def _causal_attention(q_nHE: Tensor, k_nKE: Tensor, v_nKE: Tensor, group: AttentionGroup) -> Tensor:
    """Attention inside each sequence of one group; shape (n, H, E) as q.

    Padding stands to the right of the tokens, so the causal mask alone keeps it out of their sight.
    """

    def grid(x_nHE: Tensor) -> Tensor:
        if group.scatter_n is not None:
            padded = x_nHE.new_zeros(group.rows * group.width, *x_nHE.shape[1:])
            x_nHE = padded.index_copy(0, group.scatter_n, x_nHE)
        return x_nHE.unflatten(0, (group.rows, group.width)).transpose(1, 2)

    q_BHTE, k_BKTE, v_BKTE = grid(q_nHE), grid(k_nKE), grid(v_nKE)
    if q_BHTE.device.type == "cpu":
        out_BHTE = _blocked_attention(q_BHTE, k_BKTE, v_BKTE)
    else:
        gqa = q_BHTE.shape[1] != k_BKTE.shape[1]
        out_BHTE = F.scaled_dot_product_attention(q_BHTE, k_BKTE, v_BKTE, is_causal=True, enable_gqa=gqa)
    out_nHE = out_BHTE.transpose(1, 2).flatten(0, 1)
    return out_nHE if group.scatter_n is None else out_nHE.index_select(0, group.scatter_n)


_QUERY_BLOCK = 128
"""Queries that attend in one product on the CPU; keys after the block are left out of it."""


def _blocked_attention(q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor) -> Tensor:
    """Causal attention as plain batched products with a float32 softmax; shape (B, H, T, E).

    PyTorch's fused attention was 2.6 to 5.8 times slower than this on a CPU for sequences of 14 to 128 tokens, forward
    and backward (docs/experiments.md).
    """
    if k_BKTE.shape[1] != q_BHTE.shape[1]:
        share = q_BHTE.shape[1] // k_BKTE.shape[1]
        k_BKTE, v_BKTE = k_BKTE.repeat_interleave(share, dim=1), v_BKTE.repeat_interleave(share, dim=1)
    width, scale = q_BHTE.shape[2], q_BHTE.shape[3] ** -0.5
    hidden_TT = torch.full((width, width), -torch.inf, device=q_BHTE.device).triu_(1)
    out: list[Tensor] = []
    for start in range(0, width, _QUERY_BLOCK):
        end = min(start + _QUERY_BLOCK, width)
        scores_BHtT = (q_BHTE[:, :, start:end] @ k_BKTE[:, :, :end].transpose(2, 3)).float() * scale
        weights_BHtT = (scores_BHtT + hidden_TT[start:end, :end]).softmax(dim=3).to(v_BKTE.dtype)
        out.append(weights_BHtT @ v_BKTE[:, :, :end])
    return torch.cat(out, dim=2) if len(out) > 1 else out[0]


class RMSNorm(nn.Module):
    """x / rms(x) * weight, in float32 (Zhang & Sennrich 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x_ND: Tensor) -> Tensor:
        """(N, D) -> (N, D)."""
        return F.rms_norm(x_ND, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    """Causal self-attention with rotary positions; queries, keys and values come of one product."""

    def __init__(self, shape: ModelSettings) -> None:
        super().__init__()
        self.heads, self.kv_heads = shape.heads, shape.kv_heads or shape.heads
        self.head_size = shape.hidden // shape.heads
        self.qkv = nn.Linear(shape.hidden, (self.heads + 2 * self.kv_heads) * self.head_size, bias=False)
        self.out = nn.Linear(shape.hidden, shape.hidden, bias=False)

    def forward(self, x_ND: Tensor, rotation: tuple[Tensor, Tensor], layout: Layout) -> Tensor:
        """(N, D) -> (N, D)."""
        qkv_NHE = self.qkv(x_ND).unflatten(1, (-1, self.head_size))
        if layout.expand is not None:
            qkv_NHE = qkv_NHE.index_select(0, layout.expand)
        qk_NHE, v_NKE = qkv_NHE.split((self.heads + self.kv_heads, self.kv_heads), dim=1)
        q_NHE, k_NKE = _rotate(qk_NHE, rotation).split((self.heads, self.kv_heads), dim=1)
        counts = [group.tokens for group in layout.groups]
        parts = zip(q_NHE.split(counts), k_NKE.split(counts), v_NKE.split(counts), layout.groups, strict=True)
        out = [_causal_attention(q_nHE, k_nKE, v_nKE, group) for q_nHE, k_nKE, v_nKE, group in parts]
        out_NHE = torch.cat(out) if len(out) > 1 else out[0]
        if layout.pick is not None:
            out_NHE = out_NHE.index_select(0, layout.pick)
        return self.out(out_NHE.flatten(1))


def _rotate(x_NHE: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (x[i], x[i + E/2]) by its position's angle (Su et al. 2021, halves as transformers pairs them)."""
    cos_N1E, sin_N1E = rotation
    first, second = x_NHE.chunk(2, dim=-1)
    return x_NHE * cos_N1E + torch.cat((-second, first), dim=-1) * sin_N1E


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)) (Shazeer 2020); gate and up come of one product."""

    def __init__(self, shape: ModelSettings) -> None:
        super().__init__()
        self.gate_up = nn.Linear(shape.hidden, 2 * shape.intermediate, bias=False)
        self.down = nn.Linear(shape.intermediate, shape.hidden, bias=False)

    def forward(self, x_ND: Tensor) -> Tensor:
        """(N, D) -> (N, D)."""
        gate_NF, up_NF = self.gate_up(x_ND).chunk(2, dim=1)
        return self.down(F.silu(gate_NF) * up_NF)


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, shape: ModelSettings) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(shape.hidden, shape.rms_norm_eps)
        self.attention = Attention(shape)
        self.feed_forward_norm = RMSNorm(shape.hidden, shape.rms_norm_eps)
        self.feed_forward = FeedForward(shape)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x_ND: Tensor, rotation: tuple[Tensor, Tensor], layout: Layout) -> Tensor:
        """(N, D) -> (N, D)."""
        x_ND = x_ND + self.dropout(self.attention(self.attention_norm(x_ND), rotation, layout))
        return x_ND + self.dropout(self.feed_forward(self.feed_forward_norm(x_ND)))


class Llama(nn.Module):
    """A causal language model. Weights are float32; products follow the autocast type of the caller."""

    def __init__(self, shape: ModelSettings, vocabulary: int, seed: int = 0) -> None:
        """Fresh weights: matrices from N(0, init_std), norms 1; the same for the same seed."""
        super().__init__()
        self.shape, self.vocabulary = shape, vocabulary
        self.gradient_checkpointing = False
        self.embedding = nn.Embedding(vocabulary, shape.hidden)
        self.blocks: Sequence[Block] = nn.ModuleList(Block(shape) for _ in range(shape.layers))  # type: ignore[assignment]
        self.norm = RMSNorm(shape.hidden, shape.rms_norm_eps)
        self.unembedding = nn.Linear(shape.hidden, vocabulary, bias=False)
        if shape.tied_embeddings:
            self.unembedding.weight = self.embedding.weight
        self.dropout = nn.Dropout(shape.dropout)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in self.parameters():
                if weight.dim() == 2:
                    weight.normal_(0.0, shape.init_std, generator=generator)

    def hidden(self, ids_N: Tensor, layout: Layout) -> Tensor:
        """Normed states after the last block, (N, D), of a flat batch of token ids (N,)."""
        rotation = self._rotation(layout.positions_N)
        x_ND = self.dropout(self.embedding(ids_N))
        for block in self.blocks:
            if self.gradient_checkpointing and self.training:
                x_ND = checkpoint(block, x_ND, rotation, layout, use_reentrant=False)
            else:
                x_ND = block(x_ND, rotation, layout)
        return self.norm(x_ND)

    def forward(self, ids_N: Tensor, layout: Layout) -> Tensor:
        """Logits (N, V). For losses and scores use `model.loss`, which never holds them all."""
        return self.unembedding(self.hidden(ids_N, layout))

    def _rotation(self, positions_N: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of every token's angles, (N, 1, E), in the type of the products."""
        size = self.shape.hidden // self.shape.heads
        device = positions_N.device
        # In float32 on the CPU's formula everywhere, so that every device and transformers agree.
        frequencies_e = self.shape.rope_theta ** -(torch.arange(0, size, 2, device=device).float() / size)
        angles_NE = torch.outer(positions_N.float(), frequencies_e).repeat(1, 2)
        dtype = compute_dtype(self.embedding.weight)
        return angles_NE.cos().to(dtype)[:, None], angles_NE.sin().to(dtype)[:, None]


def compute_dtype(weight: Tensor) -> torch.dtype:
    """The type in which products with `weight` are made: autocast's where it is on, else the weight's own."""
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
