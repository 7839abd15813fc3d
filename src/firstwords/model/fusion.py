"""Chains of small operations made into one loop each: on a CPU by torch.compile, on CUDA by kernels of our own.

While a `Fusion` is entered, chains run in its way. With `CompiledLoops`, functions marked `fused` run in their compiled
form: on a CPU this saves most passes over memory between the products, which take about as long as the products do.
With `CudaKernels`, model and loss take the chains of `model.kernels`. Else all runs as it is written.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, ParamSpec, TypeVar

import torch

from firstwords.data.download import cache_folder
from firstwords.machine import processor

Given = ParamSpec("Given")
Made = TypeVar("Made")

_entered: list[Fusion] = []


def fused(function: Callable[Given, Made]) -> Callable[Given, Made]:
    """Mark a function of tensors as worth compiling. Its sizes may vary from call to call."""

    @functools.wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Made:
        run = _entered[-1].form_of(function) if _entered else function
        return run(*args, **kwargs)

    return call


def fusing() -> bool:
    """Whether chains run fused now, in whatever way."""
    return bool(_entered)


def in_kernels() -> bool:
    """Whether model and loss are to run by the kernels of `model.kernels` now."""
    return bool(_entered) and isinstance(_entered[-1], CudaKernels)


class Fusion:
    """How chains are fused in one training run."""

    def form_of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What runs where `function`, marked `fused`, is called."""
        return function

    @contextmanager
    def entered(self) -> Iterator[None]:
        """While it lasts, chains run in this way."""
        with self._prepared():
            _entered.append(self)
            try:
                yield
            finally:
                _entered.pop()

    def _prepared(self) -> AbstractContextManager[object]:
        """Settings that hold while it is entered."""
        return nullcontext()


class CompiledLoops(Fusion):
    """The compiled forms of functions, on a CPU.

    What a compiler makes of a function depends on the sizes that it sees first, and sums are rounded by it. A run that
    went on after a stop must make the same, so first sizes are to be the same (`training.compiling` sees to it), and
    compiled code is kept on disk by what it was made for: a second start finds it there.
    """

    def __init__(self, made_for: str) -> None:
        """made_for: names the model and the first sizes; code is shared between the runs for which it is equal."""
        # The compiler looks for its code by what it was told, which is the same on another processor.
        key = hashlib.sha256(f"{torch.__version__} {processor()} {made_for}".encode()).hexdigest()[:16]
        self._folder = cache_folder() / "compiled" / key
        self._compiled: dict[Callable[..., Any], Callable[..., Any]] = {}

    def form_of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The compiled form of `function`; made when it is first called."""
        if function not in self._compiled:
            self._compiled[function] = torch.compile(function, dynamic=True)
        return self._compiled[function]

    @contextmanager
    def _prepared(self) -> Iterator[None]:
        folder_before = os.environ.get(_FOLDER)
        os.environ[_FOLDER] = str(self._folder)
        try:
            with ExitStack() as settings:
                for module, patches in _compiler_settings():
                    settings.enter_context(module.patch(patches))
                yield
        finally:
            if folder_before is None:
                del os.environ[_FOLDER]
            else:
                os.environ[_FOLDER] = folder_before


class CudaKernels(Fusion):
    """The kernels of CUDA, which model and loss call by themselves. They are made for types, not for sizes, and kept on
    disk.
    """

    def __init__(self) -> None:
        os.environ.setdefault("TRITON_CACHE_DIR", str(cache_folder() / "kernels"))


_FOLDER = "TORCHINDUCTOR_CACHE_DIR"


@functools.cache
def _compiler_settings() -> list[tuple[Any, dict[str, Any]]]:
    """Modules of PyTorch's settings, and what is set in each while functions run compiled."""
    import torch._dynamo
    import torch._inductor

    return [
        # Two sizes that happen to be equal at first are two sizes still.
        (torch.fx.experimental._config, {"use_duck_shape": False}),
        # Numbers such as a scale are the model's own; taken for inputs they make everything traced twice.
        (torch._dynamo.config, {"specialize_float": True}),
        # Else it is tried anew at every start which of the processor's vectors the compiler knows: two seconds.
        (torch._inductor.config, {"cpp.vec_isa_ok": _compiler_knows_the_processor() or None}),
    ]


def _compiler_knows_the_processor() -> bool:
    """Whether all vector instructions that PyTorch makes code for can be compiled: GCC 12 and later know them."""
    asked = (compilers()[0], "-dumpversion")
    try:
        version = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout
        return int(version.split(".")[0]) >= 12
    except (OSError, ValueError, subprocess.SubprocessError):
        return False


def missing_for_fusion(device: str) -> str | None:
    """What fusing needs on a device and does not find; None where nothing is missing."""
    if device == "mps":
        return "a compiler for MPS"
    if device == "cuda":
        return None if importlib.util.find_spec("triton") else "triton"
    if not any(map(shutil.which, compilers())):
        return "a C++ compiler"
    return None


def compilers() -> tuple[str, ...]:
    """Where PyTorch looks for a C++ compiler: the first that is there is taken."""
    return (os.environ.get("CXX") or "g++", "g++", "clang++")
