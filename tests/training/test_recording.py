"""Micro-batches as graphs read them are the same batches; what is played gives the gradients of what is launched."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from firstwords.model.llama import Llama
from firstwords.model.loss import IGNORE
from firstwords.settings import ModelSettings
from firstwords.tokens.batches import TokenSequence, flat
from firstwords.training.recording import Sizes, as_numbers, from_numbers, rounded_up
from firstwords.training.step import StepLoss

SHAPE = ModelSettings(hidden=32, layers=2, heads=4, kv_heads=2, intermediate=48, positions=64)


def sequences(*lengths: int) -> list[TokenSequence]:
    rng = np.random.default_rng(1)
    return [TokenSequence(rng.integers(0, 90, length).astype(np.uint16), 0) for length in lengths]


def gradients(step_loss: StepLoss, batch: object) -> tuple[float, list[torch.Tensor]]:
    step_loss.zero_grad()
    loss = step_loss(batch)
    loss.backward()
    return loss.item(), [weight.grad.clone() for weight in step_loss.parameters()]


@pytest.mark.parametrize("lengths", [(20, 18, 9, 5, 3, 2), (33, 33, 33), (2,), (64, *(40,) * 30), ()])
def test_filled_up_to_other_sizes_it_is_the_same_batch(lengths: tuple[int, ...]) -> None:
    part = sequences(*lengths)
    sizes = Sizes.of([len(one.ids) - 1 for one in part], context=64)
    numbers = torch.from_numpy(as_numbers(part, sizes))
    batch = from_numbers(numbers, sizes)
    assert len(numbers) == sizes.numbers
    assert int((batch.targets_N != IGNORE).sum()) == sum(length - 1 for length in lengths)
    step_loss = StepLoss(Llama(SHAPE, 90, seed=3))
    (loss, found), (expected_loss, expected) = (gradients(step_loss, one) for one in (batch, flat(part)))
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for ours, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)


def test_few_sizes_serve_all_batches_with_little_filler() -> None:
    found = sorted({rounded_up(tokens) for tokens in range(1, 40_000)})
    assert len(found) < 55
    assert found[0] == 512
    assert found[-1] >= 39_999
    assert all(after / before <= 1.125 for before, after in pairwise(found))
    assert all(tokens <= rounded_up(tokens) == rounded_up(rounded_up(tokens)) for tokens in range(1, 40_000, 7))
    assert Sizes.of([127] * 20 + [3], 128) == Sizes.of([126] * 20 + [9], 128)
