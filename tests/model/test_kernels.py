"""The kernels of CUDA, which a CPU interprets: a model's loss and gradients are those of the model as it is written."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from firstwords.model.fusion import CudaKernels
from firstwords.model.llama import Llama
from firstwords.model.loss import IGNORE
from firstwords.settings import ModelSettings
from firstwords.tokens.batches import TokenSequence, flat
from firstwords.training.step import StepLoss

pytest.importorskip("triton", reason="the kernels are written in triton, which is not installed")
from firstwords.model import attention_kernels, kernels
from firstwords.model.attention import Layout, attend

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

SHAPE = ModelSettings(hidden=48, layers=2, heads=4, kv_heads=2, intermediate=40, positions=64)
VOCABULARY = 303


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTWORDS_CACHE", str(tmp_path))
    monkeypatch.setenv("TRITON_CACHE_DIR", os.fspath(tmp_path))


def loss_and_gradients(model: Llama, *, by_kernels: bool, z_loss: float) -> tuple[float, list[torch.Tensor]]:
    rng = np.random.default_rng(1)
    lengths = (20, 18, 9, 5, 3, 2)
    batch = flat([TokenSequence(rng.integers(0, VOCABULARY, length), 0) for length in lengths], DEVICE)
    model.zero_grad()
    step_loss = StepLoss(model)
    if by_kernels:
        with CudaKernels().entered():
            loss = step_loss(batch, z_loss)
    else:
        loss = step_loss(batch, z_loss)
    (3 * loss).backward()
    return float(loss.detach()), [weight.grad.clone() for weight in model.parameters()]


@pytest.mark.parametrize(
    ("changes", "z_loss"),
    [({}, 1e-2), ({"kv_heads": None, "hidden": 64}, 0.0), ({"tied_embeddings": True}, 0.0)],
    ids=str,
)
def test_a_model_in_kernels_is_the_same_model(
    changes: dict[str, object], z_loss: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So small that rows and columns are many programs' work.
    monkeypatch.setattr(kernels, "_TILE", 128)
    monkeypatch.setattr(kernels, "_PROGRAMS", 3)
    model = Llama(SHAPE.model_copy(update=changes), VOCABULARY, seed=3).to(DEVICE)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("norm.weight"):
                weight.add_(torch.randn_like(weight), alpha=0.3)
    expected_loss, expected = loss_and_gradients(model, by_kernels=False, z_loss=z_loss)
    loss, found = loss_and_gradients(model, by_kernels=True, z_loss=z_loss)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for (name, _), ours, wanted in zip(model.named_parameters(), found, expected, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()), msg=name)


@pytest.mark.parametrize("longest_row", [128, 1_024], ids=["in parts", "at once"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_gradient_stands_where_the_logits_were(
    longest_row: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_TILE", 128)
    monkeypatch.setattr(kernels, "_ROW", longest_row)
    generator = torch.Generator().manual_seed(2)
    targets = torch.tensor([0, 302, IGNORE, 77, 5])
    logits = torch.zeros(5, 320)
    logits[:, :VOCABULARY] = 4 * torch.randn(5, VOCABULARY, generator=generator)
    exact = logits[:, :VOCABULARY].to(dtype).double().requires_grad_()
    expected = torch.nn.functional.cross_entropy(exact, targets, ignore_index=IGNORE, reduction="sum")
    (gradient,) = torch.autograd.grad(expected, exact)
    found = logits.to(DEVICE, dtype)
    loss = kernels.logits_to_gradient_(found, targets.to(DEVICE), VOCABULARY, 0.0)
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    close = 1e-5 if dtype == torch.float32 else 1e-3
    torch.testing.assert_close(found[:, :VOCABULARY].cpu().double(), gradient, rtol=close, atol=close)
    assert not found[:, VOCABULARY:].any() and not found[2].any()


@pytest.mark.parametrize("lengths", [(31, 30, 17, 9, 5, 2, 1), (16,), (64, 40), (1,) * 20, (3, 50, 2, 17)], ids=str)
@pytest.mark.parametrize(("heads", "width"), [((4, 2), 16), ((2, 2), 12)], ids=str)
def test_tokens_of_lines_attend_to_their_own(
    lengths: tuple[int, ...], heads: tuple[int, int], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_kernels, "_TILE", 16)
    generator, count = torch.Generator().manual_seed(4), sum(lengths)
    qkv = torch.randn(count, sum(heads) + heads[1], width, generator=generator)
    weights = torch.randn(count, heads[0], width, generator=generator, dtype=torch.float64)
    found = []
    for device, dtype in (("cpu", torch.float64), (DEVICE, torch.float32)):
        # As the model makes them: side by side.
        own = qkv.to(device, dtype).requires_grad_()
        layout = Layout.of(lengths, device)
        parts = own.split((*heads, heads[1]), dim=1)
        out = attend(*parts, layout) if dtype == torch.float64 else kernels_attend(*parts, layout)
        (gradient,) = torch.autograd.grad((out * weights.to(device, dtype)).sum(), own)
        found.append([out.detach().cpu(), gradient.cpu()])
    for expected, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-5)


def kernels_attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout) -> torch.Tensor:
    return attention_kernels.attend_by_tiles(q, k, v, layout.positions_N)
