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
        self._products = [_Products.of(block) for block in model.blocks]
        self._head = [product_with(tile_vD) for tile_vD in model.unembedding.weight.split(tile)]

    def hidden(self, batch: PrefixBatch) -> Tensor:
        """Normed states after the last block, (N, D). Nodes attend along the tree, no sequence is laid out."""
        # What is filled up stands at the end, and is the beginning of a text that nothing follows.
        ids_N, positions_N = (_filled_up(of_N) for of_N in (batch.ids_N, batch.layout.positions_N))
        model, loops, heads = self.model, self._loops, self.model.shape.heads
        rotation = model.rotation(positions_N)
        x_ND = model.embedding(ids_N)
        normed_ND = model.blocks[0].attention_norm(x_ND)
        # The sum that a block ends with and the norm that the next begins with are one pass.
        next_norms = [*(block.attention_norm for block in model.blocks[1:]), model.norm]
        for block, products, next_norm in zip(model.blocks, self._products, next_norms, strict=True):
            attended_ND = loops.attend_along_tree(products.qkv(normed_ND), rotation, positions_N, heads)
            normed_ND = loops.add_and_norm(x_ND, products.out(attended_ND), block.feed_forward_norm)
            fed_NF = loops.swiglu(products.gate_up(normed_ND))
            normed_ND = loops.add_and_norm(x_ND, products.down(fed_NF), next_norm)
        return normed_ND[: len(batch.ids_N)]

    def log_normalizers(self, hidden_nD: Tensor) -> Tensor:
        """log of the sum of a row's exponentiated logits, (n,)."""
        filled_nD = _filled_up(hidden_nD)
        sums_n = torch.stack([self._loops.log_sums_(tile(filled_nD)) for tile in self._head]).logsumexp(dim=0)
        return sums_n[: len(hidden_nD)]


_ROWS = 8
"""Rows are filled up to a multiple of this, so that batches are of few sizes: for each, the products make kernels anew,
and that takes a hundredth of the time of scoring."""


def _filled_up(rows: Tensor) -> Tensor:
    """With zeros at the end, up to a multiple of some rows."""
    missing = -len(rows) % _ROWS
    return torch.cat((rows, rows.new_zeros(missing, *rows.shape[1:]))) if missing else rows
