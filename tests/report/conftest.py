"""A real run, made once: a tiny model on the built-in grammar, from text to the exported folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from firstwords import pipeline
from firstwords.recipe import Recipe
from firstwords.run_folder import RunFolder

TINY = """
name = "tiny"
description = "A model of the tests"

[corpus]
budget = "40 kB"
dev-budget = "6 kB"

[corpus.sources.wiki]
at = "grammar:encyclopedic"

[corpus.sources.talk]
at = "grammar:conversation"

[tokenizer]
vocabulary = 400
bos = "<|start|>"

[tokens]
context = 32

[model]
hidden = 32
layers = 2
heads = 2
intermediate = 64
positions = 64

[training]
epochs = 2
batch-size = 16
warmup-steps = 5
peak-lr = 1e-2
log-every-steps = 10
device = "cpu"

[evaluation]
suites = ["grammar.firstwords"]
untrained-control = true

[export]
license = "apache-2.0"
prompts = ["The teacher", "Most of the birds"]
"""


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run."""
    workspace = tmp_path_factory.mktemp("runs")
    return pipeline.run(Recipe.parse(TINY.encode(), "tiny.toml"), workspace=workspace, offline=True)


@pytest.fixture(scope="session")
def card_file(tiny_run: RunFolder) -> Path:
    """The run's model card."""
    return tiny_run.path / "model" / "README.md"
