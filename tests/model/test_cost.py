"""What a model and a training step cost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstwords.model.cost import ModelCost, training_flops_per_token, training_memory_bytes
from firstwords.model.llama import Llama
from firstwords.recipe import Recipe
from firstwords.settings import ModelSettings


@settings(max_examples=25, deadline=None)
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
    # recipe, vocabulary, tokens of a sequence and of a micro-batch, half, gradient checkpointing, MB above those of the
    # bare process
    ("model-a", 16_002, 64, 717, True, False, 952),
    ("model-b", 32_002, 128, 1_640, True, False, 2_288),
    ("model-a", 16_002, 512, 4_096, True, False, 2_214),
    ("model-a", 16_002, 64, 4_096, True, False, 2_153),
    ("model-a", 16_002, 512, 4_096, True, True, 1_589),
    ("model-b", 32_002, 512, 1_024, True, False, 2_076),
    ("model-b", 32_002, 512, 2_048, True, False, 2_791),
    ("model-b", 32_002, 512, 4_096, True, False, 3_686),
    ("model-a", 16_002, 64, 745, False, False, 899),
    ("model-b", 32_002, 128, 1_852, False, False, 2_428),
    ("model-a", 16_002, 512, 4_096, False, False, 2_488),
    ("model-a", 16_002, 64, 4_096, False, False, 2_380),
    ("model-a", 16_002, 512, 4_096, False, True, 1_575),
    ("model-b", 32_002, 512, 1_024, False, False, 2_192),
    ("model-b", 32_002, 512, 2_048, False, False, 3_033),
    ("model-b", 32_002, 512, 4_096, False, False, 4_380),
)
"""Peaks of eight compiled steps by benchmarks/memory.py: Linux with glibc, PyTorch 2.13; half on a Xeon, float32 on a
Zen 3. The first two of either are the cards' lines, with the tokens of a usual and of the largest step."""


@pytest.mark.parametrize(("name", "vocabulary", "context", "tokens", "half", "checkpointing", "measured_mb"), MEASURED)
def test_memory_is_near_what_was_measured(
    name: str, vocabulary: int, context: int, tokens: int, half: bool, checkpointing: bool, measured_mb: int
) -> None:
    shape = Recipe.load(name).model
    needed = training_memory_bytes(shape, vocabulary, tokens, half=half, checkpointing=checkpointing, context=context)
    assert needed / 1e6 == pytest.approx(measured_mb, rel=0.15)
