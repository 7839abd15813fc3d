"""Where training and scoring run, and in what number type; chosen once, at the edge."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch

from firstwords.errors import FirstwordsError
from firstwords.machine import free_memory_bytes
from firstwords.model.heap import tensor_heap
from firstwords.model.matrices import cpu_has, prepare_tiles, tiles_are_there
from firstwords.settings import TrainingSettings

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Device:
    """A device and the type of its matrix products."""

    kind: str
    precision: str

    @property
    def scales_loss(self) -> bool:
        """fp16's gradients would vanish without loss scaling."""
        return self.precision == "fp16"

    @property
    def dtype(self) -> torch.dtype:
        """The type of its products."""
        return _DTYPES[self.precision]

    def autocast(self) -> AbstractContextManager[object]:
        """Products in the device's type; weights and sums stay float32."""
        return torch.autocast(self.kind, self.dtype, enabled=self.precision != "fp32")

    @property
    def micro_tokens(self) -> int:
        """Tokens that pass the model at once: enough to fill the device, few enough for its memory."""
        return 32_768 if self.kind == "cuda" else 4_096

    @property
    def multiplies_in_tiles(self) -> bool:
        """Whether a training's products are those of `model.matrices`."""
        return self == Device("cpu", "bf16") and tiles_are_there()

    def prepare_training(self) -> None:
        """`prepare_process`, before a training's first tensors: on a CPU, large ones have a heap of their own, too."""
        prepare_process()
        if self.kind == "cpu":
            tensor_heap()
        if self.multiplies_in_tiles:
            prepare_tiles()

    @property
    def leaves_cpu_idle(self) -> bool:
        """Whether other work can be done while it makes a step: the next batch gathered, a state written."""
        return self.kind == "cuda"

    def seed(self, seed: int) -> None:
        """Begin its random numbers anew, and the CPU's. `torch.manual_seed` asks every kind of device that PyTorch
        knows, which takes up to a millisecond of every step.
        """
        torch.default_generator.manual_seed(seed)
        if self.kind == "cuda":
            torch.cuda.manual_seed(seed)
        elif self.kind == "mps":
            torch.mps.manual_seed(seed)

    def read_later(self, *numbers: torch.Tensor) -> Callable[[], tuple[float, ...]]:
        """Scalars of a step, to be had without waiting for what the device is told to do from now on."""
        if self.kind != "cuda":
            return lambda: tuple(map(float, numbers))
        found = torch.stack([number.detach().to(self.kind, torch.float32) for number in numbers])
        there, arrived = found.to("cpu", non_blocking=True), torch.cuda.Event()
        arrived.record()

        def read() -> tuple[float, ...]:
            arrived.synchronize()
            return tuple(there.tolist())

        return read

    def free_memory_bytes(self) -> int:
        """Memory that is free on the device now."""
        if self.kind == "cuda":
            return torch.cuda.mem_get_info()[0]
        return free_memory_bytes()

    def give_memory_back(self) -> None:
        """Return what was freed but is held for later use, so that something of another size finds room."""
        if self.kind == "cuda":
            torch.cuda.empty_cache()
            return
        if heap := tensor_heap():
            heap.give_back()
        if trim := _of_glibc("malloc_trim"):
            trim(0)

    def peak_memory_bytes(self) -> int:
        """The most memory used so far: on CUDA what PyTorch reserved, elsewhere what the process held."""
        if self.kind == "cuda":
            return torch.cuda.max_memory_reserved()
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return kilobytes if platform.system() == "Darwin" else 1024 * kilobytes


def choose_device(settings: TrainingSettings) -> Device:
    """The device that the recipe names or that is there, and its precision.

    `auto` takes bf16 where the device multiplies it natively, fp16 on older CUDA devices, float32 elsewhere.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    kind = settings.device
    if kind == "auto":
        kind = "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    elif not there[kind]:
        raise FirstwordsError(
            f"this machine has no {kind} device that PyTorch can use",
            where="training.device",
            do='set training.device = "auto", or install a PyTorch built for it',
        )
    return Device(kind, _choose_precision(settings.precision, kind))


def _choose_precision(asked: str, kind: str) -> str:
    native_bf16 = {
        "cuda": lambda: torch.cuda.get_device_capability()[0] >= 8,
        "mps": lambda: False,
        "cpu": cpu_has_bf16,
    }[kind]
    if asked in ("fp32", "bf16"):
        return asked
    if asked == "fp16" and kind == "cuda":
        return "fp16"
    if native_bf16():
        return "bf16"
    return "fp16" if kind == "cuda" else "fp32"


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 natively (AVX-512 BF16 or AMX)."""
    return cpu_has("avx512_bf16") or cpu_has("amx_bf16")


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of the GNU C library; None where another is at work."""
    try:
        return getattr(ctypes.CDLL(None), name) if platform.system() == "Linux" else None
    except (OSError, AttributeError):
        return None


def prepare_process() -> None:
    """Settings of the process that make the CPU's work faster or smaller; no result changes by more than rounding.

    oneDNN keeps a compiled kernel for each of the last 1,024 shapes that it met, up to a megabyte each; a training on
    lines needs a fourth of them (docs/experiments.md). glibc's malloc is told to keep what it has: it gives blocks back
    to the system at once and gets them anew, page by page, zeroed, a fifth of a training step. (A training's large
    tensors have a heap of their own, where there is a compiler: `Device.prepare_training`.)
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
    mallopt = _of_glibc("mallopt")
    if mallopt and "MALLOC_ARENA_MAX" not in os.environ:
        m_trim_threshold, m_mmap_max = -1, -4  # numbers of <malloc.h>
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, 2**31 - 1)


@contextmanager
def reproducible(wanted: bool) -> Iterator[None]:
    """While it lasts, with `wanted`, CUDA's sums have one order; an operation that has none is an error."""
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    # cuBLAS reads it when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
