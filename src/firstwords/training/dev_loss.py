"""Loss on the dev text, in our units and in the cards'."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from firstwords.model.llama import Llama
from firstwords.model.loss import target_log_probs
from firstwords.settings import TokenSettings
from firstwords.tokens.batches import TokenSequence, flat_batches
from firstwords.tokens.encoding import TokenFile
from firstwords.training.averaging import WeightAverage
from firstwords.training.devices import Device
from firstwords.training.processes import whole_weights

_CPU_TOKENS, _TOKENS = 1_024, 4_096
"""Inputs of a batch on a CPU, and elsewhere: as fast as more, and no more memory than a step has taken before."""
_CARD_BATCH = 8
"""Examples of a batch in the cards' evaluation."""


@dataclass(frozen=True, slots=True)
class DevLoss:
    """Losses on the dev text, nats."""

    dev_loss: float
    """Mean over all predicted tokens."""
    dev_loss_batch_means: float
    """The cards' unit: the mean over batches of 8 examples, in file order, of each batch's mean."""
    dev_bits_per_byte: float
    """Bits to encode a byte of the dev text, comparable between tokenizers."""


@torch.no_grad()
def dev_loss(model: Llama, tokens: TokenFile, settings: TokenSettings, device: Device) -> DevLoss:
    """Loss of `model` on all examples of a token file, each cut to the context length, without dropout."""
    pieces = sorted(_pieces(tokens, settings.context), key=lambda piece: -len(piece.ids))
    examples = tokens.facts.examples
    nats, targets = np.zeros(examples), np.zeros(examples)
    was_training = model.training
    model.eval()
    done = 0
    for flat in flat_batches(pieces, _CPU_TOKENS if device.kind == "cpu" else _TOKENS, device.kind):
        kept_N = flat.targets_N >= 0
        with device.autocast():
            hidden_ND = model.hidden(flat.ids_N, flat.layout)[kept_N]
            log_probs_N = target_log_probs(hidden_ND, model.unembedding.weight, flat.targets_N[kept_N])
        owners: list[int] = []
        while len(owners) < len(log_probs_N):
            owners += [pieces[done].example] * (len(pieces[done].ids) - 1)
            done += 1
        np.add.at(nats, owners, -log_probs_N.cpu().double().numpy())
        np.add.at(targets, owners, 1)
    model.train(was_training)
    return DevLoss(
        float(nats.sum() / targets.sum()),
        _mean_of_batch_means(nats, targets),
        float(nats.sum() / math.log(2) / tokens.facts.text_bytes),
    )


def dev_losses(
    model: Llama,
    step_loss: nn.Module,
    average: WeightAverage | None,
    tokens: TokenFile,
    settings: TokenSettings,
    device: Device,
) -> tuple[DevLoss, dict[str, float]]:
    """The dev loss of the model that `step_loss` trains; that of its weights' average as it is logged, if there is one.

    The weights may be spread over processes, all of which call this.
    """
    with whole_weights(step_loss):
        found = dev_loss(model, tokens, settings, device)
    if average is None:
        return found, {}
    # The average is spread as the weights are, so it takes their place before they are gathered.
    with average.in_place(), whole_weights(step_loss):
        of_average = dev_loss(model, tokens, settings, device)
    return found, {f"ema_{name}": value for name, value in asdict(of_average).items()}


def _pieces(tokens: TokenFile, context: int) -> list[TokenSequence]:
    """Every example as sequences of at most `context` inputs, each token but an example's first predicted once."""
    pieces = []
    for example in range(tokens.facts.examples):
        ids = np.asarray(tokens.example(example))
        for start in range(0, len(ids) - 1, context):
            pieces.append(TokenSequence(ids[start : start + context + 1], example))
    return pieces


def _mean_of_batch_means(nats: np.ndarray, targets: np.ndarray) -> float:
    starts = np.arange(0, len(nats), _CARD_BATCH)
    sums, counts = np.add.reduceat(nats, starts), np.add.reduceat(targets, starts)
    # A batch of nothing but blank lines has no mean.
    return float((sums[counts > 0] / counts[counts > 0]).mean())
