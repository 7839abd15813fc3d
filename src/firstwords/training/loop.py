"""The training loop, from top to bottom."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from firstwords.errors import FirstwordsError
from firstwords.model.cost import ModelCost
from firstwords.model.llama import Llama
from firstwords.model.products import products_by_onednn
from firstwords.recipe import Recipe
from firstwords.reporter import Reporter, Silent
from firstwords.tokens.batches import Batches, BatchesAhead
from firstwords.tokens.encoding import TokenFile
from firstwords.training.averaging import WeightAverage
from firstwords.training.checkpoints import saved_states
from firstwords.training.compiling import compiled_for, recorded_context
from firstwords.training.dev_loss import dev_losses
from firstwords.training.devices import Device, choose_device, reproducible
from firstwords.training.keeper import Keeper
from firstwords.training.memory import predicted_bytes
from firstwords.training.micro_batch import least_micro_tokens, micro_tokens_for, resumed_micro_tokens
from firstwords.training.optimizers import make_optimizer
from firstwords.training.processes import ALONE, Processes, joined, share
from firstwords.training.schedule import learning_rate
from firstwords.training.step import Gradients, StepBegun, StepLoss, Steps, in_turn, memory_told, update
from firstwords.training.trackers import MetricsLog, NoLog, StepMetrics, read_metrics


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a finished training run tells of itself."""

    steps: int
    words_seen: int
    tokens: int
    seconds: float
    device: str
    precision: str
    parameters: int
    last_train_loss: float
    last_dev_loss: float
    best_dev_loss: float
    peak_memory_bytes: int


