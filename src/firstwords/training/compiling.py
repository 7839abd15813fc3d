"""Whether a training runs compiled, and the compiling before its first step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from firstwords.errors import FirstwordsError
from firstwords.model.cost import training_flops_per_token
from firstwords.model.flash import flash_is_there
from firstwords.model.fusion import CompiledLoops, CudaKernels, Fusion, missing_for_fusion
from firstwords.model.llama import Llama
from firstwords.recipe import Recipe
from firstwords.tokens.batches import TokenSequence, flat
from firstwords.training.devices import Device
from firstwords.training.processes import ALONE, Processes
from firstwords.training.step import StepLoss, add_gradient

_LONG_FLOPS = 1e14
"""Trainings below it end within a few minutes on two cores, and would win little."""
_FIRST_TOKENS = 1_024
"""Size of the batch that is compiled for first."""
_SHORT = 33
"""Tokens of the sequences in it that share a row: the code for them is another."""


def is_long(recipe: Recipe, vocabulary: int, tokens: int) -> bool:
    """Whether a training on so many tokens in all wins back half a minute of preparations."""
    return tokens * training_flops_per_token(recipe.model, vocabulary, 0) >= _LONG_FLOPS


def recorded_context(
    model: Llama, recipe: Recipe, tokens: int, device: Device, processes: Processes = ALONE
) -> int | None:
    """Tokens of a sequence at most in a training that is recorded as CUDA graphs, on so many tokens in all.

    None where it is not: recorded is what is long and runs on one GPU alone.
    """
    # What is recomputed draws the same random numbers again, and asks the device for them, which cannot be recorded.
    able = flash_is_there(device.kind) and device.precision != "fp32" and not model.gradient_checkpointing
    if not able or recipe.training.compile is False or processes.size > 1:
        return None
    worth = recipe.training.compile is True or is_long(recipe, model.vocabulary, tokens)
    return recipe.tokens.context if worth else None


def compiled_for(
    model: Llama,
    recipe: Recipe,
    tokens: int,
    device: Device,
    say: Callable[[str], None] = lambda _: None,
    *,
    sharded: bool = False,
) -> Fusion | None:
    """How chains are fused in a training on so many tokens in all; None where they run as they are written.

    sharded: processes will spread the weights. Raises FirstwordsError where the recipe asks for it and the machine has
    no compiler.
    """
    asked, context = recipe.training.compile, recipe.tokens.context
    missing = missing_for_fusion(device.kind)
    if asked is True and missing is not None:
        raise FirstwordsError(
            f"compiling needs {missing}, and there is none",
            where="training.compile",
            do='install one, or set training.compile = "auto"',
        )
    worth = asked is True or (missing is None and is_long(recipe, model.vocabulary, tokens))
    # Loops are compiled for whole weights, and would be anew, in the first step, for those that were gathered.
    if not asked or not worth or (sharded and device.kind == "cpu"):
        return None
    if device.kind == "cuda":
        fusion: Fusion = CudaKernels()
        say("compiling the model's kernels; a first time takes some seconds")
    else:
        fusion = CompiledLoops(f"{recipe.model} {model.vocabulary} {context} {device} {torch.get_num_threads()}")
        say("compiling the model's loops; a first time takes about half a minute")
    try:
        _compile(fusion, StepLoss(model), context, device)
    except Exception as error:
        if asked is True:
            raise
        told = str(error).strip().splitlines() or [type(error).__name__]
        say(f"compiling failed ({told[0]}); training goes on without, more slowly")
        return None
    finally:
        model.zero_grad()
    return fusion


def _compile(fusion: Fusion, step_loss: StepLoss, context: int, device: Device) -> None:
    """Run forward and backward on a batch whose sizes depend on the context alone."""
    lengths = [context] * max(2, _FIRST_TOKENS // context) + [min(context, _SHORT)] * 2
    sequences = [TokenSequence(np.zeros(length + 1, dtype=np.int64), row) for row, length in enumerate(lengths)]
    batch = flat(sequences, device.kind)
    step_loss.train()
    with fusion.entered():
        add_gradient(step_loss, batch, 1, device, torch.amp.GradScaler(device.kind, enabled=False))
