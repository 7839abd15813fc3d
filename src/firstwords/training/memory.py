"""How much memory a recipe's training will hold on a device."""

from __future__ import annotations

from firstwords.model.cost import training_memory_bytes
from firstwords.recipe import Recipe
from firstwords.training.devices import Device


def predicted_bytes(
    recipe: Recipe, vocabulary: int, device: Device, micro_tokens: int, *, step_tokens: int, checkpointing: bool
) -> int:
    """The peak of a training in micro-batches of `micro_tokens` tokens, without the process itself.

    step_tokens: of one process's part of a large step.
    """
    return training_memory_bytes(
        recipe.model,
        vocabulary,
        micro_tokens,
        half=device.precision != "fp32",
        on_gpu=device.kind == "cuda",
        in_tiles=device.multiplies_in_tiles,
        checkpointing=checkpointing,
        context=recipe.tokens.context,
        step_tokens=step_tokens,
        sizes_vary=recipe.tokens.examples == "lines",
    )
