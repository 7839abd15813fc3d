"""What a model and a training step cost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstwords.model.cost import ModelCost, training_flops_per_token, training_memory_bytes
from firstwords.model.llama import Llama
from firstwords.recipe import Recipe
from firstwords.settings import ModelSettings


@settings(max_examples=25)
@given(
    heads=st.integers(1, 4),
    share=st.integers(1, 2),
    head=st.sampled_from((2, 4, 8)),
    layers=st.integers(1, 3),
    intermediate=st.integers(1, 40),
    vocabulary=st.integers(3, 90),
    tied=st.booleans(),
)
def test_parameters_are_those_of_the_model(
    heads: int, share: int, head: int, layers: int, intermediate: int, vocabulary: int, tied: bool
) -> None:
    shape = ModelSettings(
        hidden=heads * share * head,
        heads=heads * share,
        kv_heads=heads,
        layers=layers,
        intermediate=intermediate,
        tied_embeddings=tied,
    )
    model = Llama(shape, vocabulary)
    cost = ModelCost.of(shape, vocabulary)
    assert cost.parameters == sum(weight.numel() for weight in model.parameters())
    used_in_products = {id(w): w.numel() for name, w in model.named_parameters() if w.dim() == 2 and "emb" not in name}
    assert cost.matrix_parameters == sum(used_in_products.values()) + vocabulary * shape.hidden


def test_parameters_of_the_cards() -> None:
    # transformers' own counts of LlamaForCausalLM in these shapes.
    assert ModelCost.of(Recipe.load("model-a").model, 16_002).parameters == 26_450_304
    assert ModelCost.of(Recipe.load("model-b").model, 32_002).parameters == 66_333_184


def test_transformers_counts_the_same() -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = Recipe.load("model-a").model
    config = LlamaConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate,
        vocab_size=16_002,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    assert model.num_parameters() == ModelCost.of(shape, 16_002).parameters


def test_flops_are_six_a_weight_and_grow_with_the_context() -> None:
    shape = Recipe.load("model-a").model
    matrices = ModelCost.of(shape, 16_002).matrix_parameters
    assert training_flops_per_token(shape, 16_002, 0) == 6 * matrices
    assert training_flops_per_token(shape, 16_002, 512) > training_flops_per_token(shape, 16_002, 64)


MEASURED = (
    # recipe, vocabulary, tokens of a sequence, of a micro-batch and of a step that passes at once, half, gradient
    # checkpointing, MB above those of the bare process
    ("model-a", 16_002, 64, 745, 745, True, False, 1_203),
    ("model-b", 32_002, 128, 1_852, 1_852, True, False, 2_158),
    ("model-a", 16_002, 512, 4_096, None, True, False, 1_590),
    ("model-a", 16_002, 64, 4_096, None, True, False, 1_344),
    ("model-a", 16_002, 512, 4_096, None, True, True, 974),
    ("model-b", 32_002, 512, 1_024, None, True, False, 1_853),
    ("model-b", 32_002, 512, 2_048, None, True, False, 2_213),
    ("model-b", 32_002, 512, 4_096, None, True, False, 3_007),
    ("model-a", 16_002, 64, 745, 745, False, False, 1_046),
    ("model-b", 32_002, 128, 1_852, 1_852, False, False, 2_491),
    ("model-a", 16_002, 512, 2_048, None, False, False, 1_439),
    ("model-a", 16_002, 512, 4_096, None, False, False, 2_366),
    ("model-a", 16_002, 512, 4_096, None, False, True, 1_065),
    ("model-b", 32_002, 512, 1_024, None, False, False, 2_079),
    ("model-b", 32_002, 512, 4_096, None, False, False, 4_182),
)
"""Peaks of eight compiled steps by benchmarks/memory.py: Linux with a compiler, PyTorch 2.13, a Zen 4. The first two of
either type are the cards' lines, with the tokens of the largest step, after 36 to 150 steps: in half precision on a
Zen 4, in float32 on a Zen 3."""


@pytest.mark.parametrize(
    ("name", "vocabulary", "context", "tokens", "step", "half", "checkpointing", "measured_mb"), MEASURED
)
def test_memory_is_near_what_was_measured(
    name: str,
    vocabulary: int,
    context: int,
    tokens: int,
    step: int | None,
    half: bool,
    checkpointing: bool,
    measured_mb: int,
) -> None:
    shape = Recipe.load(name).model
    needed = training_memory_bytes(
        *(shape, vocabulary, tokens),
        half=half,
        checkpointing=checkpointing,
        context=context,
        step_tokens=step,
        sizes_vary=step is not None,
    )
    assert needed / 1e6 == pytest.approx(measured_mb, rel=0.15)


@pytest.mark.parametrize(
    ("name", "changes", "vocabulary", "context", "step", "measured_mib"),
    [
        ("model-a", {}, 16_002, 512, 32_768, 5_298),
        ("model-b", {}, 32_002, 512, 32_768, 8_422),
        ("model-b", {"hidden": 768, "layers": 12, "heads": 12}, 32_002, 512, 32_768, 15_306),
        ("model-b", {}, 32_002, 128, 1_792, 2_626),
    ],
)
def test_memory_on_a_gpu_is_near_what_was_measured(
    name: str, changes: dict[str, int], vocabulary: int, context: int, step: int, measured_mib: int
) -> None:
    """Peaks by benchmarks/training.py on an H200, recorded; the last of lines, in steps of many sizes."""
    shape = Recipe.load(name).model.model_copy(update=changes)
    needed = training_memory_bytes(
        *(shape, vocabulary, 32_768),
        half=True,
        checkpointing=False,
        context=context,
        step_tokens=step,
        on_gpu=True,
        sizes_vary=step < 32_768,
    )
    assert needed / 2**20 == pytest.approx(measured_mib, rel=0.15)
