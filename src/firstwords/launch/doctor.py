"""What this machine gives a training, what slows it, and what to do about it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import torch

from firstwords.data.download import cache_folder
from firstwords.machine import usable_cores
from firstwords.model.fusion import missing_for_fusion
from firstwords.model.heap import tensor_heap
from firstwords.model.products import products_by_onednn
from firstwords.settings import TrainingSettings
from firstwords.training.devices import Device, choose_device, prepare_process

_LOW_MEMORY, _LOW_DISK = 4e9, 10e9
_PRODUCT_ROWS, _PRODUCT_WIDTH = 2_048, 2_048
"""On a CPU. On a GPU four times as much of both, or waiting for it would count."""
_PRODUCT_SECONDS = 0.7

_PACKAGES = {
    "report": (("altair", "vl_convert"), "the page of a run and its charts"),
    "web": (("fastapi", "uvicorn"), "`firstwords serve`"),
    "gguf": (("gguf",), "export to GGUF"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about the machine.

    state: "good"; "slow", what costs time; "missing", what some command needs. do: what mends it, with its gain.
    """

    about: str
    found: str
    state: Literal["good", "slow", "missing"] = "good"
    do: str | None = None


def examine(workspace: Path, data: Sequence[Path]) -> list[Finding]:
    """Look at the machine; takes some seconds, in which products of matrices are timed."""
    prepare_process()
    device = choose_device(TrainingSettings())
    return [
        Finding("versions", f"Python {platform.python_version()}, PyTorch {torch.__version__}"),
        *_processor(device),
        *_products(device),
        _compiler(device),
        _allocator(device),
        *_memory(workspace, device),
        *_folders(data),
        *_packages(),
    ]


def _processor(device: Device) -> Iterator[Finding]:
    if device.kind == "cuda":
        yield Finding(
            "device", f"{torch.cuda.get_device_name()}, {torch.cuda.device_count()} in all, {device.precision}"
        )
    else:
        yield Finding("device", f"{device.kind}, {device.precision}")
    threads, cores = torch.get_num_threads(), usable_cores()
    if device.kind == "cpu" and threads < min(cores, psutil.cpu_count(logical=False) or cores):
        yield Finding(
            "threads",
            f"{threads} of {cores} cores are used",
            "slow",
            "unset OMP_NUM_THREADS, or set it to the number of cores: one core trains about half as fast as two",
        )
    else:
        yield Finding("threads", f"{threads} on {cores} cores")
    if os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive":
        yield Finding(
            "waiting", "OMP_WAIT_POLICY is passive", "slow", "unset it: a step of Model B takes a sixth longer with it"
        )
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if device.kind == "cpu" and load > 0.5:
        yield Finding(
            "load",
            f"{load:.1f} other threads are at work",
            "slow",
            "stop them: two programs that use all cores slow each other three- to fourfold",
        )


def _products(device: Device) -> Iterator[Finding]:
    for precision in dict.fromkeys((device.precision, "fp32")):
        rate = product_rate(device.kind, Device(device.kind, precision).dtype)
        yield Finding(f"products in {precision}", f"{rate / 1e9:,.0f} GFLOP/s")


@products_by_onednn()
def product_rate(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations a second in products of large matrices."""
    rows, width = (_PRODUCT_ROWS, _PRODUCT_WIDTH) if device == "cpu" else (4 * _PRODUCT_ROWS, 4 * _PRODUCT_WIDTH)
    left, right = (torch.randn(count, width, device=device).to(dtype) for count in (rows, width))
    at_once = 1 if device == "cpu" else 16  # a GPU is told ahead, so that it does not wait for the CPU

    def multiply() -> None:
        for _ in range(at_once - 1):
            _ = left @ right
        float((left @ right)[0, 0])  # waits for the device

    multiply()  # kernels are made
    count, started = 0, time.perf_counter()
    while (taken := time.perf_counter() - started) < _PRODUCT_SECONDS:
        multiply()
        count += at_once
    return 2.0 * rows * width**2 * count / taken


def _compiler(device: Device) -> Finding:
    missing = missing_for_fusion(device.kind)
    if missing is None:
        return Finding("compiler", "there: long trainings and scoring run compiled")
    if device.kind == "cuda":
        return Finding(
            "compiler",
            f"no {missing}: trainings run as they are written",
            "slow",
            "install triton, which PyTorch for CUDA brings on Linux; on an H200 it made steps twice as fast",
        )
    return Finding(
        "compiler",
        f"no {missing.removeprefix('a ')}: trainings and scoring run as they are written",
        "slow",
        "install g++ (Debian: `apt install g++`); on two cores it made steps 1.1 to 1.3 times as fast, scoring 1.2",
    )


def _allocator(device: Device) -> Finding:
    rest = f"malloc of {platform.system()}"
    if platform.libc_ver()[0] == "glibc":
        rest = "glibc's malloc, told to keep what it has"
    if preloaded := os.environ.get("LD_PRELOAD"):
        rest = f"preloaded: {preloaded}"
    if device.kind == "cpu" and tensor_heap() is not None:
        return Finding("allocator", f"a heap for large tensors, no other is needed; for the rest {rest}")
    return Finding("allocator", rest)


def _memory(workspace: Path, device: Device) -> Iterator[Finding]:
    free = device.free_memory_bytes()
    if free < _LOW_MEMORY:
        yield Finding("memory", f"{free / 1e9:.1f} GB free", "slow", "close other programs; Model B needs about 3 GB")
    else:
        yield Finding("memory", f"{free / 1e9:.1f} GB free")
    there = next(folder for folder in (workspace.absolute(), *workspace.absolute().parents) if folder.exists())
    disk = shutil.disk_usage(there).free
    advice = (
        "make room, or name another folder by --workspace: a run of Model B takes 3 GB" if disk < _LOW_DISK else None
    )
    yield Finding("disk", f"{disk / 1e9:.0f} GB free in {there}", "missing" if advice else "good", advice)


def _folders(data: Sequence[Path]) -> Iterator[Finding]:
    for folder in data:
        if folder.is_dir():
            yield Finding("data", str(folder))
        else:
            yield Finding("data", f"{folder} is not there", "missing", "mend --data or $FIRSTWORDS_DATA")
    yield Finding("downloads", f"kept in {cache_folder()}")


def _packages() -> Iterator[Finding]:
    for extra, (names, use) in _PACKAGES.items():
        lacking = [name for name in names if importlib.util.find_spec(name) is None]
        if lacking:
            yield Finding(
                extra, f"{', '.join(lacking)} not installed", "missing", f"pip install firstwords[{extra}], for {use}"
            )
        else:
            yield Finding(extra, f"installed: {use}")
