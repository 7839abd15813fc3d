"""How likely a word border is: the probability of all tokens together that can stand after the end of a word.

Shape letters: V vocabulary, S scored tokens of a line, N wanted places of a batch of lines, n those of one chunk,
D width, B rows of a batch, T the longest of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from firstwords.errors import FirstwordsError
from firstwords.evaluation.hf_models import CausalModel
from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.reader import Line, Reader
from firstwords.evaluation.subject import Subject
from firstwords.model.attention import Layout

_CPU_TOKENS, _GPU_TOKENS = 1_024, 32_768
"""Tokens of a batch, padding counted."""
_CPU_LOGITS, _GPU_LOGITS = 2**22, 2**26
"""Logits that are held at once: 16 MiB of float32 on a CPU, 256 MiB elsewhere."""


def tokens_of_borders(reader: Reader, marks: str = "") -> np.ndarray:
    """Which tokens stand after the end of a word, (V,): those that begin with white space, and those that end a text.

    marks: characters with which a token may begin too. Characters of several bytes count where they are one token.
    Raises FirstwordsError for a tokenizer whose tokens do not have the space before a word in them: one that drops
    spaces, or that marks the ends of words.
    """
    tokenizer = reader.tokenizer
    close, apart = (text.ids for text in reader.tokenize(["a.", "a ."]))
    if close == apart or not close or getattr(tokenizer.model, "end_of_word_suffix", None):
        raise FirstwordsError(
            "the tokenizer's tokens do not say whether a space stands before them",
            where="tokenizer.json",
            do="score words with the boundary 'before'",
        )
    letter = reader.tokenize(["a"])[0].ids[-1]
    start = len(tokenizer.decode([letter], skip_special_tokens=False))
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    pairs = tokenizer.decode_batch([[letter, token] for token in range(size)], skip_special_tokens=False)
    firsts = [text[start : start + 1] for text in pairs]
    borders_V = np.array([first.isspace() or (first != "" and first in marks) for first in firsts])
    borders_V[[token for token in (reader.bos_id, reader.eos_id) if token is not None]] = True
    return borders_V


def border_log_masses(subject: Subject, lines: Sequence[Line], borders_V: np.ndarray) -> list[np.ndarray]:
    """log of the probability that one of `borders_V` comes next: nats, float64, S + 1 numbers a line.

    They are of the places before each scored token, and of that after the last. A line is read up to its `stop`, and
    takes as many positions.
    Raises FirstwordsError for a model that cannot tell, and with exit code 3 for a number that is not finite.
    """
    if not isinstance(subject, OwnModel | CausalModel):
        raise FirstwordsError(
            f"'{subject.name}' does not tell how likely any token is to follow a word",
            do="score words with the boundary 'before'",
        )
    on_cpu = subject.device == "cpu"
    found: list[np.ndarray] = [np.empty(0)] * len(lines)
    was_training = subject.model.training
    subject.model.eval()
    try:
        with torch.no_grad(), torch.autocast(subject.device, enabled=False):
            for batch in _batches([line.stop for line in lines], _CPU_TOKENS if on_cpu else _GPU_TOKENS):
                chosen = [lines[number] for number in batch]
                counts = [0, *np.cumsum([line.scored + 1 for line in chosen]).tolist()]
                masses_N = np.concatenate(
                    [
                        _log_masses(logits_nV, borders_V)
                        for logits_nV in _logits(subject, chosen, _CPU_LOGITS if on_cpu else _GPU_LOGITS)
                    ]
                )
                for number, (first, last) in zip(batch, pairwise(counts), strict=True):
                    found[number] = masses_N[first:last]
    finally:
        subject.model.train(was_training)
    if not all(np.isfinite(masses_S).all() for masses_S in found):
        raise FirstwordsError(
            "the model gives word borders a probability that is not finite",
            do="no surprisal can be told from this model: its weights are damaged or its training diverged",
            exit_code=3,
        )
    return found


def _batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Numbers of lines in batches of about `tokens` tokens, filled up to the longest, longest first."""
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _log_masses(logits_nV: Tensor, borders_V: np.ndarray) -> np.ndarray:
    # A model may have more rows of embeddings than its tokenizer has tokens.
    known = min(logits_nV.shape[1], len(borders_V))
    chosen = torch.from_numpy(np.flatnonzero(borders_V[:known])).to(logits_nV.device)
    masses_n = logits_nV.index_select(1, chosen).logsumexp(dim=1) - logits_nV.logsumexp(dim=1)
    masses: np.ndarray = masses_n.cpu().double().numpy()
    return masses


def _logits(subject: OwnModel | CausalModel, lines: Sequence[Line], at_once: int) -> Iterator[Tensor]:
    """Logits of what comes next, (n, V), before each scored token and after the last of every line in turn."""
    rows = [line.ids[: line.stop] for line in lines]
    rows_N = np.concatenate([np.full(line.scored + 1, row) for row, line in enumerate(lines)])
    places_N = np.concatenate([np.arange(line.start - 1, line.stop) for line in lines])
    if isinstance(subject, OwnModel):
        device = subject.model.unembedding.weight.device
        ids_N = torch.tensor([token for ids in rows for token in ids], device=device)
        hidden_ND = subject.model.hidden(ids_N, Layout.of([len(ids) for ids in rows], device))
        starts = np.cumsum([0, *(len(ids) for ids in rows)])
        wanted_N = torch.from_numpy(starts[rows_N] + places_N).to(device)
        for chunk_n in wanted_N.split(max(1, at_once // subject.model.vocabulary)):
            yield subject.model.unembedding(hidden_ND[chunk_n])
        return
    device = subject.model.device
    width = max(map(len, rows))
    # Filled up on the right, where a causal model does not see it.
    ids_BT = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in rows], device=device)
    mask_BT = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in rows], device=device)
    logits_BTV = subject.model(input_ids=ids_BT, attention_mask=mask_BT).logits
    yield logits_BTV[torch.from_numpy(rows_N).to(device), torch.from_numpy(places_N).to(device)].float()
