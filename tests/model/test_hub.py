"""Our LLaMA and transformers' are the same function, in both directions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from firstwords.errors import FirstwordsError
from firstwords.model.attention import Layout
from firstwords.model.hub import load_folder, save_folder
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings
from firstwords.tokens.tokenizer import Vocabulary

SHAPES = {
    "plain": ModelSettings(hidden=64, layers=3, heads=4, intermediate=96, positions=256),
    "grouped": ModelSettings(
        hidden=64, layers=2, heads=4, kv_heads=2, intermediate=96, positions=256, rope_theta=500.0
    ),
    "tied": ModelSettings(hidden=48, layers=2, heads=4, intermediate=64, positions=256, tied_embeddings=True),
}


@pytest.fixture(params=SHAPES)
def model(request: pytest.FixtureRequest, vocabulary: Vocabulary) -> Llama:
    return Llama(SHAPES[request.param], vocabulary.size, seed=7).eval()


def test_transformers_gives_equal_logits_and_reads_back(
    model: Llama, vocabulary: Vocabulary, tokenizer_folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    save_folder(model, vocabulary, tokenizer_folder, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.randint(0, vocabulary.size, (200,), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = model(ids, Layout.of([200]))
        assert (theirs(ids[None]).logits[0] - ours).abs().max() < 1e-5
        theirs.save_pretrained(tmp_path / "back")
        AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path / "back")
        again, vocabulary_again = load_folder(tmp_path / "back")
        assert torch.equal(again(ids, Layout.of([200])), ours)
    assert vocabulary_again.encode(["A cat sleeps."]) == vocabulary.encode(["A cat sleeps."])


def test_generates_as_on_the_cards(
    model: Llama, vocabulary: Vocabulary, tokenizer_folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    save_folder(model, vocabulary, tokenizer_folder, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    inputs = tokenizer("The cat", return_tensors="pt")
    assert inputs["input_ids"][0, 0] == vocabulary.bos_id, "training began every document with BOS"
    out = AutoModelForCausalLM.from_pretrained(tmp_path).generate(**inputs, max_length=50, temperature=0.7)
    assert isinstance(tokenizer.decode(out[0], skip_special_tokens=True), str)


def test_another_kind_of_model_is_refused(vocabulary: Vocabulary, tokenizer_folder: Path, tmp_path: Path) -> None:
    save_folder(Llama(SHAPES["plain"], vocabulary.size), vocabulary, tokenizer_folder, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"attention_bias": True}))
    with pytest.raises(FirstwordsError, match="no LLaMA"):
        load_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(FirstwordsError, match="cannot be read"):
        load_folder(tmp_path)
