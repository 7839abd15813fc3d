"""A GGUF file, for llama.cpp and the programs that are built on it: our weights and our tokenizer in its terms.

The package `gguf` writes the container. What the tensors and the tokens are called, and how the weights lie, is here.

Shape letters: H heads (of queries, or of keys), E width of a head, D hidden width.
Source of the keys and names: the GGUF specification (ggml, docs/gguf.md).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from firstwords.errors import FirstwordsError
from firstwords.model.hub import to_transformers_weights
from firstwords.model.llama import Llama
from firstwords.tokens.tokenizer import Vocabulary

if TYPE_CHECKING:
    from gguf import GGUFWriter

GgufType = Literal["f32", "f16"]
"""How matrices are stored; vectors (the norms) are float32 in both."""

_OUTER_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_BLOCK_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_LARGEST_FLOAT16 = 65_504.0

_NORMALIZERS = {
    "NFC": "composes accents with their letters (Unicode NFC)",
    "NFD": "takes accents off their letters as characters of their own (Unicode NFD)",
    "NFKC": "replaces characters by plain compatible ones (Unicode NFKC)",
    "Lowercase": "makes every letter lower case",
    "Strip": "takes white space off both ends",
}
"""What a step of a tokenizer's normalizer does to a text, by the name that tokenizer.json has for it."""


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A GGUF file that was written. lost: one sentence for each thing of the tokenizer that it cannot say."""

    path: Path
    bytes: int
    lost: tuple[str, ...]


def check_gguf_is_installed() -> None:
    """Raises FirstwordsError, with the line that installs it, where the package `gguf` is missing."""
    if find_spec("gguf") is None:
        raise FirstwordsError(
            "to write a GGUF file the package gguf is needed, and it is not installed",
            where="--gguf",
            do='install it with: python -m pip install "gguf>=0.19"',
        )


def write_gguf(
    model: Llama,
    vocabulary: Vocabulary,
    path: Path,
    *,
    name: str,
    kind: GgufType = "f32",
    license: str | None = None,
    description: str = "",
) -> GgufFile:
    """Write the model with its tokenizer to `path`, whole or not at all.

    The tokenizers of programs that read GGUF change no text before they cut it. A normalizer or prefix space that our
    texts go through is therefore told in the file's description, under `firstwords.*` keys, and in what is returned.
    Raises FirstwordsError where the package is missing, the tokenizer is no ByteLevel BPE with GPT-2's rule of
    cutting words, or a weight is not finite in `kind`.
    """
    check_gguf_is_installed()
    from gguf import GGUFWriter

    said = _Tokenizer.of(vocabulary, rows=model.vocabulary)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    writer = GGUFWriter(temporary, "llama")
    try:
        _add_origin(writer, name, license, " ".join([description, *said.lost]).strip(), kind)
        _add_shape(writer, model)
        _add_tokenizer(writer, said, vocabulary)
        for tensor, weight in _tensors(model):
            writer.add_tensor(tensor, _stored(tensor, weight, kind).numpy())
        path.parent.mkdir(parents=True, exist_ok=True)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        temporary.replace(path)
    finally:
        writer.close()
        temporary.unlink(missing_ok=True)
    return GgufFile(path, path.stat().st_size, said.lost)


# ---- weights ----


def _tensors(model: Llama) -> Iterator[tuple[str, Tensor]]:
    """The weights under llama.cpp's names; with tied embeddings there is no `output.weight`, as it expects."""
    # Queries and keys are rotated, by the heads that they have.
    rotated = {"self_attn.q_proj": model.shape.heads, "self_attn.k_proj": model.shape.kv_heads or model.shape.heads}
    for name, weight in to_transformers_weights(model).items():
        stem = name.removesuffix(".weight")
        if stem in _OUTER_NAMES:
            yield f"{_OUTER_NAMES[stem]}.weight", weight
        else:
            number, part = stem.removeprefix("model.layers.").split(".", 1)
            laid = _neighbours_paired(weight, rotated[part]) if part in rotated else weight
            yield f"blk.{number}.{_BLOCK_NAMES[part]}.weight", laid


