"""The LLaMA that trains: pre-norm blocks of rotary attention and SwiGLU, over flat batches.

A batch is flat: the tokens of all its sequences stand one after the other, and a `Layout` says where each
sequence begins. Nothing is padded but inside attention, where sequences of similar length are laid side by side.

Shape letters: N tokens of the batch, D hidden width, H heads, K key/value heads, E width of a head, F width of the
feed-forward layer, V vocabulary.
Source of the architecture: Touvron et al. 2023, as implemented by transformers' LlamaForCausalLM.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from firstwords.model.attention import Layout, attend
from firstwords.model.fusion import fused, in_kernels
from firstwords.model.matrices import multiplied_in_tiles, product
from firstwords.settings import ModelSettings

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines of every token's angles, (N, 1, E) each."""


class Linear(nn.Linear):
    """x @ weight.T, by the processor's matrix unit where it has one (`model.matrices`)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x_NI: Tensor) -> Tensor:
        """(N, I) -> (N, O)."""
        return product(x_NI, self.weight) if multiplied_in_tiles(x_NI, self.weight) else super().forward(x_NI)


class RMSNorm(nn.Module):
    """x / rms(x) * weight, in float32 (Zhang & Sennrich 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x_ND: Tensor) -> Tensor:
        """(N, D) -> (N, D)."""
        return F.rms_norm(x_ND, self.weight.shape, self.weight, self.eps)

    def after_adding(self, x_ND: Tensor, added_ND: Tensor | None) -> tuple[Tensor, Tensor]:
        """x + added and, in the products' type, its norm; by a kernel of CUDA."""
        from firstwords.model.kernels import add_and_norm

        return add_and_norm(x_ND, added_ND, self.weight, self.eps, compute_dtype(self.weight))


class Attention(nn.Module):
    """The products around causal attention: queries, keys and values come of one, with rotary positions."""

    def __init__(self, shape: ModelSettings) -> None:
        super().__init__()
        self.heads, self.kv_heads = shape.heads, shape.kv_heads or shape.heads
        self.head_size = shape.hidden // shape.heads
        self.qkv = Linear(shape.hidden, (self.heads + 2 * self.kv_heads) * self.head_size)
        self.out = Linear(shape.hidden, shape.hidden)

    def project(self, x_ND: Tensor, rotation: Rotation, expand: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (N, H, E), keys and values (N, K, E); with `expand`, those of each of its places."""
        qkv_NHE = self.qkv(x_ND).unflatten(1, (-1, self.head_size))
        qk_NHE, v_NKE = qkv_NHE.split((self.heads + self.kv_heads, self.kv_heads), dim=1)
        qk_NHE = _rotate(qk_NHE, rotation)
        if expand is not None:
            qk_NHE, v_NKE = qk_NHE.index_select(0, expand), v_NKE.index_select(0, expand)
        q_NHE, k_NKE = qk_NHE.split((self.heads, self.kv_heads), dim=1)
        return q_NHE, k_NKE, v_NKE


def _rotate(x_NHE: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair (x[i], x[i + E/2]) by its position's angle (Su et al. 2021, halves as transformers pairs them)."""
    cos_N1E, sin_N1E = rotation
    first, second = x_NHE.chunk(2, dim=-1)
    return x_NHE * cos_N1E + torch.cat((-second, first), dim=-1) * sin_N1E


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)) (Shazeer 2020); gate and up come of one product."""

    def __init__(self, shape: ModelSettings) -> None:
        super().__init__()
        self.gate_up = Linear(shape.hidden, 2 * shape.intermediate)
        self.down = Linear(shape.intermediate, shape.hidden)

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

    def forward(
        self, x_ND: Tensor, added_ND: Tensor | None, rotation: Rotation, layout: Layout
    ) -> tuple[Tensor, Tensor | None]:
        """The residual stream and what is still to be added to it, (N, D) both, before the block and after it.

        Kernels of CUDA add it where they read the stream next; other ways leave nothing to be added.
        """
        if in_kernels():
            return self._in_kernels(x_ND, added_ND, rotation, layout)
        q_NHE, k_NKE, v_NKE = self.before(x_ND, rotation, layout.expand)
        return self.after(x_ND, attend(q_NHE, k_NKE, v_NKE, layout)), None

    @fused
    def before(self, x_ND: Tensor, rotation: Rotation, expand: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """What comes before the tokens look at each other: norm, and `Attention.project`."""
        return self.attention.project(self.attention_norm(x_ND), rotation, expand)

    @fused
    def after(self, x_ND: Tensor, attended_NHE: Tensor) -> Tensor:
        """What comes after it: (N, D) and (N, H, E) -> (N, D)."""
        x_ND = x_ND + self.dropout(self.attention.out(attended_NHE.flatten(1)))
        return x_ND + self.dropout(self.feed_forward(self.feed_forward_norm(x_ND)))

    def _in_kernels(
        self, x_ND: Tensor, added_ND: Tensor | None, rotation: Rotation, layout: Layout
    ) -> tuple[Tensor, Tensor]:
        """The same by the kernels of `model.kernels`."""
        from firstwords.model.kernels import feed_forward, product, project

        attention, layers = self.attention, self.feed_forward
        x_ND, normed_ND = self.attention_norm.after_adding(x_ND, added_ND)
        turned = project(normed_ND, attention.qkv.weight, *rotation, attention.heads, attention.kv_heads)
        added_ND = self.dropout(product(attend(*turned, layout).flatten(1), attention.out.weight))
        x_ND, normed_ND = self.feed_forward_norm.after_adding(x_ND, added_ND)
        return x_ND, self.dropout(feed_forward(normed_ND, layers.gate_up.weight, layers.down.weight))


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
        self.unembedding = Linear(shape.hidden, vocabulary)
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
        rotation = self.rotation(layout.positions_N)
        x_ND, added_ND = self.dropout(self.embedding(ids_N)), None
        for block in self.blocks:
            if self.gradient_checkpointing and self.training:
                x_ND, added_ND = checkpoint(block, x_ND, added_ND, rotation, layout, use_reentrant=False)
            else:
                x_ND, added_ND = block(x_ND, added_ND, rotation, layout)
        return self.norm(x_ND) if added_ND is None else self.norm.after_adding(x_ND, added_ND)[1]

    def forward(self, ids_N: Tensor, layout: Layout) -> Tensor:
        """Logits (N, V). For losses and scores use `model.loss`, which never holds them all."""
        return self.unembedding(self.hidden(ids_N, layout))

    def rotation(self, positions_N: Tensor) -> Rotation:
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
