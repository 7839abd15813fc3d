"""The loss in chunks is the cross-entropy that PyTorch computes from whole logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from firstwords.model import loss
from firstwords.model.loss import IGNORE, summed_cross_entropy, target_log_probs


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for largest in ("CHUNK_LOGITS", "_CPU_CHUNK_LOGITS_READ"):
        monkeypatch.setattr(loss, largest, 64 * 50)


def made(rows: int = 200, vocabulary: int = 50, width: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(rows, width, generator=generator).requires_grad_()
    weight = torch.randn(vocabulary, width, generator=generator).requires_grad_()
    targets = torch.randint(0, vocabulary, (rows,), generator=generator)
    targets[::7] = IGNORE
    return hidden, weight, targets


def test_loss_and_gradients_equal_those_of_whole_logits() -> None:
    hidden, weight, targets = made()
    ours = summed_cross_entropy(hidden, weight, targets) * 0.3
    ours.backward()
    grads = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    theirs = F.cross_entropy(hidden @ weight.T, targets, ignore_index=IGNORE, reduction="sum") * 0.3
    theirs.backward()
    assert torch.allclose(ours, theirs, rtol=1e-6)
    for our_grad, their_grad in zip(grads, (hidden.grad, weight.grad), strict=True):
        assert our_grad is not None and their_grad is not None
        assert torch.allclose(our_grad, their_grad, atol=1e-5)


def test_under_autocast_products_are_bf16_and_the_loss_stays_near() -> None:
    hidden, weight, targets = made()
    with torch.autocast("cpu", torch.bfloat16):
        ours = summed_cross_entropy(hidden, weight, targets)
    theirs = F.cross_entropy(hidden @ weight.T, targets, ignore_index=IGNORE, reduction="sum")
    assert ours.dtype == torch.float32
    assert abs(float((ours / theirs).detach()) - 1) < 5e-3
    assert ours != theirs


def test_log_probs_are_those_of_log_softmax() -> None:
    hidden, weight, targets = made()
    targets = targets.clamp_min(0)
    expected = (hidden @ weight.T).log_softmax(1).gather(1, targets[:, None]).squeeze(1)
    assert torch.allclose(target_log_probs(hidden, weight, targets), expected, atol=1e-5)
