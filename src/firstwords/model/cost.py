"""What a model and a training step cost: parameters, floating-point operations, memory."""

from __future__ import annotations

from dataclasses import dataclass

from firstwords.recipe import ModelSettings

_FLOAT = 4


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


def activation_bytes_per_token(shape: ModelSettings, half: bool) -> int:
    """Memory that the backward pass needs of one token, without gradient checkpointing.

    Counted over the tensors that a block keeps: in the products' type the normed inputs, queries, keys, values, their
    rotated copies, the attention's output and four feed-forward widths; in float32 the residual stream, twice.
    """
    product_bytes = 2 if half else _FLOAT
    kept = 10 * shape.hidden + 4 * shape.intermediate
    return shape.layers * (kept * product_bytes + 4 * shape.hidden * _FLOAT)


def training_memory_bytes(
    shape: ModelSettings, vocabulary: int, micro_tokens: int, *, half: bool, checkpointing: bool
) -> int:
    """Peak memory of training on micro-batches of so many tokens: weights, moments, activations and the loss's chunk."""
    kept_layers = 1 if checkpointing else shape.layers
    per_token = activation_bytes_per_token(shape, half) * kept_layers // shape.layers
    stream = micro_tokens * shape.hidden * _FLOAT * (shape.layers if checkpointing else 1)
    loss = 3 * _FLOAT * min(2**25, micro_tokens * vocabulary) + 2 * _FLOAT * vocabulary * shape.hidden
    return ModelCost.of(shape, vocabulary).weight_bytes + micro_tokens * per_token + stream + loss