class Interrupted(Exception):
    """The user or the system asked the run to stop; its state has been saved after `step` steps."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step


def train(
    recipe: Recipe,
    vocabulary: int,
    tokens: Path,
    folder: Path,
    *,
    reporter: Reporter | None = None,
    on_checkpoint: Callable[[Path], None] = lambda _: None,
) -> TrainingResult:
    """Train the recipe's model on the token files in `tokens`; everything is written under `folder`.

    A run that was stopped at any moment goes on from its last saved state and ends with the same weights, bit for bit,
    as one that was not, on the same machine. Raises FirstwordsError (exit code 3) where the loss is not finite, and
    Interrupted after Ctrl-C or SIGTERM.
    """
    device = choose_device(recipe.training)
    device.prepare_training()
    with reproducible(recipe.training.deterministic), products_by_onednn(), joined(device.kind) as processes:
        run = _Run(recipe, vocabulary, tokens, folder, device, processes, reporter or Silent(), on_checkpoint)
        run.go_on()
        return run.result()


class _Run:
    """One training: the model, what makes its steps, and what is kept of it."""

    def __init__(
        self,
        recipe: Recipe,
        vocabulary: int,
        tokens: Path,
        folder: Path,
        device: Device,
        processes: Processes,
        reporter: Reporter,
        on_checkpoint: Callable[[Path], None],
    ) -> None:
        """It stands where its newest state left it, or at the begin."""
        self.settings = settings = recipe.training
        self.folder, self.device, self.processes, self.reporter = folder, device, processes, reporter
        self.batches = batches = Batches(TokenFile(tokens, "train"), recipe.tokens, settings, recipe.seed)
        self.dev_tokens, self.token_settings = TokenFile(tokens, "dev"), recipe.tokens
        with memory_told("the model's weights"):
            self.model = model = Llama(recipe.model, vocabulary, seed=recipe.seed).to(device.kind)
        largest, in_all = batches.large_step(), batches.tokens_in_all
        model.gradient_checkpointing = wants_checkpointing(recipe, vocabulary, largest.tokens, device, processes)
        sharded = wants_sharding(recipe, vocabulary, device, processes)
        fusion = compiled_for(model, recipe, in_all, device, reporter.say, sharded=sharded)
        self.step_loss = step_loss = share(StepLoss(model), processes, sharded=sharded)
        with memory_told("what the optimizer and the average hold of each weight"):
            optimizer = make_optimizer(model, settings)
            self.average = WeightAverage(model, settings.ema_decay) if settings.ema_decay is not None else None
        self.scaler = scaler = torch.amp.GradScaler(device.kind, enabled=device.scales_loss)
        self.keeper = Keeper(
            *(folder, settings, model, optimizer, scaler, self.average, processes, on_checkpoint),
            beside=device.leaves_cpu_idle,
        )
        self.progress = self.keeper.resume()
        self.log = MetricsLog(folder / "metrics.jsonl", self.progress.step) if processes.leads else NoLog()
        self.gradients = Gradients(
            *(step_loss, settings, device, scaler, processes, reporter.say),
            fusion=fusion,
            micro_tokens=resumed_micro_tokens(self.progress.micro_tokens, settings)
            or micro_tokens_for(model, recipe, in_all, largest, device, processes, fusion, reporter.say),
            recorded_context=recorded_context(model, recipe, in_all, device, processes),
        )
        self.gradients.expect(largest)
        weights = [*step_loss.parameters()]
        self.steps = Steps(
            batch_of=BatchesAhead(batches).step if device.leaves_cpu_idle else batches.step,
            rate_of=lambda step: learning_rate(step, batches.steps, settings),
            seed_of=lambda step: processes.seed(recipe.seed, step),
            gradients=self.gradients,
            optimizer=optimizer,
            update=lambda: update(weights, optimizer, scaler, settings.clip_norm),
            average=self.average,
            processes=processes,
        )
        self.acts_next = False
        """Whether to stop or to save after the step that has been begun since that was wished."""

    def go_on(self) -> None:
        """Make all steps that are left."""
        read_at = -math.inf
        with _stop_requests() as stop_requested:

            def wishes() -> tuple[bool, bool]:
                return stop_requested(), self.keeper.state_is_due()

            left = range(self.progress.step, self.batches.steps)
            for begun, is_last in in_turn(left, lambda step: self.steps.begin(step, wishes), self._waits_after):
                # All processes have the same numbers: they stop and save after the same step.
                loss, norm, stopping, saving = begun.numbers()
                self.acts_next = bool(stopping or saving) and not is_last
                self._refuse_non_finite(begun, "loss", loss, norm)
                words_before = self.progress.words_seen
                metrics = self._write_down(begun, loss, norm, time.monotonic() - max(begun.started, read_at))
                if self._dev_loss_due(begun.step):
                    self._measure_dev_loss(begun, metrics, norm)
                    stopping = stopping or self.processes.any(stop_requested())  # it may have taken long
                self.keeper.keep_at_words(words_before, self.progress)
                if is_last and (stopping or saving):
                    self.log.flush()
                    self.keeper.save_state(self.progress, wait=bool(stopping))
                if is_last and stopping:
                    raise Interrupted(begun.step + 1)
                read_at = time.monotonic()
        self.log.close()
        self.processes.wait()
        self.keeper.keep_last(self.progress)

    def _waits_after(self, step: int) -> bool:
        """Whether something is done after a step that wants the model as that step leaves it."""
        words = self.batches.words_seen(step), self.batches.words_seen(step + 1)
        done = self._dev_loss_due(step) or self.keeper.keeps_after(*words)
        return done or self.acts_next or not self.device.leaves_cpu_idle

    def _write_down(self, begun: StepBegun, loss: float, norm: float, seconds: float) -> StepMetrics:
        """Count a step, log it and show it."""
        done, words = begun.step + 1, self.batches.words_seen(begun.step + 1)
        self.progress = self.progress.after(done, words, seconds, self.gradients.micro_tokens)
        metrics = StepMetrics(
            *(done, self.batches.epochs_done(done), words, begun.rate, loss),
            *(norm if math.isfinite(norm) else None, begun.batch.tokens, seconds),
        )
        self.log.write(asdict(metrics))
        self.reporter.step(metrics, self.batches.steps)
        return metrics

    def _measure_dev_loss(self, begun: StepBegun, metrics: StepMetrics, norm: float) -> None:
        """Log the dev loss after a step, and keep the model if it is the best."""
        found, of_average = dev_losses(
            self.model, self.step_loss, self.average, self.dev_tokens, self.token_settings, self.device
        )
        self._refuse_non_finite(begun, "dev loss", found.dev_loss, norm)
        place = {"step": metrics.step, "epoch": metrics.epoch, "words_seen": metrics.words_seen}
        self.log.write(place | asdict(found) | of_average)
        self.progress = self.keeper.keep_best(self.progress, found.dev_loss)
        self.reporter.dev(metrics.step, found)

    def _dev_loss_due(self, step: int) -> bool:
        every_steps = self.settings.eval_every_steps
        if every_steps is None:
            return self.batches.ends_epoch(step)
        return (step + 1) % every_steps == 0 or step + 1 == self.batches.steps

    def _refuse_non_finite(self, begun: StepBegun, kind: str, loss: float, norm: float) -> None:
        """A loss that is no number ends the run. fp16's scaler skips steps of infinite gradients, but not for ever."""
        if math.isfinite(loss) and (math.isfinite(norm) or _only_skipped(self.scaler)):
            return
        examples = sorted({sequence.example for sequence in begun.batch.sequences})
        shown = ", ".join(map(str, examples[:8])) + (", ..." if len(examples) > 8 else "")
        states = saved_states(self.keeper.states)
        kept = f"the last good state is kept in {states[-1]}" if states else "no state had been saved before it"
        raise FirstwordsError(
            f"the {kind} is not finite at step {begun.step + 1} ({kind} {loss}, gradient norm {norm})",
            where=f"documents {shown} of the training text; {kept}",
            do="lower training.peak-lr, lengthen training.warmup-steps, set training.clip-norm, or use bf16 or fp32",
            exit_code=3,
        )

    def result(self) -> TrainingResult:
        """What the finished run tells of itself."""
        lines = read_metrics(self.folder / "metrics.jsonl")
        steps = [line for line in lines if "train_loss" in line]
        dev = [line["dev_loss"] for line in lines if "dev_loss" in line]
        return TrainingResult(
            steps=self.progress.step,
            words_seen=self.progress.words_seen,
            tokens=sum(line["tokens"] for line in steps),
            seconds=self.progress.seconds,
            device=self.device.kind,
            precision=self.device.precision,
            parameters=sum(weight.numel() for weight in self.model.parameters()),
            last_train_loss=steps[-1]["train_loss"],
            last_dev_loss=dev[-1],
            best_dev_loss=min(dev),
            peak_memory_bytes=self.device.peak_memory_bytes(),
        )


