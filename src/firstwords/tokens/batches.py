"""batch(step) as a pure function of the seed and the step: the same for any number of processes and any resume.

The rows of an epoch (packed rows of the context length, or lines) come in an order that depends on seed and epoch
alone. The rows of all epochs follow one another, and `row_plan` says which of them a step takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from firstwords.settings import TokenSettings, TrainingSettings
from firstwords.tokens.encoding import TokenFile
from firstwords.tokens.row_plan import Place, plan_rows

if TYPE_CHECKING:
    import torch

    from firstwords.model.attention import Layout

_LEAST_STEP, _SIZES_AN_OCTAVE = 8, 32
"""Flat batches are filled up to the next of so many sizes, so far apart at the least. So the CPU's matrix kernels, made
anew for each size that they meet, 15 in as many ms, are found again, and a thirty-second is filler at most."""


_STEPS_LOOKED_AT = 25


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """Tokens that see each other: `ids` and, shifted by one, the targets they predict."""

    ids: np.ndarray
    example: int
    """Number of the document or line it is from."""


@dataclass(frozen=True, slots=True)
class StepBatch:
    """All sequences of one optimizer step, over all processes.

    Each sequence holds one token more than it has targets: the first is only read, the last only predicted.
    tokens counts all of its tokens, the first ones too (the cards divide the loss by that).
    """

    sequences: tuple[TokenSequence, ...]
    tokens: int
    targets: int

    def slice_of(self, rank: int, world_size: int) -> tuple[TokenSequence, ...]:
        """The share of one process. Sequences are sorted by length, so that shares are alike."""
        return self.sequences[rank::world_size]


class Batches:
    """The batches of a whole training run over one token file."""

    def __init__(self, tokens: TokenFile, settings: TokenSettings, training: TrainingSettings, seed: int) -> None:
        """Raises FirstwordsError where the text does not fill one row."""
        self._tokens, self._settings, self._seed = tokens, settings, seed
        self._lines = settings.examples == "lines"
        # The last token of a stream is only predicted.
        epoch_units = tokens.facts.examples if self._lines else tokens.facts.tokens - 1
        row_units = 1 if self._lines else settings.context
        self._plan = plan_rows(epoch_units, row_units, training)
        self.rows_per_epoch = epoch_units // row_units
        self.steps = self._plan.steps
        self._epoch_order = lru_cache(maxsize=2)(self._make_epoch_order)

    def step(self, step: int) -> StepBatch:
        """The batch of optimizer step `step` (from 0)."""
        rows = range(self._plan.first_row(step), self._plan.first_row(step + 1))
        found = [sequence for row in rows for sequence in self._sequences_of(self._plan.place(row))]
        # Longest first: neighbours of like length attend together without much padding.
        found.sort(key=lambda sequence: -len(sequence.ids))
        sequences = tuple(sequence for sequence in found if len(sequence.ids) > 1)
        targets = sum(len(sequence.ids) - 1 for sequence in sequences)
        return StepBatch(sequences, sum(len(sequence.ids) for sequence in found), targets)

    def large_step(self) -> StepBatch:
        """The largest of some steps at the begin and at the end, where schedules have made them grow."""
        looked_at = {
            *range(min(_STEPS_LOOKED_AT, self.steps)),
            *range(max(0, self.steps - _STEPS_LOOKED_AT), self.steps),
        }
        return max((self.step(step) for step in sorted(looked_at)), key=lambda batch: batch.tokens)

    @property
    def tokens_in_all(self) -> int:
        """Tokens that all steps read, about."""
        return round(self.epochs_done(self.steps) * self._tokens.facts.tokens)

    def epochs_done(self, steps: int) -> float:
        """Passes over the text after so many steps."""
        return self._plan.epochs_done(steps)

    def words_seen(self, steps: int) -> int:
        """Words of text trained on after so many steps, repeats counted: BabyLM's clock."""
        return round(self.epochs_done(steps) * self._tokens.facts.words)

    def ends_epoch(self, step: int) -> bool:
        """Whether `step` is the last that reads nothing of the next epoch, or the last of all."""
        if step + 1 == self.steps:
            return True
        last, next_last = (self._plan.place(self._plan.first_row(after) - 1) for after in (step + 1, step + 2))
        return last.epoch < next_last.epoch

    def _sequences_of(self, row: Place) -> list[TokenSequence]:
        if self._lines:
            example = int(self._epoch_order(row.epoch)[0][row.unit])
            return [TokenSequence(np.asarray(self._tokens.example(example)), example)]
        return self._packed_row(row)

    def _packed_row(self, row: Place) -> list[TokenSequence]:
        """A row's tokens of the epoch's stream of documents and the targets one further."""
        order, ends = self._epoch_order(row.epoch)
        start, stop = row.unit, row.unit + row.units + 1
        parts = []
        for place in range(int(np.searchsorted(ends, start, side="right")), len(order)):
            example = int(order[place])
            ids = self._tokens.example(example)
            begin = int(ends[place]) - len(ids)
            if begin >= stop:
                break
            parts.append(TokenSequence(np.asarray(ids[max(start - begin, 0) : stop - begin]), example))
        if self._settings.cross_documents:
            return [TokenSequence(np.concatenate([part.ids for part in parts]), parts[0].example)]
        return parts

    def _make_epoch_order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The examples of an epoch in their order, and where each ends in the epoch's stream of tokens."""
        examples = self._tokens.facts.examples
        order = np.random.default_rng((self._seed, epoch)).permutation(examples)
        return order, np.diff(self._tokens.offsets)[order].cumsum()


