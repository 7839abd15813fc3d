"""What one optimizer step does to a model: gradients of micro-batches, then the update."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from firstwords.model.llama import Llama
from firstwords.model.loss import summed_cross_entropy
from firstwords.tokens.batches import FlatBatch, StepBatch, flat, micro_batches
from firstwords.training.devices import Device
from firstwords.training.processes import ALONE, Processes, gradients_kept_back, whole


class StepLoss(nn.Module):
    """A model with its loss: one module, so that processes can train it together."""

    def __init__(self, model: Llama) -> None:
        """The weights stay the model's own."""
        super().__init__()
        self.model = model

    def forward(self, flat: FlatBatch, z_loss: float = 0.0) -> Tensor:
        """Summed loss of a micro-batch: nats, float32 scalar. z_loss: weight of log(Z)^2, as in `model.loss`."""
        hidden_ND = self.model.hidden(flat.ids_N, flat.layout)
        return summed_cross_entropy(hidden_ND, self.model.unembedding.weight, flat.targets_N, z_loss)


def add_gradients(
    step_loss: nn.Module,
    batch: StepBatch,
    over_tokens: bool,
    device: Device,
    scaler: torch.amp.GradScaler,
    processes: Processes,
    *,
    z_loss: float = 0.0,
) -> float:
    """Accumulate the gradient of the step's mean loss over micro-batches that fit the memory.

    step_loss: a StepLoss, or what `processes.share` made of it. over_tokens: the mean is over all tokens of the batch,
    the first ones too, as in the cards' Trainer. z_loss: weight of log(Z)^2 in the loss, as in `model.loss`.
    Returns this process's part of that mean.
    """
    step_loss.train()
    divisor = max(1, batch.tokens if over_tokens else batch.targets)
    parts = micro_batches(batch, device.micro_tokens, processes.rank, processes.size)
    losses = []
    for number, part in enumerate(parts, start=1):
        with gradients_kept_back(step_loss, until_next=number < len(parts)):
            losses.append(
                add_gradient(
                    step_loss, flat(part, device.kind), divisor, device, scaler, z_loss=z_loss, processes=processes
                )
            )
    return float(torch.stack(losses).double().sum()) if losses else 0.0


def add_gradient(
    step_loss: nn.Module,
    batch: FlatBatch,
    divisor: int,
    device: Device,
    scaler: torch.amp.GradScaler,
    *,
    z_loss: float = 0.0,
    processes: Processes = ALONE,
) -> Tensor:
    """Forward and backward of one micro-batch; returns its summed loss over `divisor`, a scalar on the device."""
    with device.autocast():
        loss = step_loss(batch, z_loss) / divisor
    # Gradients are averaged over the processes, and a step's gradient is their sum.
    scaler.scale(loss * processes.size if processes.size > 1 else loss).backward()
    return loss.detach()


def update(module: nn.Module, optimizer: Optimizer, scaler: torch.amp.GradScaler, clip_norm: float | None) -> float:
    """Clip, step, and clear the gradients; returns the gradient's norm before clipping."""
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(module.parameters(), clip_norm if clip_norm is not None else math.inf)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    return float(whole(norm))
