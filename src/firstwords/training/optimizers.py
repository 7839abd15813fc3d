"""Parameter groups and the optimizer."""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW, Optimizer

from firstwords.model.llama import Llama
from firstwords.settings import TrainingSettings


def make_optimizer(model: Llama, settings: TrainingSettings) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019) with weight decay on the matrices, and on the embeddings where asked."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, weight in model.named_parameters():
        embedding = name.startswith(("embedding", "unembedding"))
        decays = weight.dim() == 2 and (settings.decay_embeddings or not embedding)
        (decayed if decays else plain).append(weight)
    return AdamW(
        [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=settings.peak_lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        fused=True,
    )


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
