"""Token ids to log-probabilities by our own LLaMA, fast: every shared beginning is computed once, in float32.

Shape letters: S sequences, N nodes of a batch (tokens with all before them), n those that a scored token follows, M
predicted tokens, m the scored ones of them, D hidden width, V vocabulary, v a tile of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from firstwords.errors import FirstwordsError
from firstwords.evaluation.cpu_model import CpuModel
from firstwords.evaluation.prefixes import PrefixBatch, prefix_batches
from firstwords.evaluation.subject import Progress
from firstwords.model.llama import Llama
from firstwords.model.native import native_loops
from firstwords.model.products import products_by_onednn

_CPU_NODES, _GPU_NODES = 1_536, 16_384
"""Nodes of a batch. On a CPU the tensors of a batch stay near the size of its caches."""
_CPU_LOGITS, _GPU_LOGITS = 2**21, 2**26
"""Logits that are held at once: 8 MiB of float32 on a CPU, 256 MiB elsewhere."""
_MUCH = 4_096
"""Tokens from which on it pays to lay out the model anew, which takes as long as scoring some hundred."""


def token_log_probs(
    model: Llama,
    sequences: Sequence[Sequence[int]],
    *,
    first_scored: Sequence[int] | None = None,
    nodes: int | None = None,
    progress: Progress | None = None,
) -> list[np.ndarray]:
    """log p(token | tokens before it) of each sequence's tokens after the first: nats, float32, one array a sequence.

    sequences: token ids, two or more each. A sequence that is given twice is scored once.
    first_scored: place in each sequence before which no token is scored (its log-probability is NaN); 1 for all of
    them. nodes: size of a batch (PrefixBatch); chosen where not given.
    The result depends on how sequences are batched by no more than float32's rounding, about 1e-5 nats.
    Source: Warstadt et al. 2020, section 4 (full-sentence method).
    """
    weight_VD = model.unembedding.weight
    device = weight_VD.device
    if weight_VD.dtype != torch.float32:
        raise FirstwordsError(f"scores need float32 weights, not {weight_VD.dtype}", do="convert it with model.float()")
    distinct: dict[tuple[int, ...], int] = {}
    numbers = [distinct.setdefault(tuple(ids), len(distinct)) for ids in sequences]
    if not distinct:
        return []
    first = np.full(len(distinct), np.iinfo(np.int64).max)
    np.minimum.at(first, numbers, np.ones(len(numbers), np.int64) if first_scored is None else first_scored)
    found: list[np.ndarray] = [np.empty(0, np.float32)] * len(distinct)
    was_training = model.training
    model.eval()
    done = 0
    try:
        # Also where a caller trains in half precision.
        with torch.no_grad(), torch.autocast(device.type, enabled=False), products_by_onednn():
            nodes = nodes or _for(device, _CPU_NODES, _GPU_NODES)
            laid_out = _laid_out(model, nodes, sum(map(len, distinct)))
            for batch in prefix_batches(list(distinct), nodes, device):
                log_probs_M = _log_probs(laid_out, batch, _wanted(batch, first)).cpu().numpy()
                borders = np.cumsum(batch.lengths)[:-1]
                for number, log_probs in zip(batch.sequences, np.split(log_probs_M, borders), strict=True):
                    found[number] = log_probs
                done += len(batch.sequences)
                if progress:
                    progress(done, len(distinct))
    finally:
        model.train(was_training)
    return [found[number] for number in numbers]


class _AsItTrains:
    """A model as it is; on any device."""

    def __init__(self, model: Llama) -> None:
        self.model = model

    def hidden(self, batch: PrefixBatch) -> Tensor:
        """Normed states after the last block, (N, D)."""
        return self.model.hidden(batch.ids_N, batch.layout)

    def log_normalizers(self, hidden_nD: Tensor) -> Tensor:
        """log of the sum of a row's exponentiated logits, (n,)."""
        tiles = []
        for tile_vD in self.model.unembedding.weight.split(_tile(len(hidden_nD), hidden_nD.device)):
            logits_nv = hidden_nD @ tile_vD.T
            largest_n1 = logits_nv.amax(dim=1, keepdim=True)
            tiles.append(logits_nv.sub_(largest_n1).exp_().sum(dim=1).log_().add_(largest_n1[:, 0]))
        return torch.stack(tiles).logsumexp(dim=0)


def _laid_out(model: Llama, nodes: int, tokens: int) -> CpuModel | _AsItTrains:
    """The model as it scores so many tokens fastest on its device."""
    device = model.unembedding.weight.device
    loops = native_loops() if device.type == "cpu" and tokens >= _MUCH else None
    return _AsItTrains(model) if loops is None else CpuModel(model, loops, _tile(nodes, device))


def _tile(rows: int, device: torch.device) -> int:
    """How much of the vocabulary so many rows meet at once.

    All rows meet a tile of the unembedding while the caches hold it; a few rows against the whole of it at a time took
    half as long again (docs/experiments.md).
    """
    return 64 * max(1, _for(device, _CPU_LOGITS, _GPU_LOGITS) // (64 * max(1, rows)))


def _wanted(batch: PrefixBatch, first_S: np.ndarray) -> Tensor | None:
    """Which of the batch's M predicted tokens are scored; None where all are."""
    skipped_B = first_S[batch.sequences] - 1
    if not skipped_B.any():
        return None
    place_M = np.concatenate([np.arange(length) for length in batch.lengths])
    return torch.from_numpy(np.flatnonzero(place_M >= np.repeat(skipped_B, batch.lengths))).to(batch.nodes_M.device)


def _log_probs(laid_out: CpuModel | _AsItTrains, batch: PrefixBatch, wanted_m: Tensor | None) -> Tensor:
    """log p of each wanted target after its node, (M,); only nodes that a wanted token follows pass the head."""
    hidden_ND = laid_out.hidden(batch)
    nodes_m, targets_m = batch.nodes_M, batch.targets_M
    if wanted_m is not None:
        nodes_m, targets_m = nodes_m[wanted_m], targets_m[wanted_m]
    followed_n, row_m = nodes_m.unique(return_inverse=True)
    hidden_nD = hidden_ND[followed_n]
    chosen_m = (hidden_nD[row_m] * laid_out.model.unembedding.weight[targets_m]).sum(dim=1)
    log_probs_m = chosen_m - laid_out.log_normalizers(hidden_nD)[row_m]
    if wanted_m is None:
        return log_probs_m
    return torch.full((len(batch.nodes_M),), torch.nan, device=log_probs_m.device).index_copy_(0, wanted_m, log_probs_m)


def _for(device: torch.device, cpu: int, gpu: int) -> int:
    return cpu if device.type == "cpu" else gpu
