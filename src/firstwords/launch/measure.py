"""How fast this machine trains and scores: a few seconds of the real work on the real model."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from firstwords.model.llama import Llama
from firstwords.model.products import products_by_onednn
from firstwords.tokens.batches import Batches, micro_batches
from firstwords.training.compiling import compiled_for, recorded_context
from firstwords.training.devices import Device, choose_device
from firstwords.training.micro_batch import micro_tokens_for
from firstwords.training.optimizers import make_optimizer
from firstwords.training.step import Gradients, StepLoss, update

if TYPE_CHECKING:
    from firstwords.evaluation.pairs import Suite
    from firstwords.recipe import Recipe
    from firstwords.tokens.tokenizer import Vocabulary

_WARM_UP = 2
"""Micro-batches that are not counted: kernels are made and memory is fetched in the first."""
_SAMPLE_PAIRS = 400
_STEPS_RECORDED = 25
"""Steps before those that count, where steps are recorded: most sizes are met in them."""


@dataclass(frozen=True, slots=True)
class TrainingSpeed:
    """What training costs on this machine."""

    seconds_per_token: float
    """Forward and backward."""
    seconds_per_step: float
    """Besides: to gather the batch, to clip, to update."""
    tokens_measured: int
    micro_tokens: int
    """Tokens that passed the model at once, as in the run."""
    peak_memory_bytes: int
    """The most memory that the process (on CUDA: PyTorch) has held."""


@products_by_onednn()
def measure_training(
    recipe: Recipe, vocabulary: int, batches: Batches, device: Device, *, checkpointing: bool, seconds: float = 5.0
) -> TrainingSpeed:
    """Train the recipe's model on its first batches for about so many seconds; at least one whole step."""
    device.prepare_training()
    model = Llama(recipe.model, vocabulary, seed=recipe.seed).to(device.kind)
    model.gradient_checkpointing = checkpointing
    fusion = compiled_for(model, recipe, batches.tokens_in_all, device)
    micro_tokens = micro_tokens_for(model, recipe, batches.tokens_in_all, batches.large_step(), device, fusion=fusion)
    step_loss, weights = StepLoss(model), [*model.parameters()]
    optimizer = make_optimizer(model, recipe.training)
    scaler = torch.amp.GradScaler(device.kind, enabled=device.scales_loss)
    context = recorded_context(model, recipe, batches.tokens_in_all, device)
    gradients = Gradients(
        *(step_loss, recipe.training, device, scaler),
        fusion=fusion,
        micro_tokens=micro_tokens,
        recorded_context=context,
    )
    for step in range(min(_STEPS_RECORDED, batches.steps) if context else 0):
        gradients.add(batches.step(step), seed=step)
    model.zero_grad()
    end = time.monotonic() + seconds
    passes: list[tuple[float, int]] = []
    updates: list[float] = []
    step = 0
    while not updates or time.monotonic() < end:
        started = time.perf_counter()
        batch = batches.step(step % batches.steps)
        gathering = time.perf_counter() - started
        parts = micro_batches(batch, micro_tokens)
        for part in parts:
            targets = sum(len(sequence.ids) - 1 for sequence in part)
            started = time.perf_counter()
            float(gradients.add_part(part, targets, alone=len(parts) == 1))  # waits for the device
            passes.append((time.perf_counter() - started, targets))
            if len(passes) > _WARM_UP and time.monotonic() > end:
                break
        started = time.perf_counter()
        float(update(weights, optimizer, scaler, recipe.training.clip_norm))
        updates.append(gathering + time.perf_counter() - started)
        step += 1
    counted = passes[_WARM_UP:] or passes[-1:]
    tokens = sum(count for _, count in counted)
    return TrainingSpeed(
        sum(taken for taken, _ in counted) / max(tokens, 1),
        # The first update makes the moments, too.
        min(updates) if len(updates) < 3 else sum(updates[1:]) / len(updates[1:]),
        tokens,
        micro_tokens,
        device.peak_memory_bytes(),
    )


def measure_scoring(recipe: Recipe, vocabulary: Vocabulary, suite: Suite, protocols: Sequence[str]) -> float:
    """Seconds that scoring the whole of `suite` under all protocols would take, from a sample of its pairs."""
    from firstwords.evaluation.judging import evaluate_suite
    from firstwords.evaluation.own_model import OwnModel

    device = choose_device(recipe.training)
    model = Llama(recipe.model, vocabulary.size, seed=recipe.seed).to(device.kind).eval()
    subject = OwnModel(recipe.name, model, vocabulary)
    pairs = list(suite.pairs)
    drawn = sorted(random.Random(recipe.seed).sample(range(len(pairs)), min(_SAMPLE_PAIRS, len(pairs))))
    taken = []
    # A small one first: kernels are made.
    for count in (len(drawn) // 8 or 1, len(drawn)):
        sample = replace(suite, pairs=tuple(pairs[place] for place in drawn[:count]))
        started = time.perf_counter()
        evaluate_suite(subject, sample, protocols)
        taken.append(time.perf_counter() - started)
    return taken[-1] * len(pairs) / len(drawn)
