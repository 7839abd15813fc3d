"""Token ids to log-probabilities by our own LLaMA, fast: every shared beginning is computed once, in float32.

Shape letters: S sequences, N nodes of a batch (tokens with all before them), n those of one chunk, M predicted tokens,
D hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from firstwords.errors import FirstwordsError
from firstwords.evaluation.prefixes import PrefixBatch, prefix_batches
from firstwords.evaluation.subject import Progress
from firstwords.model.llama import Llama

_CPU_NODES, _GPU_NODES = 1_024, 16_384
"""Nodes of a batch. On a CPU the tensors of a batch stay near the size of its caches."""
_CPU_LOGITS, _GPU_LOGITS = 2**22, 2**26
"""Logits that are held at once: 16 MiB of float32 on a CPU, 256 MiB elsewhere."""


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
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            for batch in prefix_batches(list(distinct), nodes or _for(device, _CPU_NODES, _GPU_NODES), device):
                hidden_ND = model.hidden(batch.ids_N, batch.layout)
                wanted_M = _wanted(batch, first)
                log_probs_M = _log_probs(hidden_ND, weight_VD, batch, wanted_M).cpu().numpy()
                borders = np.cumsum(batch.lengths)[:-1]
                for number, log_probs in zip(batch.sequences, np.split(log_probs_M, borders), strict=True):
                    found[number] = log_probs
                done += len(batch.sequences)
                if progress:
                    progress(done, len(distinct))
    finally:
        model.train(was_training)
    return [found[number] for number in numbers]


def _wanted(batch: PrefixBatch, first_S: np.ndarray) -> Tensor | None:
    """Which of the batch's M predicted tokens are scored; None where all are."""
    skipped_B = first_S[batch.sequences] - 1
    if not skipped_B.any():
        return None
    place_M = np.concatenate([np.arange(length) for length in batch.lengths])
    return torch.from_numpy(np.flatnonzero(place_M >= np.repeat(skipped_B, batch.lengths))).to(batch.nodes_M.device)


def _log_probs(hidden_ND: Tensor, weight_VD: Tensor, batch: PrefixBatch, wanted_m: Tensor | None) -> Tensor:
    """log p of each wanted target after its node, (M,): some nodes at a time, a row of logits for all its targets."""
    rows = max(32, _for(hidden_ND.device, _CPU_LOGITS, _GPU_LOGITS) // len(weight_VD))
    nodes_M = batch.nodes_M
    order_m = nodes_M.argsort(stable=True) if wanted_m is None else wanted_m[nodes_M[wanted_m].argsort(stable=True)]
    # Only nodes that a wanted token follows pass the head.
    nodes_n, place_m = nodes_M[order_m].unique_consecutive(return_inverse=True)
    starts = torch.arange(0, len(nodes_n), rows, device=hidden_ND.device)
    borders = [*torch.searchsorted(place_m, starts).tolist(), len(order_m)]
    log_probs_M = torch.full((len(nodes_M),), torch.nan, device=hidden_ND.device)
    for chunk, start in enumerate(range(0, len(nodes_n), rows)):
        logits_nV = hidden_ND[nodes_n[start : start + rows]] @ weight_VD.T
        norms_n = logits_nV.logsumexp(dim=1)
        places_m = order_m[borders[chunk] : borders[chunk + 1]]
        of_chunk_m = place_m[borders[chunk] : borders[chunk + 1]] - start
        log_probs_M[places_m] = logits_nV[of_chunk_m, batch.targets_M[places_m]] - norms_n[of_chunk_m]
    return log_probs_M


def _for(device: torch.device, cpu: int, gpu: int) -> int:
    return cpu if device.type == "cpu" else gpu
