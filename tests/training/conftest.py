"""A tiny text, tokenized, and a recipe that trains on it in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from firstwords.recipe import Recipe
from firstwords.settings import TokenSettings
from firstwords.tokens.encoding import encode_corpus
from firstwords.tokens.tokenizer import Vocabulary
from tests.conftest import TEXT


@pytest.fixture(scope="session")
def tokens(vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokens stage of a small corpus."""
    corpus = tmp_path_factory.mktemp("corpus")
    documents = [text + "\n\n" for text in TEXT.split("\n\n") if text]
    for name, part in (("train", documents[:-8]), ("dev", documents[-8:])):
        ends = np.cumsum([len(text) for text in part])
        starts = ends - [len(text) for text in part]
        np.save(corpus / f"{name}.index.npy", np.stack([starts, ends - 2, np.zeros_like(ends)], axis=1))
        (corpus / f"{name}.txt").write_text("".join(part))
    folder = tmp_path_factory.mktemp("tokens")
    encode_corpus(corpus, TokenSettings(context=32), vocabulary, folder)
    return folder


EVERYTHING = {
    "optimizer": "muon", "muon_lr": 4e-3, "weight_decay": 0.1, "weight_decay_embeddings": 0.01,
    "weight_decay_norms": 0.02, "schedule": "warmup-stable-decay", "decay_share": 0.4, "decay_shape": "1-sqrt",
    "batch_size_schedule": [[2, 0.2], [3, 0.6]], "context_schedule": [[8, 0.3], [16, 0.5]], "dropout": 0.1,
    "z_loss": 1e-3, "ema_decay": 0.9, "select": "ema", "accumulation": 2, "eval_every_steps": 7,
}  # fmt: skip
"""Every choice of optimizer and schedule at once, for `recipe_with`."""


def recipe_with(dropout: float = 0.1, **training: object) -> Recipe:
    """A small recipe; keyword arguments are training settings and the dropout."""
    values = {
        "name": "tiny",
        "corpus": {"sources": {"text": {}}, "budget": "10kB", "dev-budget": "1kB"},
        "tokens": {"context": 32},
        "model": {"hidden": 32, "layers": 2, "heads": 2, "intermediate": 48, "positions": 64, "dropout": dropout},
        "training": {"epochs": 3, "batch-size": 4, "peak-lr": 3e-3, "warmup-steps": 5, "device": "cpu"}
        | {key.replace("_", "-"): value for key, value in training.items()},
    }
    return Recipe.build(values, "test")
