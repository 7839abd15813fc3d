"""A LLaMA laid out for scoring much on a CPU: weights as the products read them, and loops of our own between them.

It computes what `Llama.hidden` and the head compute, but for rounding; nothing of it learns.

Shape letters: N nodes of a batch (tokens with all before them), n some of them, D hidden width, X columns of one
product, V vocabulary, v a tile of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from firstwords.evaluation.prefixes import PrefixBatch
from firstwords.model.llama import Block, Llama
from firstwords.model.native import NativeLoops
from firstwords.model.products import product_with


@dataclass(frozen=True, slots=True)
class _Products:
    """The four of a block."""

    qkv: Callable[[Tensor], Tensor]
    out: Callable[[Tensor], Tensor]
    gate_up: Callable[[Tensor], Tensor]
    down: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, block: Block) -> _Products:
        layers = block.attention.qkv, block.attention.out, block.feed_forward.gate_up, block.feed_forward.down
        return cls(*(product_with(layer.weight) for layer in layers))


class CpuModel:
    """The weights at the time when it was made, in float32 on the CPU; for use without gradients."""

    def __init__(self, model: Llama, loops: NativeLoops, tile: int) -> None:
        """tile: how much of the vocabulary passes the head at once."""
        self.model, self._loops = model, loops
        self._blocks = [(block, _Products.of(block)) for block in model.blocks]
        self._head = [product_with(tile_vD) for tile_vD in model.unembedding.weight.split(tile)]

    def hidden(self, batch: PrefixBatch) -> Tensor:
        """Normed states after the last block, (N, D). Nodes attend along the tree, no sequence is laid out."""
        heads, positions_N = self.model.shape.heads, batch.layout.positions_N
        rotation = self.model.rotation(positions_N)
        x_ND = self.model.embedding(batch.ids_N)
        for block, products in self._blocks:
            qkv_NX = products.qkv(block.attention_norm(x_ND))
            x_ND += products.out(self._loops.attend_along_tree(qkv_NX, rotation, positions_N, heads))
            gate_up_NX = products.gate_up(block.feed_forward_norm(x_ND))
            x_ND += products.down(self._loops.swiglu(gate_up_NX))
        return self.model.norm(x_ND)

    def log_normalizers(self, hidden_nD: Tensor) -> Tensor:
        """log of the sum of a row's exponentiated logits, (n,)."""
        return torch.stack([self._loops.log_sums_(tile(hidden_nD)) for tile in self._head]).logsumexp(dim=0)
