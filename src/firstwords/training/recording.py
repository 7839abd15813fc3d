"""Forward and backward of a micro-batch as CUDA graphs: recorded once for its sizes, then played again.

A small model's step is a thousand kernels of some microseconds each, and a CPU needs about as long to launch one. A
graph launches them all at once.

Shape letters: N tokens of a micro-batch, C bounds of its sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from firstwords.model.attention import Layout, RaggedGroup
from firstwords.model.loss import IGNORE
from firstwords.tokens.batches import FlatBatch, TokenSequence, next_size

AddGradient = Callable[[FlatBatch, Tensor], Tensor]
"""Adds the gradient of a batch's summed loss over a divisor, a scalar; returns that loss."""

_LEAST_TOKENS = 512
_SIZES_AN_OCTAVE = 8
"""Sizes are rounded up to one of these between a power of two and the next: filler is a sixteenth, on the average."""


@dataclass(frozen=True, slots=True)
class _Graph:
    """One recording: it reads `numbers` and `divisor`, and writes `loss` and the recorder's gradients."""

    graph: torch.cuda.CUDAGraph
    numbers: Tensor
    divisor: Tensor
    loss: Tensor


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a graph is recorded for. longest: tokens of a sequence at most."""

    tokens: int
    bounds: int
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int], context: int) -> Sizes:
        """The next that are recorded: few, so that most steps find theirs."""
        longest, count = max([context, *lengths]), sum(lengths)
        tokens = rounded_up(count)
        rows = len(lengths) + -(-(tokens - count) // longest)
        # An eighth more, as steps have powers of two of them, and some of filler.
        return cls(tokens, 1 + (1 << (rows + rows // 8 - 1).bit_length()), longest)

    @property
    def numbers(self) -> int:
        """Inputs, targets and positions of all tokens, and bounds."""
        return 3 * self.tokens + self.bounds


def rounded_up(tokens: int) -> int:
    """The next of eight sizes an octave, from 512 on."""
    return next_size(max(tokens, _LEAST_TOKENS), _SIZES_AN_OCTAVE)


def as_numbers(part: Sequence[TokenSequence], sizes: Sizes) -> np.ndarray:
    """A micro-batch, filled up to `sizes`: N inputs, N targets (IGNORE where filled up), N positions, C bounds."""
    lengths = [len(sequence.ids) - 1 for sequence in part]
    filler = sizes.tokens - sum(lengths)
    whole, rest = divmod(filler, sizes.longest)
    lengths += [sizes.longest] * whole + ([rest] if rest else [])
    numbers = np.zeros(sizes.numbers, dtype=np.int64)
    inputs_N, targets_N, positions_N = numbers[: 3 * sizes.tokens].reshape(3, -1)
    bounds_C = numbers[3 * sizes.tokens :]
    real = sizes.tokens - filler
    if part:
        np.concatenate([sequence.ids[:-1] for sequence in part], out=inputs_N[:real], casting="same_kind")
        np.concatenate([sequence.ids[1:] for sequence in part], out=targets_N[:real], casting="same_kind")
    targets_N[real:] = IGNORE
    # Sequences that are too few are empty ones at the end.
    bounds_C[1 : 1 + len(lengths)] = np.cumsum(lengths)
    bounds_C[1 + len(lengths) :] = sizes.tokens
    positions_N[:] = np.arange(sizes.tokens) - np.repeat(bounds_C[:-1], np.diff(bounds_C))
    return numbers


def from_numbers(numbers: Tensor, sizes: Sizes) -> FlatBatch:
    """The batch that stands in such numbers."""
    ids_N, targets_N, positions_N = numbers[: 3 * sizes.tokens].view(3, -1)
    bounds_C = numbers[3 * sizes.tokens :].int()
    return FlatBatch(ids_N, targets_N, Layout(positions_N, (RaggedGroup(sizes.tokens, bounds_C, sizes.longest),)))


class Recorder:
    """Adds gradients of micro-batches by graphs, which it records when it meets new sizes.

    All graphs work in the same memory, and leave the weights' gradients at the same places. Of a step that is one
    micro-batch they are written there, else added to those that are there.
    """

    def __init__(
        self, module: nn.Module, add_gradient: AddGradient, context: int, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """add_gradient: of the weights of `module`; it is recorded. context: tokens of a sequence at most."""
        self._weights = [weight for weight in module.parameters() if weight.requires_grad]
        self._add_gradient, self._context, self._say = add_gradient, context, say
        self._gradients: list[Tensor] = []
        self._graphs: dict[tuple[Sizes, bool], _Graph] = {}
        self._pool: Any = None  # a handle of PyTorch's
        self._stream: torch.cuda.Stream | None = None
        self._fails = False

    def add(self, part: Sequence[TokenSequence], divisor: int, *, alone: bool = False) -> Tensor:
        """Add the gradient of a micro-batch to that of the weights; returns its part of the loss, a scalar.

        alone: it is all of its step, so that there is nothing to add to.
        """
        sizes, numbers = self._made_ready(part, alone)
        if (sizes, alone) not in self._graphs and not self._fails:
            self._try_to_record(sizes, numbers, alone)
        graph = self._graphs.get((sizes, alone))
        if graph is None:
            device = self._weights[0].device
            return self._add_gradient(from_numbers(numbers.to(device), sizes), torch.full((), divisor, device=device))
        graph.numbers.copy_(numbers.pin_memory(), non_blocking=True)
        graph.divisor.fill_(divisor)
        graph.graph.replay()
        self._give_gradients(self._gradients)
        # Graphs share their memory: the next writes over it.
        return graph.loss.clone()

    def record(self, part: Sequence[TokenSequence], *, alone: bool) -> None:
        """Record what `add` would play for a micro-batch; no gradient is added, nor left."""
        self._try_to_record(*self._made_ready(part, alone), alone)
        self._give_gradients(None)

    def _made_ready(self, part: Sequence[TokenSequence], alone: bool) -> tuple[Sizes, Tensor]:
        """Sizes and numbers of a micro-batch. Where it is not alone, the weights have gradients to add to."""
        sizes = Sizes.of([len(sequence.ids) - 1 for sequence in part], self._context)
        if not alone and self._weights[0].grad is None:
            if self._gradients:
                torch._foreach_zero_(self._gradients)
            else:
                self._gradients = [torch.zeros_like(weight) for weight in self._weights]
            self._give_gradients(self._gradients)
        return sizes, torch.from_numpy(as_numbers(part, sizes))

    def _give_gradients(self, gradients: Sequence[Tensor] | None) -> None:
        for number, weight in enumerate(self._weights):
            weight.grad = None if gradients is None else gradients[number]

    def forget(self) -> None:
        """Give up all graphs and their memory."""
        self._graphs.clear()
        self._gradients.clear()
        self._pool = None

    def _try_to_record(self, sizes: Sizes, numbers: Tensor, alone: bool) -> None:
        """Record, or do without from now on. alone: gradients are written, not added to."""
        # Memory that a stream has used is free for the same stream alone.
        stream = self._stream = self._stream or torch.cuda.Stream()
        # Kernels and workspaces are made in a first run, on targets that give no gradient.
        given = numbers.to(self._weights[0].device, copy=True)
        given[sizes.tokens : 2 * sizes.tokens] = IGNORE
        divisor, random = torch.ones((), device=given.device), torch.cuda.get_rng_state()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._add_gradient(from_numbers(given, sizes), divisor)
        torch.cuda.current_stream().wait_stream(stream)
        if alone:
            self._give_gradients(None)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads gather batches and write states meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                loss = self._add_gradient(from_numbers(given, sizes), divisor)
                made = [weight.grad for weight in self._weights if weight.grad is not None]
                if alone and self._gradients:
                    torch._foreach_copy_(self._gradients, made)
        except Exception as error:
            self._fails = True
            told = str(error).strip().splitlines() or [type(error).__name__]
            self._say(f"recording a step failed ({told[0]}); training goes on without, more slowly")
            if alone:
                self._give_gradients(None)
            return
        finally:
            torch.cuda.set_rng_state(random)
        self._pool = self._pool or graph.pool()
        self._gradients = self._gradients or made  # the first leaves them where it made them
        self._graphs[sizes, alone] = _Graph(graph, given, divisor, loss)
        torch.cuda.empty_cache()  # what the first run held, which nothing else would find