class BatchesAhead:
    """The same batches, each gathered while the step before it is made; for devices that do not need the CPU."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._worker = ThreadPoolExecutor(max_workers=1)
        self._coming: tuple[int, Future[StepBatch]] | None = None

    def step(self, step: int) -> StepBatch:
        """The batch of optimizer step `step`."""
        expected, coming = self._coming or (None, None)
        batch = coming.result() if coming is not None and expected == step else self._batches.step(step)
        following = step + 1
        if following < self._batches.steps:
            self._coming = following, self._worker.submit(self._batches.step, following)
        return batch


@dataclass(frozen=True, slots=True)
class FlatBatch:
    """Sequences joined for the model: inputs, targets (IGNORE where filled up) and their layout; N tokens."""

    ids_N: torch.Tensor
    targets_N: torch.Tensor
    layout: Layout


def micro_batches(
    batch: StepBatch, micro_tokens: int, rank: int = 0, world_size: int = 1
) -> list[Sequence[TokenSequence]]:
    """What one process reads of a step: parts of at most `micro_tokens` inputs (a longer sequence stands alone).

    All processes have equally many parts, since they wait for each other in each; the last may be empty.
    """
    of_all = [_cut(batch.slice_of(one, world_size), micro_tokens) for one in range(world_size)]
    return of_all[rank] + [()] * (max(map(len, of_all)) - len(of_all[rank]))


def flat_batches(
    sequences: Sequence[TokenSequence], micro_tokens: int, device: torch.device | str = "cpu"
) -> Iterator[FlatBatch]:
    """Join neighbouring sequences to flat batches of at most `micro_tokens` inputs (a longer sequence stands alone)."""
    return (flat(part, device) for part in _cut(sequences, micro_tokens))


def _cut(sequences: Sequence[TokenSequence], micro_tokens: int) -> list[Sequence[TokenSequence]]:
    parts: list[Sequence[TokenSequence]] = []
    first = count = 0
    for place, sequence in enumerate(sequences):
        inputs = len(sequence.ids) - 1
        if place > first and count + inputs > micro_tokens:
            parts.append(sequences[first:place])
            first, count = place, 0
        count += inputs
    return [*parts, sequences[first:]] if first < len(sequences) else parts


def next_size(tokens: int, an_octave: int, least_step: int = 1) -> int:
    """The next of so many sizes an octave, which are `least_step` apart at the least. tokens: 1 or more."""
    step = max(least_step, (1 << tokens.bit_length() - 1) // an_octave)
    return -(-tokens // step) * step


def flat(sequences: Sequence[TokenSequence], device: torch.device | str = "cpu") -> FlatBatch:
    """Sequences one after the other, filled up; without any it is all filler, which gives no loss and no gradient."""
    import torch

    from firstwords.model.attention import Layout, sent
    from firstwords.model.loss import IGNORE

    lengths = [len(sequence.ids) - 1 for sequence in sequences]
    filler = next_size(max(1, sum(lengths)), _SIZES_AN_OCTAVE, _LEAST_STEP) - sum(lengths)
    ids = np.concatenate([*(sequence.ids[:-1] for sequence in sequences), np.zeros(filler)]).astype(np.int64)
    targets = np.concatenate([*(sequence.ids[1:] for sequence in sequences), np.full(filler, IGNORE)]).astype(np.int64)
    layout = Layout.of([*lengths, filler] if filler else lengths, device)
    return FlatBatch(
        sent(torch.from_numpy(ids), device),
        sent(torch.from_numpy(targets), device),
        layout,
    )
