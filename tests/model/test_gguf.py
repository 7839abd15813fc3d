"""A GGUF file holds our weights, our tokens and our shape, and other programs' code reads the same model from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from firstwords.errors import FirstwordsError
from firstwords.model.attention import Layout
from firstwords.model.gguf import write_gguf
from firstwords.model.hub import to_transformers_weights
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings, TokenizerSettings, TokenSettings
from firstwords.tokens.tokenizer import Vocabulary, learn_tokenizer

SHAPES = {
    "plain": ModelSettings(hidden=64, layers=2, heads=4, intermediate=96, positions=256, init_std=0.2),
    "grouped": ModelSettings(
        hidden=64, layers=2, heads=4, kv_heads=2, intermediate=96, positions=256, rope_theta=500.0, rms_norm_eps=1e-5
    ),
    "tied": ModelSettings(hidden=48, layers=2, heads=3, intermediate=64, positions=128, tied_embeddings=True),
}
TEXTS = ["The cat sleeps near the tree.", "Some birds sing,\n\n  and it's 12!", "Ünïcode — “quotes” 😀\t."]


@pytest.fixture(params=SHAPES)
def model(request: pytest.FixtureRequest, vocabulary: Vocabulary) -> Llama:
    model = Llama(SHAPES[request.param], vocabulary.size, seed=7).eval()
    with torch.no_grad():
        for number, norm in enumerate([weight for weight in model.parameters() if weight.dim() == 1]):
            norm.normal_(1.0, 0.1, generator=torch.Generator().manual_seed(number))
    return model


def value(reader: GGUFReader, key: str) -> object:
    field = reader.get_field(key)
    assert field is not None, key
    return field.contents()


def weights_of(reader: GGUFReader, shape: ModelSettings) -> dict[str, torch.Tensor]:
    """The file's tensors under LlamaForCausalLM's names and in its order, written out anew from the two rules."""
    parts = {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    outer = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    found = {}
    for tensor in reader.tensors:
        stem = tensor.name.removesuffix(".weight")
        weight = np.array(tensor.data)
        if stem in outer:
            found[f"{outer[stem]}.weight"] = torch.from_numpy(weight)
            continue
        _, number, part = stem.split(".")
        if part in ("attn_q", "attn_k"):
            heads = shape.heads if part == "attn_q" else shape.kv_heads or shape.heads
            half = weight.shape[0] // heads // 2
            ours = np.empty_like(weight)
            for head in range(heads):
                for i in range(half):
                    start = head * 2 * half
                    ours[start + i], ours[start + half + i] = weight[start + 2 * i], weight[start + 2 * i + 1]
            weight = ours
        found[f"model.layers.{number}.{parts[part]}.weight"] = torch.from_numpy(weight)
    return found


@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_every_weight_is_read_back(model: Llama, vocabulary: Vocabulary, tmp_path: Path, kind: str) -> None:
    written = write_gguf(model, vocabulary, tmp_path / "m.gguf", name="m", kind=kind)
    assert written.bytes == (tmp_path / "m.gguf").stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"], "nothing else is left behind"
    reader = GGUFReader(tmp_path / "m.gguf")
    found, expected = weights_of(reader, model.shape), to_transformers_weights(model)
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        half = kind == "f16" and weight.dim() == 2
        assert found[name].dtype == (torch.float16 if half else torch.float32), name
        assert torch.equal(found[name], weight.half() if half else weight), name
    assert value(reader, "general.file_type") == {"f32": 0, "f16": 1}[kind]


def test_the_shape_is_told(model: Llama, vocabulary: Vocabulary, tmp_path: Path) -> None:
    write_gguf(model, vocabulary, tmp_path / "m.gguf", name="my model", license="mit", description="Of a test.")
    reader, shape = GGUFReader(tmp_path / "m.gguf"), model.shape
    told = {
        "general.architecture": "llama",
        "general.name": "my model",
        "general.license": "mit",
        "llama.vocab_size": vocabulary.size,
        "llama.context_length": shape.positions,
        "llama.embedding_length": shape.hidden,
        "llama.block_count": shape.layers,
        "llama.feed_forward_length": shape.intermediate,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.kv_heads or shape.heads,
        "llama.rope.dimension_count": shape.hidden // shape.heads,
        "llama.rope.freq_base": shape.rope_theta,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.bos_token_id": vocabulary.bos_id,
        "tokenizer.ggml.eos_token_id": vocabulary.eos_id,
        "tokenizer.ggml.padding_token_id": vocabulary.pad_id,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
    }
    assert {key: value(reader, key) for key in told} == told
    assert value(reader, "llama.attention.layer_norm_rms_epsilon") == pytest.approx(shape.rms_norm_eps)
    assert str(value(reader, "general.description")).startswith("Of a test. ")


def test_tokens_and_merges_alone_make_the_tokenizer_again(vocabulary: Vocabulary, tmp_path: Path) -> None:
    write_gguf(Llama(SHAPES["plain"], vocabulary.size), vocabulary, tmp_path / "m.gguf", name="m")
    reader = GGUFReader(tmp_path / "m.gguf")
    tokens, types = value(reader, "tokenizer.ggml.tokens"), value(reader, "tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in value(reader, "tokenizer.ggml.merges")]
    specials = {vocabulary.bos_id, vocabulary.eos_id, vocabulary.pad_id}
    assert types == [3 if number in specials else 1 for number in range(vocabulary.size)]
    vocab = {token: number for number, token in enumerate(tokens) if types[number] == 1}
    again = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    again.pre_tokenizer, again.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    for text in TEXTS:
        assert again.encode(text).ids == vocabulary.encode([text])[0]


def test_transformers_reads_the_same_model_and_tokenizer_from_it(
    model: Llama, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    write_gguf(model, vocabulary, tmp_path / "m.gguf", name="m")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    for text in TEXTS:
        ids = vocabulary.tokenizer.encode(text).ids
        assert tokenizer(text)["input_ids"] == ids
        with torch.no_grad():
            ours = model(torch.tensor(ids), Layout.of([len(ids)]))
            assert (theirs(torch.tensor([ids])).logits[0] - ours).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (TokenizerSettings(vocabulary=300, normalizer=("nfd", "lowercase")), ["(Unicode NFD)", "lower case"]),
        (TokenizerSettings(vocabulary=300, normalizer=("nfc", "strip")), ["(Unicode NFC)", "off both ends"]),
        (TokenizerSettings(vocabulary=300, normalizer=(), prefix_space=True), ["a space before the first word"]),
        (TokenizerSettings(vocabulary=300, normalizer=()), []),
    ],
)
def test_what_gguf_cannot_say_of_the_tokenizer_is_told(
    small_text: Path, tmp_path: Path, settings: TokenizerSettings, words: list[str]
) -> None:
    learn_tokenizer(settings, TokenSettings(add_bos=False), small_text, tmp_path / "tokenizer", max_length=256)
    vocabulary = Vocabulary.load(tmp_path / "tokenizer")
    written = write_gguf(Llama(SHAPES["tied"], vocabulary.size), vocabulary, tmp_path / "m.gguf", name="m")
    reader = GGUFReader(tmp_path / "m.gguf")
    assert len(written.lost) == len(words)
    for said, word in zip(written.lost, words, strict=True):
        assert word in said
        assert said in str(value(reader, "general.description"))
    assert value(reader, "firstwords.tokenizer.prefix_space") is settings.prefix_space
    names = str(value(reader, "firstwords.tokenizer.normalizer")).lower()
    assert names == (",".join(settings.normalizer) or "none")
    assert value(reader, "tokenizer.ggml.add_bos_token") is False


def test_rows_without_a_token_are_unused(vocabulary: Vocabulary, tmp_path: Path) -> None:
    write_gguf(Llama(SHAPES["plain"], vocabulary.size + 5), vocabulary, tmp_path / "m.gguf", name="m")
    reader = GGUFReader(tmp_path / "m.gguf")
    tokens = value(reader, "tokenizer.ggml.tokens")
    assert len(tokens) == len(set(tokens)) == vocabulary.size + 5
    assert value(reader, "tokenizer.ggml.token_type")[-6:] == [3, 5, 5, 5, 5, 5]
    with pytest.raises(FirstwordsError, match=f"the tokenizer has {vocabulary.size} tokens"):
        write_gguf(Llama(SHAPES["plain"], vocabulary.size - 1), vocabulary, tmp_path / "other.gguf", name="m")


def test_another_kind_of_tokenizer_is_refused(vocabulary: Vocabulary, tmp_path: Path) -> None:
    words = Tokenizer(models.WordLevel({"the": 0, "<s>": 1}, unk_token="<s>"))
    strange = Vocabulary(words, 1, 1, 1)
    with pytest.raises(FirstwordsError, match=r"its model\.type is 'WordLevel'"):
        write_gguf(Llama(SHAPES["plain"], 2), strange, tmp_path / "m.gguf", name="m")
    numbers = Tokenizer.from_str(vocabulary.tokenizer.to_str())
    numbers.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.ByteLevel()])
    with pytest.raises(FirstwordsError, match=r"its pre_tokenizer\.type is 'Sequence'"):
        write_gguf(Llama(SHAPES["plain"], vocabulary.size), Vocabulary(numbers, 1, 1, 1), tmp_path / "m.gguf", name="m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("spoil", "code"), [(float("nan"), 3), (1e6, 2)])
def test_weights_that_do_not_fit_leave_no_file(vocabulary: Vocabulary, tmp_path: Path, spoil: float, code: int) -> None:
    model = Llama(SHAPES["plain"], vocabulary.size)
    with torch.no_grad():
        model.blocks[1].feed_forward.down.weight[3, 4] = spoil
    (tmp_path / "m.gguf").write_text("the file of before")
    with pytest.raises(FirstwordsError, match=r"the weights blk\.1\.ffn_down\.weight") as caught:
        write_gguf(model, vocabulary, tmp_path / "m.gguf", name="m", kind="f16")
    assert caught.value.exit_code == code
    assert (tmp_path / "m.gguf").read_text() == "the file of before"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_package_is_named_with_the_line_that_installs_it(tmp_path: Path) -> None:
    """In an interpreter whose paths lack the package; the module itself is imported without it."""
    code = (
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "found = PathFinder.find_spec\n"
        "PathFinder.find_spec = lambda name, *more: None if name == 'gguf' else found(name, *more)\n"
        "from firstwords.model.gguf import check_gguf_is_installed\n"
        "assert 'gguf' not in sys.modules\n"
        "check_gguf_is_installed()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'python -m pip install "gguf>=0.19"' in done.stderr
