"""What a model and a training step cost: parameters, floating-point operations, memory."""

from __future__ import annotations

from dataclasses import dataclass

from firstwords.settings import ModelSettings

_FLOAT = 4

_HELD_OVER_KEPT, _HELD_OVER_KEPT_HALF = 1.4, 1.35
"""Memory held over what the backward pass needs, for what a block makes on its way and what is lost between blocks of
other sizes. Measured, as the next."""
_HELD_ON_GPU = 1.15
"""The same there, where memory is cut into larger pieces."""
_COMPILER = 220_000_000
"""What compiling and the kernels of products leave in the process."""
_KERNELS_OF_SIZES = 230_000_000
"""What the kernels of other sizes do, where steps have as many tokens as their lines: oneDNN keeps 256."""


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


def activation_bytes_per_token(
    shape: ModelSettings, context: int, *, half: bool, on_gpu: bool = False, in_tiles: bool = False
) -> int:
    """Memory that the backward pass needs of one token in sequences of `context`, without gradient checkpointing.

    Counted over the tensors that a block keeps: in the products' type both normed inputs, queries, keys, values, the
    attention's output and three feed-forward widths; in float32 the residual stream twice; of attention on a CPU, the
    weights of every key that a block of queries sees, unless it is made by tiles (`model.matrices`).
    """
    from firstwords.model.attention import QUERY_BLOCK
    from firstwords.model.lines import LONGEST_LINE

    product_bytes = 2 if half else _FLOAT
    kept = (6 * shape.hidden + 3 * shape.intermediate) * product_bytes + 2 * shape.hidden * _FLOAT
    keys = 0 if on_gpu or in_tiles or context <= LONGEST_LINE else (max(context, QUERY_BLOCK) + QUERY_BLOCK) // 2
    return shape.layers * (kept + shape.heads * keys * product_bytes)


def training_memory_bytes(
    shape: ModelSettings,
    vocabulary: int,
    micro_tokens: int,
    *,
    half: bool,
    checkpointing: bool,
    context: int | None = None,
    step_tokens: int | None = None,
    on_gpu: bool = False,
    in_tiles: bool = False,
    sizes_vary: bool = False,
) -> int:
    """Peak memory of training on micro-batches of `micro_tokens` tokens, in sequences of `context` (`positions` if not
    given).

    step_tokens: of a whole step; more than a micro-batch if not given. sizes_vary: steps have other numbers of tokens,
    for which a CPU keeps kernels, and a GPU records: each runs once beside what is recorded. in_tiles: products and
    attention are those of `model.matrices`, which read weights as they are.
    Weights, gradients and moments; what the backward pass needs; the loss's chunk of logits. The process itself
    (Python, PyTorch) is not counted. Within 15% of what Models A and B were measured to take, compiled, on a CPU, in
    micro-batches of 700 to 4,096 tokens (benchmarks/memory.py), and on a GPU packed in one of 32,768 or in lines.
    """
    from firstwords.model.loss import CHUNK_LOGITS, CUDA_CHUNK_LOGITS
    from firstwords.model.matrices import MANY_ROWS

    cost = ModelCost.of(shape, vocabulary)
    tokens = micro_tokens if step_tokens is None else min(micro_tokens, step_tokens)
    at_once = tokens == step_tokens
    copies = half and not in_tiles
    casts = 2 * cost.matrix_parameters if copies else 0
    head_gradients = (_FLOAT + 2 if copies else _FLOAT) * vocabulary * shape.hidden
    kept_layers = 1 if checkpointing else shape.layers
    per_token = activation_bytes_per_token(
        shape, context or shape.positions, half=half, on_gpu=on_gpu, in_tiles=in_tiles
    )
    per_token = per_token * kept_layers // shape.layers
    stream = shape.hidden * _FLOAT * (shape.layers if checkpointing else 1)
    logits = (2 if half else _FLOAT) * min(CUDA_CHUNK_LOGITS if on_gpu else CHUNK_LOGITS, tokens * vocabulary)
    if on_gpu:
        gradients = _FLOAT * cost.parameters
        step = gradients + casts + head_gradients + _HELD_ON_GPU * tokens * (per_token + stream) + logits
        return round(cost.weight_bytes - gradients + (2 if sizes_vary else 1) * step)
    if at_once:  # the only logits of a step are gone before there are gradients of the blocks
        logits = max(0, logits - _FLOAT * cost.matrix_parameters)
    # By tiles every size is multiplied, up to as many rows as are left to oneDNN.
    kernels = sizes_vary and not (in_tiles and tokens <= MANY_ROWS)
    return round(
        _COMPILER
        + (_KERNELS_OF_SIZES if kernels else 0)
        + cost.weight_bytes
        + casts
        + head_gradients
        + (_HELD_OVER_KEPT_HALF if half else _HELD_OVER_KEPT) * tokens * (per_token + stream)
        + logits
    )
