"""Models of others: any causal or masked language model that transformers loads, as a `Subject`.

Only safetensors weights are loaded, in float32, and no code of the model's folder is run unless the user allows it.

Shape letters: B rows of a batch, T the longest of them, N scored tokens, n those of one chunk, D width, V vocabulary.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

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
_CPU_WHOLE_LOGITS, _GPU_WHOLE_LOGITS = 2**26, 2**27
"""Logits of a whole batch, for models that give no others: batches become smaller where this would be more."""


class TransformersModel:
    """A `Subject` around a loaded transformers model; `CausalModel` and `MaskedModel` say how it scores."""

    masked: bool

    def __init__(self, name: str, model: Any, tokenizer: Any, facts: Mapping[str, object] | None = None) -> None:
        """model: of AutoModelForCausalLM or AutoModelForMaskedLM, in float32; tokenizer: of AutoTokenizer.

        facts: what else is known of the model, such as its revision. Raises FirstwordsError for what cannot score.
        """
        self.name, self.model = name, model.eval()
        self.reader = Reader.of_transformers(tokenizer, name)
        self.positions: int | None = _positions(model)
        self.dtype, self.device = str(model.dtype).removeprefix("torch."), model.device.type
        self.facts: Mapping[str, object] = {
            "name": name,
            "class": type(model).__name__,
            "parameters": sum(weight.numel() for weight in model.parameters()),
            **(facts or {}),
        }
        if model.dtype != torch.float32:
            raise FirstwordsError(f"scores need float32 weights, not {self.dtype}", where=name)
        # Nothing is generated, so that states kept for later tokens would only take memory.
        model.config.use_cache = False
        self._head = _Head(model)

    def encoder(self) -> torch.nn.Module:
        """A trainable copy: rows of ids -> the state after the last token (causal) or at the first (masked), (B, D)."""
        return _Encoder(copy.deepcopy(_body(self.model)), first=self.masked)

    def log_probs(
        self, lines: Sequence[Line], *, within_word: bool = False, progress: Progress | None = None
    ) -> list[np.ndarray]:
        """Log-probabilities of the scored tokens; see Subject."""
        raise NotImplementedError

    def _batches(self, lengths: Sequence[int], first: Sequence[int]) -> Iterator[list[int]]:
        """Numbers of rows in batches that neither tokens nor logits make too large. first: ids of a row, for trying."""
        cpu = self.device == "cpu"
        tokens, whole = (_CPU_TOKENS, _CPU_WHOLE_LOGITS) if cpu else (_GPU_TOKENS, _GPU_WHOLE_LOGITS)
        way, logits = self._head.way(first), max(1, whole // self._head.width)
        if way == "states":
            return _batches(lengths, tokens, len(lengths))
        # A masked model scores one token a row.
        if way == "picked" and self.masked:
            return _batches(lengths, tokens, logits)
        return _batches(lengths, min(tokens, logits), len(lengths))


class CausalModel(TransformersModel):
    """Scores log p(token | tokens before it). Lines that are given twice are scored once."""

    masked = False

    def __init__(self, name: str, model: Any, tokenizer: Any, facts: Mapping[str, object] | None = None) -> None:
        """Raises FirstwordsError where the model sees later tokens too, as a BERT does that is loaded as causal."""
        super().__init__(name, model, tokenizer, facts)
        self._check_causal()

    @torch.no_grad()
    def _check_causal(self) -> None:
        """A score would tell how well the model reads the token that it is asked for, and be far too good."""
        width = min(8, self.positions or 8, self._head.width)
        ids_T = torch.arange(width, device=self.model.device)
        changed_T = ids_T.clone()
        changed_T[-1] = 0
        logits_TV, changed_TV = (self.model(input_ids=ids[None]).logits[0, :-1] for ids in (ids_T, changed_T))
        # Comparisons with NaN are false: such a model is refused when it scores.
        if ((logits_TV - changed_TV).abs() > 1e-4 * (1 + logits_TV.abs())).any():
            raise FirstwordsError(
                f"the model ({type(self.model).__name__}) sees the tokens that it is to predict: it is not causal",
                where=self.name,
                do="if it is a masked model, name its class in config.json: architectures = [...ForMaskedLM]",
            )

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
        for batch in self._batches([len(ids) - 1 for ids, _, _ in rows], rows[0][0][:-1]) if rows else ():
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
        # The two sentences of a minimal pair often become one row, of which two tokens are asked.
        masked: dict[tuple[tuple[int, ...], int], int] = {}
        targets: list[dict[int, int]] = []
        asked: list[list[int]] = []
        count = 0
        for line in lines:
            of_line = []
            for place in range(line.start, line.stop):
                row = masked.setdefault((self._masked(line, place, within_word), place), len(masked))
                if row == len(targets):
                    targets.append({})
                of_line.append(targets[row].setdefault(line.ids[place], count))
                count += of_line[-1] == count
            asked.append(of_line)
        rows = list(masked)
        found_N = np.empty(count, np.float32)
        done = 0
        for batch in self._batches([len(ids) for ids, _ in rows], rows[0][0]) if rows else ():
            ids_BT, mask_BT = _padded([rows[number][0] for number in batch], self.model.device)
            places = [(row, rows[number][1]) for row, number in enumerate(batch) for _ in targets[number]]
            tokens = [token for number in batch for token in targets[number]]
            numbers = [number for row in batch for number in targets[row].values()]
            found_N[numbers] = self._head.log_probs(ids_BT, mask_BT, places, tokens)
            done += len(batch)
            if progress:
                progress(done, len(rows))
        return [found_N[of_line] for of_line in asked]

    def _masked(self, line: Line, place: int, within_word: bool) -> tuple[int, ...]:
        end = place + 1
        if within_word and line.words[place] is not None:
            while end < line.stop and line.words[end] == line.words[place]:
                end += 1
        mask: Any = self.reader.mask_id
        return (*line.ids[:place], *(mask for _ in range(place, end)), *line.ids[end:])


class _Head:
    """From a batch to log-probabilities at some places, in the cheapest way that gives the model's own logits.

    states: the body's last states times the output embeddings, some places at a time (GPT-2, LLaMA). picked: the whole
    model, but its head is shown the states of those places alone (BERT, and models that cap their logits). whole: all
    logits of the batch. width: V.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._body, self._project = model, _body(model), model.get_output_embeddings()
        self._way: Literal["states", "picked", "whole"] | None = None
        rows = self._project if self._project is not None else model.get_input_embeddings()
        self.width = int(rows.weight.shape[0])

    def log_probs(
        self, ids_BT: Tensor, mask_BT: Tensor, places: Sequence[tuple[int, int]], targets: Sequence[int]
    ) -> np.ndarray:
        """log p of each target at its place (row, column): nats, float32, (N,)."""
        device = ids_BT.device
        rows_N, columns_N = torch.tensor(places, device=device).unbind(1)
        targets_N = torch.tensor(targets, device=device)
        way = self.way(ids_BT[0].tolist())
        if way == "states":
            found_N = self._states(ids_BT, mask_BT)[rows_N, columns_N]
        elif way == "picked":
            found_N = self._picked(ids_BT, mask_BT, rows_N, columns_N)
        else:
            found_N = self._model(input_ids=ids_BT, attention_mask=mask_BT).logits[rows_N, columns_N]
        out_N = torch.empty(len(targets), device=device)
        step = max(32, (_CPU_LOGITS if device.type == "cpu" else _GPU_LOGITS) // self.width)
        for start in range(0, len(targets), step):
            chunk = slice(start, start + step)
            logits_nV = self._project(found_N[chunk]) if way == "states" else found_N[chunk]
            chosen_n = logits_nV.gather(1, targets_N[chunk, None]).squeeze(1)
            out_N[chunk] = chosen_n - logits_nV.logsumexp(dim=1)
        return out_N.float().cpu().numpy()

    @torch.no_grad()
    def way(self, ids: Sequence[int]) -> Literal["states", "picked", "whole"]:
        """The way of this model; which one gives its own logits is tried on one row, the first time."""
        if self._way is None:
            self._way = "whole"
            ids_1T, mask_1T = _padded([ids], self._model.device)
            logits_TV = self._model(input_ids=ids_1T, attention_mask=mask_1T).logits[0]
            columns_T = torch.arange(len(ids), device=ids_1T.device)
            if self._body is not self._model and self._project is not None:
                with contextlib.suppress(AttributeError, RuntimeError, TypeError, ValueError):
                    if _alike(self._picked(ids_1T, mask_1T, torch.zeros_like(columns_T), columns_T), logits_TV):
                        self._way = "picked"
                with contextlib.suppress(AttributeError, RuntimeError, TypeError, ValueError):
                    if _alike(self._project(self._states(ids_1T, mask_1T)[0]), logits_TV):
                        self._way = "states"
        return self._way

    def _states(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        return self._body(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state

    def _picked(self, ids_BT: Tensor, mask_BT: Tensor, rows_N: Tensor, columns_N: Tensor) -> Tensor:
        """Logits at the places, (N, V): on its way to the head, the body's output is cut down to one row of them."""

        def pick(_body: Any, _given: Any, output: Any) -> Any:
            output.last_hidden_state = output.last_hidden_state[rows_N, columns_N][None]
            return output

        hook = self._body.register_forward_hook(pick)
        try:
            return self._model(input_ids=ids_BT, attention_mask=mask_BT).logits[0]
        finally:
            hook.remove()


def _alike(logits_TV: Tensor, whole_TV: Tensor) -> bool:
    """Whether these are the model's logits. A model of NaNs is as good any way: its scores are refused later."""
    same = logits_TV.shape == whole_TV.shape
    return same and torch.allclose(logits_TV, whole_TV, rtol=1e-5, atol=1e-5, equal_nan=True)


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


def _positions(model: Any) -> int | None:
    """The longest row that the model reads, where its configuration tells one."""
    config = model.config
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    if getattr(config, "model_type", "") in ("bloom", "mpt", "mamba", "mamba2", "rwkv", "falcon_mamba"):
        return None
    for key in ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length"):
        value = getattr(config, key, None)
        if isinstance(value, int) and value > 0:
            return value - _first_position(model)
    return None


def _first_position(model: Any) -> int:
    """The number of a row's first position: RoBERTa and its kin count from after their padding token's."""
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None:
            return int(padding) + 1
    return 0


def _batches(lengths: Sequence[int], tokens: int, rows: int) -> Iterator[list[int]]:
    """Batches of up to `tokens` positions and `rows` rows, longest first: neighbours need little padding."""
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if batch and (len(batch) == rows or lengths[batch[0]] * (len(batch) + 1) > tokens):
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
