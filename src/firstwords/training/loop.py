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
from firstwords.model.cost import ModelCost, training_memory_bytes
from firstwords.model.llama import Llama
from firstwords.model.products import products_by_onednn
from firstwords.recipe import Recipe
from firstwords.reporter import Reporter, Silent
from firstwords.tokens.batches import Batches, BatchesAhead, StepBatch
from firstwords.tokens.encoding import TokenFile
from firstwords.training.averaging import WeightAverage
from firstwords.training.checkpoints import Progress, saved_states
from firstwords.training.compiling import compiled_for, recorded_context
from firstwords.training.dev_loss import dev_losses
from firstwords.training.devices import Device, choose_device, reproducible
from firstwords.training.keeper import Keeper
from firstwords.training.micro_batch import least_micro_tokens, micro_tokens_for, resumed_micro_tokens
from firstwords.training.optimizers import make_optimizer
from firstwords.training.processes import ALONE, Processes, joined, share
from firstwords.training.schedule import learning_rate
from firstwords.training.step import Gradients, StepLoss, Steps, in_turn, update
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
        return _train(recipe, vocabulary, tokens, folder, device, processes, reporter or Silent(), on_checkpoint)


def _train(
    recipe: Recipe,
    vocabulary: int,
    tokens: Path,
    folder: Path,
    device: Device,
    processes: Processes,
    reporter: Reporter,
    on_checkpoint: Callable[[Path], None],
) -> TrainingResult:
    settings = recipe.training
    batches = Batches(TokenFile(tokens, "train"), recipe.tokens, settings, recipe.seed)
    dev_tokens = TokenFile(tokens, "dev")
    model = Llama(recipe.model, vocabulary, seed=recipe.seed).to(device.kind)
    largest = batches.large_step()
    model.gradient_checkpointing = wants_checkpointing(recipe, vocabulary, largest.tokens, device, processes)
    fusion = compiled_for(model, recipe, batches.tokens_in_all, device, processes, reporter.say)
    step_loss = share(StepLoss(model), processes, sharded=wants_sharding(recipe, vocabulary, device, processes))
    optimizer = make_optimizer(model, settings)
    scaler = torch.amp.GradScaler(device.kind, enabled=device.scales_loss)
    average = WeightAverage(model, settings.ema_decay) if settings.ema_decay is not None else None
    source = BatchesAhead(batches) if device.leaves_cpu_idle else batches
    keeper = Keeper(
        folder, settings, model, optimizer, scaler, average, processes, on_checkpoint, beside=device.leaves_cpu_idle
    )
    progress = keeper.resume()
    gradients = Gradients(
        *(step_loss, settings, device, scaler, processes, reporter.say),
        fusion=fusion,
        micro_tokens=resumed_micro_tokens(progress.micro_tokens, settings)
        or micro_tokens_for(model, recipe, batches.tokens_in_all, largest, device, processes, fusion, reporter.say),
        recorded_context=recorded_context(model, recipe, batches.tokens_in_all, device, processes),
    )
    log = MetricsLog(folder / "metrics.jsonl", progress.step) if processes.leads else NoLog()

    steps = Steps(
        batch_of=source.step,
        rate_of=lambda step: learning_rate(step, batches.steps, settings),
        seed_of=lambda step: processes.seed(recipe.seed, step),
        gradients=gradients,
        optimizer=optimizer,
        update=lambda: update(step_loss, optimizer, scaler, settings.clip_norm),
        average=average,
    )
    gradients.expect(largest)

    with _stop_requests() as stop_requested:

        def waits_after(step: int) -> bool:
            """Whether something is done after a step that wants the model as that step leaves it."""
            if processes.size > 1 or not device.leaves_cpu_idle or stop_requested():
                return True  # processes agree after each step whether they stop
            words = batches.words_seen(step), batches.words_seen(step + 1)
            return _dev_loss_due(step, settings.eval_every_steps, batches) or keeper.acts_after(*words)

        read_at = -math.inf
        for begun, is_last in in_turn(range(progress.step, batches.steps), steps.begin, waits_after):
            step, batch, (own_loss, gradient_norm) = begun.step, begun.batch, begun.numbers()
            # What the processes must agree on: they save and stop after the same step.
            loss, stopping, saving = processes.summed(
                own_loss, is_last and stop_requested(), is_last and keeper.state_is_due()
            )
            _refuse_non_finite(step, "loss", loss, gradient_norm, batch, keeper, scaler)

            seconds = time.monotonic() - max(begun.started, read_at)
            words, words_before = batches.words_seen(step + 1), progress.words_seen
            progress = progress.after(step + 1, words, seconds, gradients.micro_tokens)
            metrics = StepMetrics(
                *(step + 1, batches.epochs_done(step + 1), words, begun.rate, loss),
                *(gradient_norm if math.isfinite(gradient_norm) else None, batch.tokens, seconds),
            )
            log.write(asdict(metrics))
            reporter.step(metrics, batches.steps)
            if _dev_loss_due(step, settings.eval_every_steps, batches):
                found, of_average = dev_losses(model, step_loss, average, dev_tokens, recipe.tokens, device)
                _refuse_non_finite(step, "dev loss", found.dev_loss, gradient_norm, batch, keeper, scaler)
                log.write({"step": step + 1, "epoch": metrics.epoch, "words_seen": words} | asdict(found) | of_average)
                progress = keeper.keep_best(progress, found.dev_loss)
                reporter.dev(step + 1, found)
                stopping = stopping or processes.any(stop_requested())  # it may have taken long
            keeper.keep_at_words(words_before, progress)
            if stopping or saving:
                log.flush()
                keeper.save_state(progress, wait=bool(stopping))
            if stopping:
                raise Interrupted(step + 1)
            read_at = time.monotonic()

    log.close()
    processes.wait()
    keeper.keep_last(progress)
    return _result(folder, progress, device, model)


