"""A model's own text ends where the model ends it."""

from __future__ import annotations

from dataclasses import replace

import torch

from firstwords.model.generation import generate
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings
from firstwords.tokens.tokenizer import Vocabulary

SHAPE = ModelSettings(hidden=32, layers=1, heads=2, intermediate=48, positions=64)


def test_it_ends_with_eos_even_where_that_fills_up_too(vocabulary: Vocabulary) -> None:
    model = Llama(SHAPE, vocabulary.size, seed=1)
    for pad_id in (vocabulary.pad_id, vocabulary.eos_id):
        told = replace(vocabulary, pad_id=pad_id)
        with torch.no_grad():
            model.unembedding.weight.zero_()
        # All tokens are as likely, so that it ends by and by; without EOS it never would.
        lengths = [
            len(vocabulary.encode([generate(model, told, "The cat", add_bos=True, seed=seed, max_length=2_000)])[0])
            for seed in range(1)
        ]
        assert max(lengths) < 1_990, pad_id


def test_filling_is_never_made(vocabulary: Vocabulary) -> None:
    model = Llama(SHAPE, vocabulary.size, seed=1)
    with torch.no_grad():
        model.unembedding.weight.zero_()
    text = generate(model, vocabulary, "The cat", add_bos=True, max_length=2_000)
    assert "<pad>" not in text
