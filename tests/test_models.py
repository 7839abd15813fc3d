from __future__ import annotations

import os
from pathlib import Path

import pytest

from firstwords.models import open_subject
from tests.evaluation.small_models import model_of, save, tokenizer_of


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_process_is_prepared_for_a_folder_too(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizer_of(kind)
    save(model_of(kind, len(tokenizer)), tokenizer, tmp_path / kind)
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    open_subject(str(tmp_path / kind), workspace=tmp_path, device="cpu")
    assert os.environ.get("ONEDNN_PRIMITIVE_CACHE_CAPACITY")
