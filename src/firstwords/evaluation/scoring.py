"""Sentences to log-probabilities, fast: every shared beginning is computed once, in float32.

Shape letters: S sequences, N nodes of a batch (tokens with all before them), n those of one chunk, M predicted tokens,
D hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from firstwords.errors import FirstwordsError
from firstwords.evaluation.prefixes import PrefixBatch, prefix_batches
from firstwords.model.llama import Llama

Progress = Callable[[int, int], None]
"""Told how many sequences are scored, and of how many."""

_CPU_NODES, _GPU_NODES = 1_024, 16_384
"""Nodes of a batch. On a CPU the tensors of a batch stay near the size of its caches."""
_CPU_LOGITS, _GPU_LOGITS = 2**22, 2**26
"""Logits that are held at once: 16 MiB of float32 on a CPU, 256 MiB elsewhere."""


def sentence_log_probs(
    model: Llama,
    sequences: Sequence[Sequence[int]],
    *,
    mean: bool = False,
    describe: Callable[[int], str] = "sequence {}".format,
    progress: Progress | None = None,
) -> np.ndarray:
    """Sum (or mean) of log p(token | tokens before it) over a sequence's tokens after the first: nats, float64, (S,).

    sequences: token ids, two or more each, the context (BOS) first where there is one; see Protocol.sequences.
    describe: names a sequence by its number in error messages. Runs where the model's weights are.
    The result depends on how sequences are batched by no more than float32's rounding, about 1e-5 nats.
    Raises FirstwordsError for a sequence that is longer than the model's positions, and with exit code 3 for a score
    that is not finite. Source: Warstadt et al. 2020, section 4 (full-sentence method).
    """
    check_positions(sequences, model.shape.positions, describe)
    tokens_S = token_log_probs(model, sequences, progress=progress)
    scores_S = np.array([log_probs.sum(dtype=np.float64) for log_probs in tokens_S])
    if mean:
        scores_S /= [len(log_probs) for log_probs in tokens_S]
    wrong = np.flatnonzero(~np.isfinite(scores_S))
    if len(wrong):
        raise FirstwordsError(
            f"the model gives a score that is not finite ({scores_S[wrong[0]]}), for {len(wrong):,} of "
            f"{len(scores_S):,} sentences",
            where=describe(int(wrong[0])),
            do="no accuracy can be told from this model: its weights are damaged or its training diverged",
            exit_code=3,
        )
    return scores_S


def token_log_probs(
    model: Llama,
    sequences: Sequence[Sequence[int]],
    *,
    nodes: int | None = None,
    progress: Progress | None = None,
) -> list[np.ndarray]:
    """log p(token | tokens before it) of each sequence's tokens after the first: nats, float32, one array a sequence.

    A sequence that is given twice is scored once. nodes: size of a batch (PrefixBatch); chosen where not given.
    """
    weight_VD = model.unembedding.weight
    device = weight_VD.device
    if weight_VD.dtype != torch.float32:
        raise FirstwordsError(f"scores need float32 weights, not {weight_VD.dtype}", do="convert it with model.float()")
    distinct: dict[tuple[int, ...], int] = {}
    numbers = [distinct.setdefault(tuple(ids), len(distinct)) for ids in sequences]
    if not distinct:
        return []
    found: list[np.ndarray] = [np.empty(0, np.float32)] * len(distinct)
    was_training = model.training
    model.eval()
    done = 0
    try:
        # Also where a caller trains in half precision.
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            for batch in prefix_batches(list(distinct), nodes or _for(device, _CPU_NODES, _GPU_NODES), device):
                log_probs_M = _log_probs(model.hidden(batch.ids_N, batch.layout), weight_VD, batch).cpu().numpy()
                borders = np.cumsum(batch.lengths)[:-1]
                for number, log_probs in zip(batch.sequences, np.split(log_probs_M, borders), strict=True):
                    found[number] = log_probs
                done += len(batch.sequences)
                if progress:
                    progress(done, len(distinct))
    finally:
        model.train(was_training)
    return [found[number] for number in numbers]


def _log_probs(hidden_ND: Tensor, weight_VD: Tensor, batch: PrefixBatch) -> Tensor:
    """log p of each target after its node, (M,): some nodes at a time, a row of logits for all targets of a node."""
    rows = max(32, _for(hidden_ND.device, _CPU_LOGITS, _GPU_LOGITS) // len(weight_VD))
    order_M = batch.nodes_M.argsort(stable=True)
    starts = torch.arange(0, len(hidden_ND), rows, device=hidden_ND.device)
    borders = [*torch.searchsorted(batch.nodes_M[order_M], starts).tolist(), len(order_M)]
    log_probs_M = torch.empty(len(order_M), device=hidden_ND.device)
    for chunk, start in enumerate(range(0, len(hidden_ND), rows)):
        logits_nV = hidden_ND[start : start + rows] @ weight_VD.T
        norms_n = logits_nV.logsumexp(dim=1)
        places_m = order_M[borders[chunk] : borders[chunk + 1]]
        nodes_m = batch.nodes_M[places_m] - start
        log_probs_M[places_m] = logits_nV[nodes_m, batch.targets_M[places_m]] - norms_n[nodes_m]
    return log_probs_M


def _for(device: torch.device, cpu: int, gpu: int) -> int:
    return cpu if device.type == "cpu" else gpu


def check_positions(sequences: Sequence[Sequence[int]], positions: int, describe: Callable[[int], str]) -> None:
    """Raises FirstwordsError, naming the sequence, where one is longer than the model's positions."""
    for number, ids in enumerate(sequences):
        # The last token is only predicted, so it takes no position.
        if len(ids) - 1 > positions:
            raise FirstwordsError(
                f"a sentence takes {len(ids) - 1} positions, and the model has {positions}: its context is too short",
                where=describe(number),
                do="leave that sentence out of the test set, or train with more model.positions",
            )
