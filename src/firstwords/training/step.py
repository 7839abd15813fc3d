"""What one optimizer step does to a model: gradients of micro-batches, then the update."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from firstwords.errors import FirstwordsError
from firstwords.model.fusion import Fusion
from firstwords.model.llama import Llama
from firstwords.model.loss import summed_cross_entropy
from firstwords.settings import TrainingSettings
from firstwords.tokens.batches import FlatBatch, StepBatch, TokenSequence, flat, micro_batches
from firstwords.training.averaging import WeightAverage
from firstwords.training.devices import Device
from firstwords.training.optimizers import set_learning_rate
from firstwords.training.processes import ALONE, Processes, gradients_kept_back, whole
from firstwords.training.recording import Recorder


class StepLoss(nn.Module):
    """A model with its loss: one module, so that processes can train it together."""

    def __init__(self, model: Llama) -> None:
        """The weights stay the model's own."""
        super().__init__()
        self.model = model

    def forward(self, flat: FlatBatch, z_loss: float = 0.0) -> Tensor:
        """Summed loss of a micro-batch: nats, float32 scalar. z_loss: weight of log(Z)^2, as in `model.loss`."""
        hidden_ND = self.model.hidden(flat.ids_N, flat.layout)
        return summed_cross_entropy(hidden_ND, self.model.unembedding.weight, flat.targets_N, z_loss)


