"""What a model and a training step cost: parameters, floating-point operations, memory."""

from __future__ import annotations

from dataclasses import dataclass

from firstwords.settings import ModelSettings

_FLOAT = 4

_QUERY_BLOCK = 128
"""Queries that attend at once on a CPU, and places of a row that short sequences share, as in `model.attention`."""
_CHUNK_LOGITS = 5 * 2**24
"""Logits that the loss holds at once, as in `model.loss`."""
_BYTES_PER_LOGIT, _BYTES_PER_LOGIT_HALF = 10.5, 9.0
"""Memory held for each of them: in the products' type, in float32 on their way through the softmax, and what is lost
between blocks of memory of other sizes. Measured, as the two below."""
_HELD_OVER_KEPT, _HELD_OVER_KEPT_HALF = 1.25, 1.6
"""Memory held over what the backward pass needs, where blocks of many sizes come and go; casts, too, where products
are of half the width."""
_COMPILER = 190_000_000
"""What compiling leaves in the process."""


@dataclass(frozen=True, slots=True)
class ModelCost:
    """Counts that follow from a model's shape and vocabulary."""

    parameters: int
    matrix_parameters: int
    """Weights that every token is multiplied with: all but the input embedding and the norms."""
    weight_bytes: int
    """float32 weights, gradients and both moments of AdamW."""

    @classmethod
    def of(cls, shape: ModelSettings, vocabulary: int) -> ModelCost:
        """Cost of a model with this shape and so many token ids."""
        head = shape.hidden // shape.heads
        kv_width = head * (shape.kv_heads or shape.heads)
        block = 2 * shape.hidden**2 + 2 * shape.hidden * kv_width + 3 * shape.hidden * shape.intermediate
        matrices = shape.layers * block + vocabulary * shape.hidden
        norms = (2 * shape.layers + 1) * shape.hidden
        parameters = matrices + norms + (0 if shape.tied_embeddings else vocabulary * shape.hidden)
        return cls(parameters, matrices, 4 * _FLOAT * parameters)


def training_flops_per_token(shape: ModelSettings, vocabulary: int, context: float) -> float:
    """Floating-point operations to train on one token whose sequence has `context` tokens on the mean.

    6 a matrix weight (2 forward, 4 backward), and attention's two products over half the context, as it is causal.
    Source: Kaplan et al. 2020, section 2.1; Chowdhery et al. 2022, appendix B.
    """
    return 6.0 * ModelCost.of(shape, vocabulary).matrix_parameters + 6.0 * shape.layers * shape.hidden * context


def activation_bytes_per_token(shape: ModelSettings, context: int, *, half: bool) -> int:
    """Memory that the backward pass needs of one token in sequences of `context`, without gradient checkpointing.

    Counted over the tensors that a block keeps: in the products' type both normed inputs, queries, keys, values, the
    attention's output and three feed-forward widths; in float32 the residual stream twice; of attention, the weights of
    every key that a block of queries sees.
    """
    product_bytes = 2 if half else _FLOAT
    kept = (6 * shape.hidden + 3 * shape.intermediate) * product_bytes + 2 * shape.hidden * _FLOAT
    keys = _QUERY_BLOCK if context <= _QUERY_BLOCK else (context + _QUERY_BLOCK) // 2
    return shape.layers * (kept + shape.heads * keys * product_bytes)


def training_memory_bytes(
    shape: ModelSettings,
    vocabulary: int,
    micro_tokens: int,
    *,
    half: bool,
    checkpointing: bool,
    context: int | None = None,
) -> int:
    """Peak memory of training on micro-batches of so many tokens, in sequences of `context` (`positions` if not given).

    Weights, gradients and moments; what the backward pass needs; the loss's chunk of logits. The process itself
    (Python, PyTorch) is not counted. Within 15% of what Models A and B were measured to take, compiled, on a CPU, in
    micro-batches of 700 to 4,096 tokens (benchmarks/memory.py); a GPU needs less.
    """
    cost = ModelCost.of(shape, vocabulary)
    casts = 2 * cost.matrix_parameters if half else 0
    head_gradients = (_FLOAT + 2 if half else _FLOAT) * vocabulary * shape.hidden
    kept_layers = 1 if checkpointing else shape.layers
    per_token = activation_bytes_per_token(shape, context or shape.positions, half=half) * kept_layers // shape.layers
    stream = shape.hidden * _FLOAT * (shape.layers if checkpointing else 1)
    logits = min(_CHUNK_LOGITS, micro_tokens * vocabulary)
    return round(
        _COMPILER
        + cost.weight_bytes
        + casts
        + head_gradients
        + (_HELD_OVER_KEPT_HALF if half else _HELD_OVER_KEPT) * micro_tokens * (per_token + stream)
        + (_BYTES_PER_LOGIT_HALF if half else _BYTES_PER_LOGIT) * logits
    )
