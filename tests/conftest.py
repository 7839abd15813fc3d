"""Fixtures that many tests share."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
import torch

from firstwords.model import matrices
from firstwords.settings import TokenizerSettings, TokenSettings
from firstwords.tokens.tokenizer import Vocabulary, learn_tokenizer

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is first imported: kernels of CUDA run on the CPU

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("firstwords", deadline=None)
hypothesis.settings.load_profile("firstwords")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real text and test sets beside the checkout; its licenses forbid a copy in the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real texts are not there: {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def tiles_of_none_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training on a CPU with a matrix unit leaves its process prepared for more; each test begins without."""
    monkeypatch.setattr(matrices, "_in_tiles", False)


TEXT = "".join(
    f"The {noun} {verb}s near the {other}.\nSome {other}s {verb} and a {noun} does too, quietly.\n\n"
    for noun in ("cat", "dog", "bird", "girl", "boy", "teacher")
    for verb in ("sleep", "sing", "run", "talk", "eat")
    for other in ("tree", "house", "river", "car")
)


@pytest.fixture(scope="session")
def small_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few kilobytes of plain sentences."""
    path = tmp_path_factory.mktemp("text") / "small.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="session")
def tokenizer_folder(small_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer learnt from `small_text`."""
    folder = tmp_path_factory.mktemp("tokenizer")
    settings = TokenizerSettings(vocabulary=300)
    learn_tokenizer(settings, TokenSettings(), small_text, folder, max_length=256)
    return folder


@pytest.fixture(scope="session")
def vocabulary(tokenizer_folder: Path) -> Vocabulary:
    """The tokenizer of `tokenizer_folder`."""
    return Vocabulary.load(tokenizer_folder)
