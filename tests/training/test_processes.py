"""The kernels of CUDA train in several processes as they do in one: what averages gradients and what spreads weights
takes them as it takes PyTorch's own operations. (That the averages are right, real processes show in tests/launch.)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from firstwords.model.fusion import CudaKernels
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings
from firstwords.tokens.batches import TokenSequence, flat
from firstwords.training.devices import Device
from firstwords.training.processes import Processes, share, whole
from firstwords.training.step import StepLoss, add_gradient

pytest.importorskip("triton", reason="the kernels are written in triton, which is not installed")

DEVICE = Device("cuda" if torch.cuda.is_available() else "cpu", "fp32")
SHAPE = ModelSettings(hidden=16, layers=2, heads=2, intermediate=24, positions=16)
VOCABULARY, DIVISOR = 50, 30


@pytest.fixture
def a_group_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that is a group by itself, for NCCL on a GPU."""
    for name in ("FIRSTWORDS_CACHE", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    backend = "nccl" if DEVICE.kind == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("sharded", [False, True], ids=["averaged", "sharded"])
def test_gradients_by_kernels_are_those_of_the_model_as_it_is_written(sharded: bool, a_group_of_one: None) -> None:
    rng = np.random.default_rng(1)
    sequences = [TokenSequence(rng.integers(0, VOCABULARY, length), 0) for length in (9, 8, 7, 4)]
    written, shared = (Llama(SHAPE, VOCABULARY, seed=3).to(DEVICE.kind) for _ in range(2))
    scaler, kernels = torch.amp.GradScaler(DEVICE.kind, enabled=False), CudaKernels()
    batch = flat(sequences, DEVICE.kind)
    loss = add_gradient(StepLoss(written), batch, DIVISOR, DEVICE, scaler, z_loss=1e-3)
    # To `share` a group of one is no group.
    step_loss = share(StepLoss(shared), Processes(0, 2, DEVICE.kind), sharded=sharded)
    for _ in range(2):
        shared.zero_grad()
        with kernels.entered():
            found = add_gradient(step_loss, batch, DIVISOR, DEVICE, scaler, z_loss=1e-3)
    assert float(found) == pytest.approx(float(loss), rel=1e-5)
    for (name, ours), wanted in zip(shared.named_parameters(), written.parameters(), strict=True):
        assert ours.grad is not None and wanted.grad is not None
        error = 1e-5 * float(wanted.grad.abs().max())
        torch.testing.assert_close(whole(ours.grad), wanted.grad, rtol=1e-4, atol=error, msg=name)
