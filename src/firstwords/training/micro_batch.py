"""How many tokens pass the model at once: as the recipe says, or what a short measurement found, remembered.

Parts that are too small leave the device idle and add up the gradients of all weights more often; parts that are too
large fall out of the caches and need memory.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from firstwords.data.download import cache_folder
from firstwords.machine import processor
from firstwords.model.fusion import Fusion
from firstwords.model.llama import Llama
from firstwords.recipe import Recipe
from firstwords.run_folder import atomic_write_json
from firstwords.settings import TrainingSettings
from firstwords.tokens.batches import StepBatch, TokenSequence, flat_batches, micro_batches
from firstwords.training.compiling import is_long
from firstwords.training.devices import Device
from firstwords.training.memory import predicted_bytes
from firstwords.training.processes import ALONE, Processes
from firstwords.training.step import StepLoss, add_gradient, is_out_of_memory

_SIZES = (0.25, 0.5, 1.0, 2.0)
"""What is tried, smallest first, as shares of the device's usual size."""
_WORTH = 0.96
"""A larger part is taken only where it needs no more than this share of the time: it needs more memory for certain."""
_PASSES = 5
"""Times that a size is tried beside the one before it; the fastest counts, as the first makes kernels."""


def micro_tokens_for(
    model: Llama,
    recipe: Recipe,
    tokens: int,
    batch: StepBatch,
    device: Device,
    processes: Processes = ALONE,
    fusion: Fusion | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """Tokens of the largest part in a training on `tokens` in all; measured where it is long enough to win that back.

    batch: of a large step.
    """
    known = known_micro_tokens(recipe, model.vocabulary, device)
    if processes.size > 1:  # the parts of a step are made together, and machines may remember different sizes
        return int(processes.summed((known or device.micro_tokens) if processes.leads else 0)[0])
    if known is not None:
        return known
    sizes = _sizes_for(model, recipe, batch, device)
    if not is_long(recipe, model.vocabulary, tokens):
        return max(size for size in sizes if size <= device.micro_tokens)
    best = _measured(model, sizes, batch, device, fusion, say)
    try:
        atomic_write_json(_memory_of(recipe, model.vocabulary, device), {"micro_tokens": best})
    except OSError:
        say(f"{cache_folder()} cannot be written, so this will be measured again")
    return best


def resumed_micro_tokens(kept: int | None, settings: TrainingSettings) -> int | None:
    """Tokens of a part in a training that goes on: `kept` of its state, or fewer if the recipe now says so."""
    asked = settings.micro_tokens
    return kept if kept is None or asked == "auto" else min(kept, asked)


def least_micro_tokens(recipe: Recipe, vocabulary: int, device: Device, processes: Processes = ALONE) -> int:
    """The smallest part that a training takes by itself before it recomputes activations to save memory."""
    share = _SIZES[0] if processes.size == 1 else 1.0
    return known_micro_tokens(recipe, vocabulary, device) or round(share * device.micro_tokens)


def known_micro_tokens(recipe: Recipe, vocabulary: int, device: Device) -> int | None:
    """Tokens of a part by the recipe, or as an earlier run on this machine found; None where that is to be measured."""
    if recipe.training.micro_tokens != "auto":
        return recipe.training.micro_tokens
    if recipe.training.deterministic:
        return device.micro_tokens
    try:
        found = json.loads(_memory_of(recipe, vocabulary, device).read_text())["micro_tokens"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, int) and found > 0 else None


def _measured(
    model: Llama,
    sizes: list[int],
    batch: StepBatch,
    device: Device,
    fusion: Fusion | None,
    say: Callable[[str], None],
) -> int:
    """The fastest of some sizes, smallest first, on a step's batch."""
    if len(sizes) > 1:
        say("measuring how many tokens should pass the model at once; later runs remember it")
    step_loss = StepLoss(model).train()
    best = sizes[0]
    for size in sizes[1:]:
        part = micro_batches(batch, size)[0]
        try:
            # In turns, so that a slow spell of the machine meets both.
            taken = [[_seconds(step_loss, part, each, device, fusion) for each in (best, size)] for _ in range(_PASSES)]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            break
        usual, larger = map(min, zip(*taken, strict=True))
        if larger > _WORTH * usual:
            break
        best = size
    model.zero_grad()
    device.give_memory_back()
    return best


def _sizes_for(model: Llama, recipe: Recipe, batch: StepBatch, device: Device) -> list[int]:
    """Sizes that fit the memory, up to the first that takes the whole batch."""
    sizes: list[int] = []
    for share in _SIZES:
        size = round(share * device.micro_tokens)
        needed = predicted_bytes(
            *(recipe, model.vocabulary, device, size),
            step_tokens=batch.tokens,
            checkpointing=model.gradient_checkpointing,
        )
        if sizes and (sizes[-1] >= batch.tokens or needed > 0.9 * device.free_memory_bytes()):
            break
        sizes.append(size)
    return sizes


def _seconds(
    step_loss: StepLoss, sequences: Sequence[TokenSequence], size: int, device: Device, fusion: Fusion | None
) -> float:
    """Time of forward and backward over some sequences in parts of `size` tokens."""
    scaler = torch.amp.GradScaler(device.kind, enabled=False)
    count = sum(len(sequence.ids) for sequence in sequences)
    started = time.perf_counter()
    for batch in flat_batches(sequences, size, device.kind):
        with fusion.entered() if fusion else nullcontext():
            loss = add_gradient(step_loss, batch, count, device, scaler)
    float(loss)  # waits for the device
    return time.perf_counter() - started


def _memory_of(recipe: Recipe, vocabulary: int, device: Device) -> Path:
    """The file that remembers, by all that the choice depends on."""
    settings = recipe.training
    accelerator = torch.cuda.get_device_name() if device.kind == "cuda" else processor()
    made_for = (
        *(torch.__version__, recipe.model, vocabulary, recipe.tokens, device, accelerator, torch.get_num_threads()),
        *(settings.batch_size * settings.accumulation, settings.batch_size_schedule, settings.context_schedule),
        *(settings.compile, settings.gradient_checkpointing, _WORTH),
    )
    return cache_folder() / "micro-batches" / f"{hashlib.sha256(repr(made_for).encode()).hexdigest()[:16]}.json"