class Gradients:
    """Adds up the gradients of steps, in micro-batches that fit the memory."""

    def __init__(
        self,
        step_loss: nn.Module,
        settings: TrainingSettings,
        device: Device,
        scaler: torch.amp.GradScaler,
        processes: Processes = ALONE,
        say: Callable[[str], None] = lambda _: None,
        *,
        fusion: Fusion | None = None,
        micro_tokens: int | None = None,
        recorded_context: int | None = None,
    ) -> None:
        """step_loss: a StepLoss, or what `processes.share` made of it. say: told where memory ran out.

        fusion: entered for forward and backward. micro_tokens: the device's where not given. recorded_context: given
        where micro-batches are recorded as CUDA graphs; tokens of a sequence at most.
        """
        self.micro_tokens = micro_tokens or device.micro_tokens
        """Inputs of the largest micro-batch. Results depend on it by the rounding of sums."""
        self.device = device
        self._step_loss, self._settings = step_loss.train(), settings
        self._scaler, self._processes, self._say = scaler, processes, say
        self._compiled = fusion.entered if fusion is not None else nullcontext
        self._recorder = (
            None if recorded_context is None else Recorder(step_loss, self._add_flat, recorded_context, say)
        )

    def add(self, batch: StepBatch, seed: int) -> Tensor:
        """Add the gradient of a step's mean loss; returns this process's part of that loss, a scalar on the device.

        seed: of the dropout. Where memory runs out, the step is begun again in smaller micro-batches, which later steps
        have too. Raises FirstwordsError where nothing smaller is left.
        """
        while True:
            try:
                return self._add(batch, seed)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self._make_smaller(_longest(batch))

    def _add(self, batch: StepBatch, seed: int) -> Tensor:
        self.device.seed(seed)
        # The cards' Trainer takes the mean over all tokens, those too that are not predicted.
        over_tokens = self._settings.loss_mean_over == "tokens"
        divisor = max(1, batch.tokens if over_tokens else batch.targets)
        parts = micro_batches(batch, self.micro_tokens, self._processes.rank, self._processes.size)
        losses = []
        for number, part in enumerate(parts, start=1):
            with gradients_kept_back(self._step_loss, until_next=number < len(parts)):
                losses.append(self.add_part(part, divisor, alone=len(parts) == 1))
        return torch.stack(losses).sum() if losses else torch.zeros(())

    def add_part(self, part: Sequence[TokenSequence], divisor: int, *, alone: bool = False) -> Tensor:
        """Add the gradient of one micro-batch; returns its summed loss over `divisor`, a scalar on the device.

        alone: it is all of a step, whose weights have no gradients yet.
        """
        if self._recorder is not None:
            return self._recorder.add(part, divisor, alone=alone)
        return self._add_flat(flat(part, self.device.kind), divisor)

    def _add_flat(self, batch: FlatBatch, divisor: int | Tensor) -> Tensor:
        with self._compiled():
            return add_gradient(
                self._step_loss,
                batch,
                divisor,
                self.device,
                self._scaler,
                z_loss=self._settings.z_loss,
                processes=self._processes,
            )

    def expect(self, batch: StepBatch) -> None:
        """Record a large step ahead of others, where steps are recorded: theirs find room in the memory that it took.

        No gradient is added.
        """
        if self._recorder is None:
            return
        parts = micro_batches(batch, self.micro_tokens)
        try:
            self._recorder.record(max(parts, key=_inputs), alone=len(parts) == 1)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self._make_smaller(_longest(batch))

    def _make_smaller(self, longest: int) -> None:
        """Halve the micro-batches; the longest sequence stands alone at the least."""
        self._step_loss.zero_grad()
        if self._processes.size > 1 or self.micro_tokens <= longest:
            # The other processes are in the middle of the step and wait.
            raise _no_memory(f"micro-batches of {self.micro_tokens:,} tokens")
        if self._recorder is not None:
            self._recorder.forget()
        self.device.give_memory_back()
        before, self.micro_tokens = self.micro_tokens, max(longest, self.micro_tokens // 2)
        self._say(
            f"memory ran out in micro-batches of {before:,} tokens; going on with {self.micro_tokens:,}, steps are as "
            "large as before"
        )


def _longest(batch: StepBatch) -> int:
    return max(len(sequence.ids) - 1 for sequence in batch.sequences)


def _inputs(part: Sequence[TokenSequence]) -> int:
    return sum(len(sequence.ids) - 1 for sequence in part)


_NO_MEMORY = ("can't allocate memory", "could not create a primitive")
"""What PyTorch says on a CPU, where it has no error of its own kind; and oneDNN, where a kernel finds no room."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether PyTorch raised it because the device's memory was full."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in _NO_MEMORY)


@contextmanager
def memory_told(where: str) -> Iterator[None]:
    """While it lasts, memory that runs out is the user's error, which says where."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        raise _no_memory(where) if is_out_of_memory(error) else error from None


def _no_memory(where: str) -> FirstwordsError:
    return FirstwordsError(
        f"memory ran out in {where}",
        where="training",
        do="set training.gradient-checkpointing or training.shard-weights to true, give a smaller number as "
        "training.micro-tokens, or take a smaller model",
        exit_code=1,
    )


def add_gradient(
    step_loss: nn.Module,
    batch: FlatBatch,
    divisor: int | Tensor,
    device: Device,
    scaler: torch.amp.GradScaler,
    *,
    z_loss: float = 0.0,
    processes: Processes = ALONE,
) -> Tensor:
    """Forward and backward of one micro-batch; returns its summed loss over `divisor`, a scalar on the device."""
    with device.autocast():
        loss = step_loss(batch, z_loss) / divisor
    # Gradients are averaged over the processes, and a step's gradient is their sum.
    scaler.scale(loss * processes.size if processes.size > 1 else loss).backward()
    return loss.detach()


@dataclass(frozen=True, slots=True)
class StepBegun:
    """A step that the device was told to make.

    rate: its learning rate. started: of `time.monotonic`. numbers: its loss and its gradient's norm, and how many
    processes had each of the wishes that `Steps.begin` was given; waits for them.
    """

    step: int
    rate: float
    batch: StepBatch
    started: float
    numbers: Callable[[], tuple[float, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Makes optimizer steps, each from the weights and from its number alone.

    batch_of, rate_of, seed_of: what a step reads, its learning rate, the seed of its dropout. update: clips, steps and
    clears the gradients; gives their norm.
    """

    batch_of: Callable[[int], StepBatch]
    rate_of: Callable[[int], float]
    seed_of: Callable[[int], int]
    gradients: Gradients
    optimizer: Optimizer
    update: Callable[[], Tensor]
    average: WeightAverage | None = None
    processes: Processes = ALONE

    def begin(self, step: int, wishes: Callable[[], tuple[bool, ...]] = tuple) -> StepBegun:
        """Tell the device to make a step, and do not wait for it.

        wishes: what this process wants once it is made, for all of them to know.
        """
        started, rate = time.monotonic(), self.rate_of(step)
        set_learning_rate(self.optimizer, rate)
        batch = self.batch_of(step)
        loss = self.gradients.add(batch, self.seed_of(step))
        norm = self.update()
        if self.average is not None:
            self.average.update(step + 1)
        numbers = self.processes.read_later(self.gradients.device, loss, norm, *wishes())
        return StepBegun(step, rate, batch, started, numbers)


def in_turn(
    steps: Sequence[int], make: Callable[[int], StepBegun], waits_after: Callable[[int], bool]
) -> Iterator[tuple[StepBegun, bool]]:
    """Each step once it is begun, and whether it is the last that was.

    A step is begun before the one before it is handed out, so that a GPU has work while the numbers of that one are
    read and written down; but none after a step that `waits_after` names until all is done that is to be done then.
    """
    waiting: StepBegun | None = None
    for step in steps:
        begun = make(step)
        if waiting is not None:
            yield waiting, False
        waiting = begun
        if waits_after(step):
            yield waiting, True
            waiting = None
    if waiting is not None:
        yield waiting, True


def update(weights: Sequence[Tensor], optimizer: Optimizer, scaler: torch.amp.GradScaler, clip_norm: float) -> Tensor:
    """Clip, step, and clear the gradients; returns the gradient's norm before clipping, a scalar on the device.

    weights: all that the optimizer steps. clip_norm: the largest norm that is left as it is; 0 clips nothing.
    """
    with memory_told("the optimizer's step"):
        scaler.unscale_(optimizer)
        norm = _clip(weights, clip_norm)
        scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    return whole(norm)


def _clip(weights: Sequence[Tensor], clip_norm: float) -> Tensor:
    """Bound the norm of all gradients together, as torch.nn.utils.clip_grad_norm_ does; returns what it was."""
    norm = torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
    # A CPU knows the norm now, and need not multiply all gradients by one. NaN goes on.
    within = norm.device.type == "cpu" and float(norm) + 1e-6 <= clip_norm
    if clip_norm and not within:
        torch.nn.utils.clip_grads_with_norm_(weights, clip_norm, norm)
    return norm
