"""Models of others: any causal or masked language model that transformers loads, as a `Subject`.

Only safetensors weights are loaded, in float32, and no code of the model's folder is run unless the user allows it.

Shape letters: B rows of a batch, T the longest of them, N scored tokens, n those of one chunk, D width, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstwords.errors import FirstwordsError
from firstwords.evaluation.reader import Line, Reader
from firstwords.evaluation.subject import Progress

_CPU_TOKENS, _GPU_TOKENS = 1_024, 32_768
"""Positions of a batch, padding counted. On a CPU the tensors of a batch stay near the size of its caches."""
_CPU_LOGITS, _GPU_LOGITS = 2**22, 2**26
"""Logits that are held at once: 16 MiB of float32 on a CPU, 256 MiB elsewhere."""


class TransformersModel:
    """A `Subject` around a loaded transformers model; `CausalModel` and `MaskedModel` say how it scores."""

    masked: bool

    def __init__(self, name: str, model: Any, tokenizer: Any, facts: Mapping[str, object] | None = None) -> None:
        """model: of AutoModelForCausalLM or AutoModelForMaskedLM, in float32; tokenizer: of AutoTokenizer.

        facts: what else is known of the model, such as its revision. Raises FirstwordsError for what cannot score.
        """
        self.name, self.model = name, model.eval()
        self.reader = Reader.of_transformers(tokenizer, name)
        self.positions: int | None = _positions(model.config)
        self.dtype, self.device = str(model.dtype).removeprefix("torch."), model.device.type
        self.facts: Mapping[str, object] = {
            "name": name,
            "class": type(model).__name__,
            "parameters": sum(weight.numel() for weight in model.parameters()),
            **(facts or {}),
        }
        if model.dtype != torch.float32:
            raise FirstwordsError(f"scores need float32 weights, not {self.dtype}", where=name)
        self._head = _Head(model)

    def encoder(self) -> torch.nn.Module:
        """A trainable copy: rows of ids -> the state after the last token (causal) or at the first (masked), (B, D)."""
        return _Encoder(copy.deepcopy(_body(self.model)), first=self.masked)

    def log_probs(
        self, lines: Sequence[Line], *, within_word: bool = False, progress: Progress | None = None
    ) -> list[np.ndarray]:
        """Log-probabilities of the scored tokens; see Subject."""
        raise NotImplementedError

    def _tokens_at_once(self) -> int:
        return _CPU_TOKENS if self.device == "cpu" else _GPU_TOKENS


class CausalModel(TransformersModel):
    """Scores log p(token | tokens before it). Lines that are given twice are scored once."""

    masked = False

    @torch.no_grad()
    def log_probs(
        self, lines: Sequence[Line], *, within_word: bool = False, progress: Progress | None = None
    ) -> list[np.ndarray]:
        """Log-probabilities of the scored tokens; see Subject. within_word says nothing to a causal model."""
        distinct: dict[tuple[tuple[int, ...], int, int], int] = {}
        numbers = [distinct.setdefault((line.ids[: line.stop], line.start, line.stop), len(distinct)) for line in lines]
        rows = list(distinct)
        found: list[np.ndarray] = [np.empty(0, np.float32)] * len(rows)
        done = 0
        for batch in _batches([len(ids) - 1 for ids, _, _ in rows], self._tokens_at_once()):
            chosen = [rows[number] for number in batch]
            ids_BT, mask_BT = _padded([ids[:-1] for ids, _, _ in chosen], self.model.device)
            # Where a token stands whose successor is scored.
            spans = [range(start - 1, stop - 1) for _, start, stop in chosen]
            places = [(row, place) for row, span in enumerate(spans) for place in span]
            targets = [token for ids, start, stop in chosen for token in ids[start:stop]]
            log_probs_N = self._head.log_probs(ids_BT, mask_BT, places, targets)
            counts = np.cumsum([len(span) for span in spans])[:-1]
            for number, log_probs in zip(batch, np.split(log_probs_N, counts), strict=True):
                found[number] = log_probs
            done += len(batch)
            if progress:
                progress(done, len(rows))
        return [found[number] for number in numbers]


class MaskedModel(TransformersModel):
    """Scores log p(token | all others): each scored token is masked in a row of its own.

    Sources: Salazar et al. 2020; within_word: Kauf & Ivanova 2023, who mask the later tokens of the same word too.
    """

    masked = True

    def __init__(self, name: str, model: Any, tokenizer: Any, facts: Mapping[str, object] | None = None) -> None:
        """Raises FirstwordsError where the tokenizer has no mask."""
        super().__init__(name, model, tokenizer, facts)
        if self.reader.mask_id is None:
            raise FirstwordsError("the tokenizer of the masked model has no mask token", where=name)

    @torch.no_grad()
    def log_probs(
        self, lines: Sequence[Line], *, within_word: bool = False, progress: Progress | None = None
    ) -> list[np.ndarray]:
        """Log-probabilities of the scored tokens; see Subject."""
        asked: dict[tuple[tuple[int, ...], int], int] = {}
        numbers: list[list[int]] = []
        targets: list[int] = []
        for line in lines:
            of_line = []
            for place in range(line.start, line.stop):
                row = (self._masked(line, place, within_word), place)
                number = asked.setdefault(row, len(asked))
                if number == len(targets):
                    targets.append(line.ids[place])
                of_line.append(number)
            numbers.append(of_line)
        rows = list(asked)
        found_N = np.empty(len(rows), np.float32)
        done = 0
        for batch in _batches([len(ids) for ids, _ in rows], self._tokens_at_once()):
            ids_BT, mask_BT = _padded([rows[number][0] for number in batch], self.model.device)
            places = [(row, rows[number][1]) for row, number in enumerate(batch)]
            found_N[batch] = self._head.log_probs(ids_BT, mask_BT, places, [targets[number] for number in batch])
            done += len(batch)
            if progress:
                progress(done, len(rows))
        return [found_N[of_line] for of_line in numbers]

    def _masked(self, line: Line, place: int, within_word: bool) -> tuple[int, ...]:
        end = place + 1
        if within_word:
            while end < line.stop and line.words[end] == line.words[place]:
                end += 1
        mask: Any = self.reader.mask_id
        return (*line.ids[:place], *(mask for _ in range(place, end)), *line.ids[end:])


class _Head:
    """From a batch to log-probabilities at some places: the head only there, where the model allows it."""

    def __init__(self, model: Any) -> None:
        self._model, self._body, self._project = model, _body(model), model.get_output_embeddings()
        self._direct: bool | None = None

    def log_probs(
        self, ids_BT: Tensor, mask_BT: Tensor, places: Sequence[tuple[int, int]], targets: Sequence[int]
    ) -> np.ndarray:
        """log p of each target at its place (row, column): nats, float32, (N,)."""
        device = ids_BT.device
        rows_N, columns_N = torch.tensor(places, device=device).unbind(1)
        targets_N = torch.tensor(targets, device=device)
        if self._direct is None:
            self._direct = self._head_is_direct(ids_BT[:1], mask_BT[:1])
        if not self._direct:
            states_ND = self._model(input_ids=ids_BT, attention_mask=mask_BT).logits[rows_N, columns_N]
        else:
            states_ND = self._body(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state[rows_N, columns_N]
        out_N = torch.empty(len(targets), device=device)
        width = self._project.weight.shape[0] if self._project is not None else states_ND.shape[1]
        step = max(32, (_CPU_LOGITS if device.type == "cpu" else _GPU_LOGITS) // width)
        for start in range(0, len(targets), step):
            chunk = slice(start, start + step)
            logits_nV = self._project(states_ND[chunk]) if self._direct else states_ND[chunk]
            chosen_n = logits_nV.gather(1, targets_N[chunk, None]).squeeze(1)
            out_N[chunk] = chosen_n - logits_nV.logsumexp(dim=1)
        return out_N.float().cpu().numpy()

    def _head_is_direct(self, ids_1T: Tensor, mask_1T: Tensor) -> bool:
        """Whether the model's logits are its body's last state times the output embeddings and nothing else.

        It is tried, on one row: some models scale or cap their logits, and masked ones have layers in between.
        """
        if self._body is self._model or self._project is None:
            return False
        try:
            state = self._body(input_ids=ids_1T, attention_mask=mask_1T).last_hidden_state
            logits = self._project(state)
        except (AttributeError, RuntimeError, TypeError, ValueError):
            return False
        whole = self._model(input_ids=ids_1T, attention_mask=mask_1T).logits
        # A model of NaNs is as good either way: its scores are refused later.
        return logits.shape == whole.shape and torch.allclose(logits, whole, atol=1e-5, equal_nan=True)


class _Encoder(torch.nn.Module):
    def __init__(self, body: Any, *, first: bool) -> None:
        super().__init__()
        self.body, self.first = body.train(), first
        # transformers gives every configuration this name, whatever its own is.
        self.width: int = body.config.hidden_size

    def forward(self, rows: Sequence[Sequence[int]]) -> Tensor:
        device = next(self.body.parameters()).device
        ids_BT, mask_BT = _padded(rows, device)
        states_BTD = self.body(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        if self.first:
            return states_BTD[:, 0].float()
        return states_BTD[torch.arange(len(rows), device=device), mask_BT.sum(dim=1) - 1].float()


def _body(model: Any) -> Any:
    """The model without its head."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    return decoder if decoder is not None and decoder is not model else model.base_model


def _positions(config: Any) -> int | None:
    """The longest row that the model reads, where its configuration tells one."""
    if getattr(config, "model_type", "") in ("bloom", "mpt", "mamba", "mamba2", "rwkv", "falcon_mamba"):
        return None
    for key in ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length"):
        value = getattr(config, key, None)
        if isinstance(value, int) and value > 0:
            # RoBERTa numbers positions from after its padding token.
            offset = config.pad_token_id + 1 if getattr(config, "model_type", "") in _OFFSET_POSITIONS else 0
            return value - offset
    return None


_OFFSET_POSITIONS = ("roberta", "camembert", "xlm-roberta", "roberta-prelayernorm")


def _batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Numbers of rows in batches of about `tokens` positions, longest first: neighbours need little padding."""
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _padded(rows: Sequence[Sequence[int]], device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, (B, T), filled up on the right, whatever side the tokenizer would choose.

    On the right every token keeps its position, and a causal model does not see the filling at all.
    """
    width = max(map(len, rows))
    ids_BT = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    mask_BT = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids_BT.to(device), mask_BT.to(device)
