"""Processes that train together by the kernels of CUDA, which CPUs interpret, have the gradients of one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from firstwords.model.fusion import CudaKernels
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings
from firstwords.tokens.batches import TokenSequence, flat
from firstwords.training.devices import Device
from firstwords.training.processes import Processes, share, whole
from firstwords.training.step import StepLoss, add_gradient

pytest.importorskip("triton", reason="the kernels are written in triton, which is not installed")

ON_GPU = torch.cuda.is_available()
DEVICE = Device("cuda" if ON_GPU else "cpu", "fp32")
PROCESSES = torch.cuda.device_count() if ON_GPU else 2
SHAPE = ModelSettings(hidden=16, layers=2, heads=2, intermediate=24, positions=16)
VOCABULARY, DIVISOR = 50, 30
WAYS = {"averaged": False, "sharded": True}
"""Whether the weights are spread over the processes."""


def sequences() -> list[TokenSequence]:
    rng = np.random.default_rng(1)
    return [TokenSequence(rng.integers(0, VOCABULARY, length), 0) for length in (9, 8, 7, 4)]


def work(rank: int, folder: Path) -> None:
    """One process: its share of a step's gradient, averaged and sharded; what all have together is written down."""
    if ON_GPU:
        torch.cuda.set_device(rank)
    torch.distributed.init_process_group(
        "nccl" if ON_GPU else "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=PROCESSES
    )
    together, scaler = Processes(rank, PROCESSES, DEVICE.kind), torch.amp.GradScaler(DEVICE.kind, enabled=False)
    batch = flat(sequences()[rank::PROCESSES], DEVICE.kind)
    for way, sharded in WAYS.items():
        model = Llama(SHAPE, VOCABULARY, seed=3).to(DEVICE.kind)
        # A process that is alone on the only GPU goes the way of several all the same.
        step_loss = share(StepLoss(model), Processes(rank, max(2, PROCESSES), DEVICE.kind), sharded=sharded)
        for _ in range(2):
            model.zero_grad()
            with CudaKernels().entered():
                loss = add_gradient(step_loss, batch, DIVISOR, DEVICE, scaler, z_loss=1e-3, processes=together)
        found = {name: whole(weight.grad).cpu() for name, weight in model.named_parameters() if weight.grad is not None}
        found["loss"] = torch.tensor(together.summed(float(loss)))
        if rank == 0:
            save_file(found, folder / f"{way}.safetensors")
    torch.distributed.destroy_process_group()


def test_kernels_in_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTWORDS_CACHE", str(tmp_path / "cache"))
    torch.multiprocessing.spawn(work, (tmp_path,), nprocs=PROCESSES)
    model = Llama(SHAPE, VOCABULARY, seed=3)
    own, scaler = Device("cpu", "fp32"), torch.amp.GradScaler("cpu", enabled=False)
    expected_loss = add_gradient(StepLoss(model), flat(sequences()), DIVISOR, own, scaler, z_loss=1e-3)
    weights = dict(model.named_parameters())
    for way in WAYS:
        found = load_file(tmp_path / f"{way}.safetensors")
        torch.testing.assert_close(found.pop("loss"), expected_loss.float().reshape(1), rtol=1e-5, atol=0.0)
        assert found.keys() == weights.keys()
        for name, gradient in found.items():
            wanted = weights[name].grad
            assert wanted is not None
            error = 1e-5 * float(wanted.abs().max())
            torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=error, msg=f"{way}: {name}")
