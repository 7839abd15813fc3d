"""What a model and a training step cost: parameters, floating-point operations, memory."""

from __future__ import annotations

from dataclasses import dataclass

from firstwords.settings import ModelSettings

_FLOAT = 4

_QUERY_BLOCK = 128
"""Queries that attend at once on a CPU, as in `model.llama`."""
_CHUNK_LOGITS = 2**25
"""Logits that the loss holds at once, as in `model.loss`."""
_BYTES_PER_LOGIT = 14
"""What the loss needs for each of them: its products, float32 copies, and the chunk before, which is still there."""
_ALLOCATOR_LOSS = 1.4
"""Memory held over memory used, where blocks of many sizes come and go: measured, see `training_memory_bytes`."""


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

    Counted over the tensors that a block keeps. In the products' type: both normed inputs, queries, keys, values, the
    attention's output and four feed-forward widths; in float32 the residual stream and its normed copies, four in all;
    of attention, the weights of every key that a block of queries sees, in float32 and in the products' type.
    """
    product_bytes = 2 if half else _FLOAT
    kept = (6 * shape.hidden + 4 * shape.intermediate) * product_bytes + 4 * shape.hidden * _FLOAT
    keys = context if context <= _QUERY_BLOCK else (context + _QUERY_BLOCK) // 2
    weights = shape.heads * keys * (_FLOAT + product_bytes if half else _FLOAT)
    return shape.layers * (kept + weights)


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

    Weights, gradients and moments; what the backward pass needs; the loss's chunk of logits; and what an allocator
    loses between blocks of different sizes. The process itself (Python, PyTorch) is not counted. Within 8% of what
    Models A and B were measured to take in two steps on a CPU, in micro-batches of 4,096 tokens; a GPU needs less.
    """
    casts = 2 * ModelCost.of(shape, vocabulary).matrix_parameters if half else 0
    kept_layers = 1 if checkpointing else shape.layers
    per_token = activation_bytes_per_token(shape, context or shape.positions, half=half) * kept_layers // shape.layers
    stream = micro_tokens * shape.hidden * _FLOAT * (shape.layers if checkpointing else 1)
    chunk = _BYTES_PER_LOGIT * min(_CHUNK_LOGITS, micro_tokens * vocabulary)
    head_gradients = 2 * _FLOAT * vocabulary * shape.hidden
    used = ModelCost.of(shape, vocabulary).weight_bytes + casts + micro_tokens * per_token + stream + chunk
    return round(_ALLOCATOR_LOSS * (used + head_gradients))
