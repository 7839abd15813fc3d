"""The model sees each sequence by itself, whatever stands beside it in the flat batch."""

from __future__ import annotations

import pytest
import torch

from firstwords.model.attention import Layout
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings

SHAPE = ModelSettings(hidden=32, layers=2, heads=4, kv_heads=2, intermediate=48, positions=400)
LENGTHS = [300, 290, 17, 16, 9, 3, 1, 1]


@pytest.fixture(scope="module")
def model() -> Llama:
    return Llama(SHAPE, 101, seed=3).eval()


@torch.no_grad()
def test_a_sequence_has_the_same_logits_alone_and_in_any_company(model: Llama) -> None:
    generator = torch.Generator().manual_seed(0)
    sequences = [torch.randint(0, 101, (length,), generator=generator) for length in LENGTHS]
    together = model(torch.cat(sequences), Layout.of(LENGTHS)).split(LENGTHS)
    order = [3, 0, 7, 2, 6, 1, 5, 4]
    shuffled = model(torch.cat([sequences[i] for i in order]), Layout.of([LENGTHS[i] for i in order]))
    for place, logits in zip(order, shuffled.split([LENGTHS[i] for i in order]), strict=True):
        alone = model(sequences[place], Layout.of([LENGTHS[place]]))
        assert (logits - alone).abs().max() < 1e-5
        assert (together[place] - alone).abs().max() < 1e-5


@torch.no_grad()
def test_a_token_does_not_see_what_follows(model: Llama) -> None:
    ids = torch.randint(0, 101, (200,), generator=torch.Generator().manual_seed(1))
    changed = ids.clone()
    changed[150:] = 0
    before, after = model(ids, Layout.of([200])), model(changed, Layout.of([200]))
    assert torch.equal(before[:150], after[:150])
    assert not torch.allclose(before[150:], after[150:])


def test_gradient_checkpointing_changes_no_gradient() -> None:
    ids = torch.randint(0, 101, (64,), generator=torch.Generator().manual_seed(1))
    gradients = []
    for checkpointing in (False, True):
        model = Llama(SHAPE, 101, seed=3)
        model.gradient_checkpointing = checkpointing
        model(ids, Layout.of([40, 24])).logsumexp(1).sum().backward()
        gradients.append([weight.grad for weight in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert plain is not None and recomputed is not None
        assert torch.equal(plain, recomputed)


def test_the_seed_makes_the_weights() -> None:
    first, again, other = (Llama(SHAPE, 101, seed=seed).embedding.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert abs(float(first.detach().std()) - SHAPE.init_std) < 2e-3


def test_dropout_acts_in_training_alone() -> None:
    model = Llama(SHAPE.model_copy(update={"dropout": 0.5}), 101)
    ids, layout = torch.arange(20), Layout.of([20])
    assert not torch.equal(model(ids, layout), model(ids, layout))
    model.eval()
    assert torch.equal(model(ids, layout), model(ids, layout))