_LEAST_SCALE = 2.0**-10
"""Of fp16's loss scaling, which begins at 65,536 and is halved in every step that it skips."""


def _only_skipped(scaler: torch.amp.GradScaler) -> bool:
    """Whether a step of infinite gradients was one of those that find a scale. Asking waits for the device."""
    return scaler.is_enabled() and scaler.get_scale() > _LEAST_SCALE


def wants_checkpointing(
    recipe: Recipe, vocabulary: int, step_tokens: int, device: Device, processes: Processes = ALONE
) -> bool:
    """Whether training recomputes activations: as the recipe says; `auto` only where they would not fit the memory.

    step_tokens: of a large step of all processes.
    """
    asked = recipe.training.gradient_checkpointing
    if asked != "auto":
        return asked
    needed = predicted_bytes(
        *(recipe, vocabulary, device, least_micro_tokens(recipe, vocabulary, device, processes)),
        step_tokens=-(-step_tokens // processes.size),
        checkpointing=False,
    )
    return processes.any(needed > 0.9 * device.free_memory_bytes())


_HELD_FLOATS = 4
"""Numbers that a process holds of each weight: itself, its gradient, and two moments."""


def wants_sharding(recipe: Recipe, vocabulary: int, device: Device, processes: Processes) -> bool:
    """Whether processes spread the weights: as the recipe says; `auto` only where one device cannot hold them."""
    settings = recipe.training
    if processes.size == 1 or settings.shard_weights is False:
        return False
    bytes_held = 4 * _HELD_FLOATS * ModelCost.of(recipe.model, vocabulary).parameters
    # One of them may have less memory left than the others.
    wanted = settings.shard_weights is True or processes.any(bytes_held > 0.7 * device.free_memory_bytes())
    if wanted and settings.optimizer == "muon":
        raise FirstwordsError(
            "Muon needs whole matrices, and the weights are to be spread over the processes",
            where="training.shard-weights",
            do='set training.optimizer = "adamw", or training.shard-weights = false where one device holds the model',
        )
    return wanted


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a wish that the loop asks about between steps. A second Ctrl-C stops at once."""
    wishes: list[int] = []

    def note(number: int, _frame: Any) -> None:
        if wishes:
            raise KeyboardInterrupt
        wishes.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: signals are somebody else's
        before = {}
    try:
        yield lambda: bool(wishes)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
