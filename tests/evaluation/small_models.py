"""Small models of others with random weights, and the tokenizers that they need, made by transformers in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.conftest import TEXT

POSITIONS = 64
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
SENTENCES = [
    "The cat sleeps near the tree.",
    "Some dogs talk.",
    "A bird sings and a teacher runs near the house, quietly.",
    "Xylophones!",
    "Some dogs talk.",
    "The girl eats.",
]
NAMES = {f"{kind}_token": f"<{name}>" for kind, name in (("bos", "s"), ("eos", "/s"), ("pad", "pad"))}
"""BOS, EOS and PAD as they are called in these tokenizers."""


def byte_level(frame: str | None = None, *, prefix_space: bool = False, specials: tuple[str, ...] = ()) -> Tokenizer:
    """A ByteLevel BPE of 300 tokens. frame: what stands around a text, such as `<s> $A </s>`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    specials = specials or tuple(NAMES.values())
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=list(specials),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT.splitlines(keepends=True), trainer)
    parts: list[Any] = [processors.ByteLevel(trim_offsets=True)]
    if frame:
        ids = [(name, tokenizer.token_to_id(name)) for name in specials]
        parts.append(processors.TemplateProcessing(single=frame, special_tokens=ids))
    tokenizer.post_processor = processors.Sequence(parts)
    return tokenizer


def word_piece() -> Tokenizer:
    """BERT's kind of tokenizer, of 70 tokens."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        TEXT.splitlines(), trainers.WordPieceTrainer(vocab_size=70, special_tokens=specials, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def wrapped(tokenizer: Tokenizer, **options: Any) -> Any:
    """As transformers has it. options: names of special tokens (NAMES where none are given), padding_side and such."""
    from transformers import PreTrainedTokenizerFast

    names = options if any(name.endswith("_token") for name in options) else NAMES | options
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


BERT_NAMES = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
ROBERTA_NAMES = NAMES | {"cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}


def tokenizer_of(kind: str) -> Any:
    """The tokenizer that fits a kind of model."""
    if kind == "bert":
        return wrapped(word_piece(), **BERT_NAMES)
    if kind == "roberta":
        specials = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
        return wrapped(byte_level("<s> $A </s>", specials=specials, prefix_space=True), **ROBERTA_NAMES)
    return wrapped(byte_level("<s> $A"))


def model_of(kind: str, vocabulary: int, **options: Any) -> Any:
    """A model of a kind (gpt2, llama, bert, roberta, bert-lm, gemma2) with random weights, ready to score."""
    import transformers

    names = {
        "gpt2": ("GPT2Config", "GPT2LMHeadModel"),
        "llama": ("LlamaConfig", "LlamaForCausalLM"),
        "gemma2": ("Gemma2Config", "Gemma2ForCausalLM"),
        "bert": ("BertConfig", "BertForMaskedLM"),
        "bert-lm": ("BertConfig", "BertLMHeadModel"),
        "roberta": ("RobertaConfig", "RobertaForMaskedLM"),
    }
    sizes: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 2} if kind == "gpt2" else SIZES
    # RoBERTa counts positions from 2.
    positions = POSITIONS + 2 * (kind == "roberta")
    settings = {"max_position_embeddings": positions, "initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 1}
    if kind == "gemma2":
        settings |= {"head_dim": 16, "num_key_value_heads": 2, "final_logit_softcapping": 3.0}
    config, model = (getattr(transformers, name) for name in names[kind])
    torch.manual_seed(5)
    return model(config(**{**sizes, **settings, **options, "vocab_size": vocabulary})).eval()


def save(model: Any, tokenizer: Any, folder: Path, **options: Any) -> Path:
    """Write the Hugging Face folder of a model and its tokenizer; options of save_pretrained."""
    model.save_pretrained(folder, **options)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def naive_log_probs(model: Any, ids: list[int]) -> list[float]:
    """log p of every token after the first, given those before it: one sentence, no batch, all logits."""
    logits = model(input_ids=torch.tensor([ids[:-1]])).logits[0].double()
    return [float(logits[place].log_softmax(0)[token]) for place, token in enumerate(ids[1:])]
