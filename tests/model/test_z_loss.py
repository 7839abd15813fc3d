"""z-loss in chunks is what autograd makes of its plain formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from firstwords.model import loss
from firstwords.model.loss import IGNORE, summed_cross_entropy


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "CHUNK_LOGITS", 64 * 50)


def made() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(200, 16, generator=generator).requires_grad_()
    weight = torch.randn(50, 16, generator=generator).requires_grad_()
    targets = torch.randint(0, 50, (200,), generator=generator)
    targets[::7] = IGNORE
    return hidden, weight, targets


def plain(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, coefficient: float) -> torch.Tensor:
    logits = hidden @ weight.T
    log_z = logits.exp().sum(dim=1).log()[targets != IGNORE]
    return F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum") + coefficient * (log_z**2).sum()


@pytest.mark.parametrize("coefficient", [1e-4, 0.5])
def test_loss_and_gradients_equal_autograds(coefficient: float) -> None:
    hidden, weight, targets = made()
    ours = summed_cross_entropy(hidden, weight, targets, z_loss=coefficient) * 0.3
    ours.backward()
    grads = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    theirs = plain(hidden, weight, targets, coefficient) * 0.3
    theirs.backward()
    assert torch.allclose(ours, theirs, rtol=1e-6)
    for our_grad, their_grad in zip(grads, (hidden.grad, weight.grad), strict=True):
        assert our_grad is not None and their_grad is not None
        assert torch.allclose(our_grad, their_grad, rtol=1e-4, atol=1e-5)
        assert (our_grad.abs().sum(dim=1) == 0).sum() == (their_grad.abs().sum(dim=1) == 0).sum()


def test_without_a_coefficient_it_is_the_cross_entropy_to_the_bit() -> None:
    hidden, weight, targets = made()
    without, zero = (summed_cross_entropy(hidden, weight, targets, **given) for given in ({}, {"z_loss": 0.0}))
    assert torch.equal(without, zero)
    without.backward()
    grads = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    zero.backward()
    assert torch.equal(grads[0], hidden.grad) and torch.equal(grads[1], weight.grad)


def test_under_autocast_it_stays_near() -> None:
    hidden, weight, targets = made()
    with torch.autocast("cpu", torch.bfloat16):
        ours = summed_cross_entropy(hidden, weight, targets, z_loss=0.1)
    ours.backward()
    grads = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    theirs = plain(hidden, weight, targets, 0.1)
    theirs.backward()
    assert abs(float((ours / theirs).detach()) - 1) < 5e-3
    for our_grad, their_grad in zip(grads, (hidden.grad, weight.grad), strict=True):
        assert (our_grad - their_grad).norm() < 0.02 * their_grad.norm()


def test_it_pulls_large_logits_down() -> None:
    hidden, weight, targets = made()
    before = torch.logsumexp(hidden @ weight.T, dim=1).square().mean()
    for _ in range(20):
        summed_cross_entropy(hidden, weight, targets, z_loss=0.1).backward()
        with torch.no_grad():
            weight -= 1e-3 * weight.grad
        weight.grad = hidden.grad = None
    assert torch.logsumexp(hidden @ weight.T, dim=1).square().mean() < 0.8 * before
