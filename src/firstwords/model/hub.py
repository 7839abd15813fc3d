"""To and from transformers' LlamaForCausalLM, and the Hugging Face folder that others load."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from firstwords.errors import FirstwordsError
from firstwords.model.llama import Llama
from firstwords.run_folder import atomic_write_json
from firstwords.settings import ModelSettings
from firstwords.tokens.tokenizer import Vocabulary

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def to_transformers_weights(model: Llama) -> dict[str, Tensor]:
    """The weights under LlamaForCausalLM's names; fused matrices are cut into its separate ones."""
    shape = model.shape
    head = shape.hidden // shape.heads
    kv_width = head * (shape.kv_heads or shape.heads)
    weights = {"model.embed_tokens.weight": model.embedding.weight, "model.norm.weight": model.norm.weight}
    if not shape.tied_embeddings:
        weights["lm_head.weight"] = model.unembedding.weight
    for number, block in enumerate(model.blocks):
        prefix = f"model.layers.{number}"
        q, k, v = block.attention.qkv.weight.split((shape.hidden, kv_width, kv_width))
        gate, up = block.feed_forward.gate_up.weight.chunk(2)
        weights |= {
            f"{prefix}.input_layernorm.weight": block.attention_norm.weight,
            f"{prefix}.self_attn.q_proj.weight": q,
            f"{prefix}.self_attn.k_proj.weight": k,
            f"{prefix}.self_attn.v_proj.weight": v,
            f"{prefix}.self_attn.o_proj.weight": block.attention.out.weight,
            f"{prefix}.post_attention_layernorm.weight": block.feed_forward_norm.weight,
            f"{prefix}.mlp.gate_proj.weight": gate,
            f"{prefix}.mlp.up_proj.weight": up,
            f"{prefix}.mlp.down_proj.weight": block.feed_forward.down.weight,
        }
    return {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}


def from_transformers_weights(model: Llama, weights: dict[str, Tensor]) -> None:
    """Set `model` from weights under LlamaForCausalLM's names. Raises KeyError or RuntimeError where they don't fit."""
    with torch.no_grad():
        model.embedding.weight.copy_(weights["model.embed_tokens.weight"])
        model.norm.weight.copy_(weights["model.norm.weight"])
        if not model.shape.tied_embeddings:
            model.unembedding.weight.copy_(weights["lm_head.weight"])
        for number, block in enumerate(model.blocks):
            part = {
                name.removeprefix(f"model.layers.{number}."): weight
                for name, weight in weights.items()
                if name.startswith(f"model.layers.{number}.")
            }
            block.attention_norm.weight.copy_(part["input_layernorm.weight"])
            block.attention.qkv.weight.copy_(torch.cat([part[f"self_attn.{x}_proj.weight"] for x in "qkv"]))
            block.attention.out.weight.copy_(part["self_attn.o_proj.weight"])
            block.feed_forward_norm.weight.copy_(part["post_attention_layernorm.weight"])
            block.feed_forward.gate_up.weight.copy_(
                torch.cat([part["mlp.gate_proj.weight"], part["mlp.up_proj.weight"]])
            )
            block.feed_forward.down.weight.copy_(part["mlp.down_proj.weight"])


def transformers_config(model: Llama, vocabulary: Vocabulary) -> dict[str, Any]:
    """The config.json of LlamaForCausalLM for this model."""
    shape = model.shape
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": vocabulary.bos_id,
        "eos_token_id": vocabulary.eos_id,
        "pad_token_id": vocabulary.pad_id,
        "head_dim": shape.hidden // shape.heads,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "initializer_range": shape.init_std,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": shape.positions,
        "mlp_bias": False,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads or shape.heads,
        "rms_norm_eps": shape.rms_norm_eps,
        # Both spellings: transformers 4 reads the first, transformers 5 the second.
        "rope_theta": shape.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "tie_word_embeddings": shape.tied_embeddings,
        "dtype": "float32",
        "use_cache": True,
        "vocab_size": model.vocabulary,
    }


def save_folder(model: Llama, vocabulary: Vocabulary, tokenizer_folder: Path, folder: Path) -> None:
    """Write what AutoTokenizer and AutoModelForCausalLM load: config, weights, generation settings, tokenizer."""
    save_file(to_transformers_weights(model), folder / "model.safetensors", metadata={"format": "pt"})
    atomic_write_json(folder / "config.json", transformers_config(model, vocabulary))
    atomic_write_json(
        folder / "generation_config.json",
        {
            "bos_token_id": vocabulary.bos_id,
            "eos_token_id": vocabulary.eos_id,
            "pad_token_id": vocabulary.pad_id,
            "do_sample": True,
            "temperature": 0.7,
            "max_length": 50,
        },
    )
    # safetensors writes for the owner alone.
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)
    for name in _TOKENIZER_FILES:
        shutil.copyfile(tokenizer_folder / name, folder / name)


def load_folder(folder: Path) -> tuple[Llama, Vocabulary]:
    """Read a folder written by `save_folder`, or any LlamaForCausalLM of plain rotary positions without biases.

    Raises FirstwordsError where something is missing, is no such LLaMA, or would need a pickle to be opened.
    """
    return load_llama(folder), Vocabulary.load(folder)


def _check_layers(weights: dict[str, Tensor], shape: ModelSettings) -> None:
    """Raises ValueError where there are weights of more layers than the configuration tells of."""
    further = f"model.layers.{shape.layers}."
    if any(name.startswith(further) for name in weights):
        raise ValueError(f"the weights have more layers than the {shape.layers} of config.json")


def load_llama(folder: Path) -> Llama:
    """The model of such a folder, in float32, ready to score; raises what `load_folder` raises."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        shape = _shape_of(config, folder)
        weights = load_file(folder / "model.safetensors")
        _check_layers(weights, shape)
        model = Llama(shape, config["vocab_size"])
        from_transformers_weights(model, weights)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise FirstwordsError(
            f"the model folder cannot be read: {error}",
            where=str(folder),
            do="it needs config.json, model.safetensors and tokenizer.json of a LlamaForCausalLM",
        ) from None
    return model.eval()


def _shape_of(config: dict[str, Any], folder: Path) -> ModelSettings:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    plain = (
        config.get("model_type") == "llama"
        and rope.get("rope_type", rope.get("type", "default")) == "default"
        and not config.get("attention_bias")
        and not config.get("mlp_bias")
        and config.get("hidden_act", "silu") == "silu"
        and config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
        == config["hidden_size"] // config["num_attention_heads"]
    )
    if not plain:
        raise FirstwordsError(
            "the model is no LLaMA of plain rotary positions without biases",
            where=str(folder / "config.json"),
            do="only such models can be read back",
        )
    return ModelSettings(
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config.get("num_key_value_heads"),
        intermediate=config["intermediate_size"],
        positions=config["max_position_embeddings"],
        tied_embeddings=config.get("tie_word_embeddings", False),
        rope_theta=rope.get("rope_theta", config.get("rope_theta", 10_000.0)),
        rms_norm_eps=config["rms_norm_eps"],
        init_std=config.get("initializer_range", 0.02),
    )
