"""What one optimizer step does to a model: gradients of micro-batches, then the update."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim import Optimizer

from firstwords.model.llama import Llama
from firstwords.model.loss import summed_cross_entropy
from firstwords.tokens.batches import FlatBatch, StepBatch, flat_batches
from firstwords.training.devices import Device


def add_gradients(
    model: Llama,
    batch: StepBatch,
    over_tokens: bool,
    device: Device,
    scaler: torch.amp.GradScaler,
    *,
    z_loss: float = 0.0,
) -> float:
    """Accumulate the gradient of the step's mean loss over micro-batches that fit the memory; returns that loss.

    over_tokens: the mean is over all tokens of the batch, the first ones too, as in the cards' Trainer.
    z_loss: weight of log(Z)^2 in the loss, as in `model.loss`.
    """
    model.train()
    divisor = max(1, batch.tokens if over_tokens else batch.targets)
    flats = flat_batches(batch.sequences, device.micro_tokens, device.kind)
    losses = [add_gradient(model, flat, divisor, device, scaler, z_loss=z_loss) for flat in flats]
    return float(torch.stack(losses).double().sum()) if losses else 0.0


def add_gradient(
    model: Llama,
    flat: FlatBatch,
    divisor: int,
    device: Device,
    scaler: torch.amp.GradScaler,
    *,
    z_loss: float = 0.0,
) -> Tensor:
    """Forward and backward of one micro-batch; returns its summed loss over `divisor`, a scalar on the device."""
    with device.autocast():
        hidden_ND = model.hidden(flat.ids_N, flat.layout)
        loss = summed_cross_entropy(hidden_ND, model.unembedding.weight, flat.targets_N, z_loss) / divisor
    scaler.scale(loss).backward()
    return loss.detach()


def update(model: Llama, optimizer: Optimizer, scaler: torch.amp.GradScaler, clip_norm: float | None) -> float:
    """Clip, step, and clear the gradients; returns the gradient's norm before clipping."""
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm if clip_norm is not None else math.inf)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    return float(norm)