_LEAST_SCALE = 2.0**-10
"""Of fp16's loss scaling, which begins at 65,536 and is halved in every step that it skips."""


def _refuse_non_finite(
    step: int,
    kind: str,
    loss: float,
    gradient_norm: float,
    batch: StepBatch,
    keeper: Keeper,
    scaler: torch.amp.GradScaler,
) -> None:
    """A loss that is no number ends the run. fp16's scaler skips steps with infinite gradients, but not for ever."""
    if math.isfinite(loss) and (math.isfinite(gradient_norm) or _only_skipped(scaler)):
        return
    examples = sorted({sequence.example for sequence in batch.sequences})
    shown = ", ".join(map(str, examples[:8])) + (", ..." if len(examples) > 8 else "")
    states = saved_states(keeper.states)
    kept = f"the last good state is kept in {states[-1]}" if states else "no state had been saved before it"
    raise FirstwordsError(
        f"the {kind} is not finite at step {step + 1} ({kind} {loss}, gradient norm {gradient_norm})",
        where=f"documents {shown} of the training text; {kept}",
        do="lower training.peak-lr, lengthen training.warmup-steps, set training.clip-norm, or use bf16 or fp32",
        exit_code=3,
    )


def _only_skipped(scaler: torch.amp.GradScaler) -> bool:
    """Whether a step of infinite gradients was one of those that find a scale. Asking waits for the device."""
    return scaler.is_enabled() and scaler.get_scale() > _LEAST_SCALE


def _dev_loss_due(step: int, every_steps: int | None, batches: Batches) -> bool:
    if every_steps is None:
        return batches.ends_epoch(step)
    return (step + 1) % every_steps == 0 or step + 1 == batches.steps


def wants_checkpointing(
    recipe: Recipe, vocabulary: int, step_tokens: int, device: Device, processes: Processes = ALONE
) -> bool:
    """Whether training recomputes activations: as the recipe says; `auto` only where they would not fit the memory.

    step_tokens: of a large step of all processes.
    """
    asked = recipe.training.gradient_checkpointing
    if asked != "auto":
        return asked
    needed = training_memory_bytes(
        recipe.model,
        vocabulary,
        least_micro_tokens(recipe, vocabulary, device, processes),
        half=device.precision != "fp32",
        on_gpu=device.kind == "cuda",
        checkpointing=False,
        context=recipe.tokens.context,
        step_tokens=-(-step_tokens // processes.size),
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


def _result(folder: Path, progress: Progress, device: Device, model: Llama) -> TrainingResult:
    lines = read_metrics(folder / "metrics.jsonl")
    steps = [line for line in lines if "train_loss" in line]
    dev = [line["dev_loss"] for line in lines if "dev_loss" in line]
    return TrainingResult(
        steps=progress.step,
        words_seen=progress.words_seen,
        tokens=sum(line["tokens"] for line in steps),
        seconds=progress.seconds,
        device=device.kind,
        precision=device.precision,
        parameters=sum(weight.numel() for weight in model.parameters()),
        last_train_loss=steps[-1]["train_loss"],
        last_dev_loss=dev[-1],
        best_dev_loss=min(dev),
        peak_memory_bytes=device.peak_memory_bytes(),
    )