def _neighbours_paired(weight_HED: Tensor, heads: int) -> Tensor:
    """Rows in the order that llama.cpp's rotation wants for the architecture `llama`; (H * E, D) as given.

    We turn row i of a head together with row i + E/2, and it turns row 2i together with row 2i + 1 by the same angle.
    So the second half is dealt between the rows of the first. Queries and keys are dealt alike: their products stay.
    """
    width = weight_HED.shape[0] // heads
    order_E = torch.arange(width).view(2, width // 2).T.flatten()
    return weight_HED.view(heads, width, -1)[:, order_E].reshape(weight_HED.shape)


def _stored(name: str, weight: Tensor, kind: GgufType) -> Tensor:
    # llama.cpp multiplies by the norms in float32 alone.
    half = kind == "f16" and weight.dim() > 1
    largest = weight.abs().max().item()
    if not largest < float("inf"):
        raise FirstwordsError(f"the weights {name} are not finite", where="the model", do="train it again", exit_code=3)
    if half and largest > _LARGEST_FLOAT16:
        raise FirstwordsError(
            f"the weights {name} reach {largest:,.0f}, more than a float16 can hold",
            where="--gguf f16",
            do="--gguf f32",
        )
    return weight.to(torch.float16 if half else torch.float32).contiguous()


# ---- what the file says ----


def _add_origin(writer: GGUFWriter, name: str, license: str | None, description: str, kind: GgufType) -> None:
    from gguf import LlamaFileType

    writer.add_type("model")
    writer.add_name(name)
    if description:
        writer.add_description(description)
    if license:
        writer.add_license(license)
    writer.add_file_type({"f32": LlamaFileType.ALL_F32, "f16": LlamaFileType.MOSTLY_F16}[kind])


def _add_shape(writer: GGUFWriter, model: Llama) -> None:
    shape = model.shape
    head = shape.hidden // shape.heads
    writer.add_vocab_size(model.vocabulary)
    writer.add_context_length(shape.positions)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads or shape.heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(shape.rms_norm_eps)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(shape.rope_theta)


def _add_tokenizer(writer: GGUFWriter, said: _Tokenizer, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(said.tokens)
    writer.add_token_types(said.types)
    writer.add_token_merges(said.merges)
    writer.add_bos_token_id(vocabulary.bos_id)
    writer.add_eos_token_id(vocabulary.eos_id)
    writer.add_pad_token_id(vocabulary.pad_id)
    writer.add_add_bos_token(said.adds_bos)
    writer.add_add_eos_token(said.adds_eos)
    writer.add_add_space_prefix(said.prefix_space)
    # The package leaves empty strings out of the file.
    writer.add_string("firstwords.tokenizer.normalizer", ",".join(said.normalizers) or "none")
    writer.add_bool("firstwords.tokenizer.prefix_space", said.prefix_space)


@dataclass(frozen=True, slots=True)
class _Tokenizer:
    """A ByteLevel BPE as GGUF lists it: tokens by their ids, their types, and the merges in their order."""

    tokens: list[str]
    types: list[int]
    merges: list[str]
    adds_bos: bool
    adds_eos: bool
    normalizers: list[str]
    prefix_space: bool

    @classmethod
    def of(cls, vocabulary: Vocabulary, *, rows: int) -> _Tokenizer:
        """Raises FirstwordsError for a tokenizer that cuts texts in another way than `gpt2` in GGUF does.

        rows: tokens that the model knows; those without a name are said to be unused.
        """
        values = json.loads(vocabulary.tokenizer.to_str())
        _check_is_gpt2(values)
        tokens, types = _token_list(vocabulary, values, rows)
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in values["model"]["merges"]]
        adds_bos, adds_eos = _added_around(vocabulary)
        prefix_space = values["pre_tokenizer"]["add_prefix_space"]
        return cls(tokens, types, merges, adds_bos, adds_eos, _normalizers(values["normalizer"]), prefix_space)

    @property
    def lost(self) -> tuple[str, ...]:
        """One sentence for each thing that is done to texts before they are cut, and that no reader of GGUF does."""
        steps = [_NORMALIZERS.get(step, f"changes every text by the step {step}") for step in self.normalizers]
        if self.prefix_space:
            steps.append("puts a space before the first word")
        return tuple(
            f"The model's own tokenizer {step}; programs that read GGUF do not, so do it to the text first."
            for step in steps
        )


def _check_is_gpt2(values: Mapping[str, Any]) -> None:
    model, cutting, decoder = values["model"], values["pre_tokenizer"] or {}, values["decoder"] or {}
    expected = {
        "model.type": (model.get("type"), "BPE"),
        "model.dropout": (model.get("dropout"), None),
        "model.unk_token": (model.get("unk_token"), None),
        "model.continuing_subword_prefix": (model.get("continuing_subword_prefix") or None, None),
        "model.end_of_word_suffix": (model.get("end_of_word_suffix") or None, None),
        "model.byte_fallback": (model.get("byte_fallback", False), False),
        "model.ignore_merges": (model.get("ignore_merges", False), False),
        "pre_tokenizer.type": (cutting.get("type"), "ByteLevel"),
        "pre_tokenizer.use_regex": (cutting.get("use_regex", True), True),
        "decoder.type": (decoder.get("type"), "ByteLevel"),
    }
    for key, (found, wanted) in expected.items():
        if found != wanted:
            raise FirstwordsError(
                f"the tokenizer cannot be said in GGUF: it is no ByteLevel BPE as GPT-2's, its {key} is {found!r}",
                where="tokenizer.json",
                do="leave --gguf out",
            )


def _token_list(vocabulary: Vocabulary, values: Mapping[str, Any], rows: int) -> tuple[list[str], list[int]]:
    from gguf import TokenType

    known = {number: token for token, number in vocabulary.tokenizer.get_vocab(with_added_tokens=True).items()}
    if known and max(known) >= rows:
        raise FirstwordsError(
            f"the tokenizer has {max(known) + 1:,} tokens and the model {rows:,}",
            where="tokenizer.json",
            do="put the model's own tokenizer there",
        )
    added = {
        token["id"]: TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
        for token in values["added_tokens"]
    }
    tokens = [known.get(number, f"[unused {number}]") for number in range(rows)]
    types = [added.get(number, TokenType.NORMAL if number in known else TokenType.UNUSED) for number in range(rows)]
    return tokens, [int(kind) for kind in types]


def _added_around(vocabulary: Vocabulary) -> tuple[bool, bool]:
    """Whether the tokenizer puts BOS before a text, and EOS after it."""
    text = "the"
    bare = vocabulary.tokenizer.encode(text, add_special_tokens=False).ids
    whole = vocabulary.tokenizer.encode(text, add_special_tokens=True).ids
    for before in ([], [vocabulary.bos_id]):
        for after in ([], [vocabulary.eos_id]):
            if whole == before + bare + after:
                return bool(before), bool(after)
    raise FirstwordsError(
        "the tokenizer cannot be said in GGUF: it adds other tokens to a text than BOS before and EOS after it",
        where="tokenizer.json",
        do="leave --gguf out",
    )


def _normalizers(normalizer: Mapping[str, Any] | None) -> list[str]:
    """The steps of a normalizer as tokenizer.json names them, those of sequences in their order."""
    if normalizer is None:
        return []
    if normalizer["type"] == "Sequence":
        return [step for part in normalizer["normalizers"] for step in _normalizers(part)]
    return [normalizer["type"]]
