"""Our own LLaMA as a model under test: the fast path."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from firstwords.evaluation.reader import Line, Reader
from firstwords.evaluation.scoring import token_log_probs
from firstwords.evaluation.subject import Progress
from firstwords.model.attention import Layout
from firstwords.model.llama import Llama
from firstwords.tokens.tokenizer import Vocabulary


class OwnModel:
    """A `Subject` of our own LLaMA; it scores where the model's weights are."""

    masked = False

    def __init__(
        self, name: str, model: Llama, tokenizer: Vocabulary | Reader, facts: Mapping[str, object] | None = None
    ) -> None:
        """facts: what else is known of the model, such as its checkpoint."""
        weight = model.unembedding.weight
        self.name, self.model = name, model
        self.reader = Reader.of(tokenizer) if isinstance(tokenizer, Vocabulary) else tokenizer
        self.positions: int | None = model.shape.positions
        self.dtype, self.device = str(weight.dtype).removeprefix("torch."), weight.device.type
        self.facts: Mapping[str, object] = {
            "name": name,
            "class": "LLaMA of firstwords",
            "parameters": sum(weight.numel() for weight in model.parameters()),
            **(facts or {}),
        }

    def log_probs(
        self, lines: Sequence[Line], *, within_word: bool = False, progress: Progress | None = None
    ) -> list[np.ndarray]:
        """Log-probabilities of the scored tokens; see Subject. within_word says nothing to a causal model."""
        found = token_log_probs(
            self.model, [line.ids for line in lines], first_scored=[line.start for line in lines], progress=progress
        )
        return [array[line.start - 1 : line.stop - 1] for array, line in zip(found, lines, strict=True)]

    def encoder(self) -> torch.nn.Module:
        """A trainable copy: rows of ids -> the state after the last token, (B, D)."""
        return _LastState(copy.deepcopy(self.model))


class _LastState(torch.nn.Module):
    def __init__(self, model: Llama) -> None:
        super().__init__()
        self.model, self.width = model.train(), model.shape.hidden
        # The head is not trained further, and its gradient would be missing.
        if not model.shape.tied_embeddings:
            del model.unembedding

    def forward(self, rows: Sequence[Sequence[int]]) -> Tensor:
        device = self.model.embedding.weight.device
        # Attention is cheapest where neighbours have similar lengths.
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        lengths = [len(rows[row]) for row in order]
        ids_N = torch.tensor([token for row in order for token in rows[row]], device=device)
        hidden_ND = self.model.hidden(ids_N, Layout.of(lengths, device))
        last_B = torch.tensor(lengths, device=device).cumsum(0) - 1
        back_B = torch.tensor(order, device=device).argsort()
        return hidden_ND[last_B[back_B]].float()
