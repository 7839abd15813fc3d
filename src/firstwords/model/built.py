"""C++ of our own, compiled once for a machine and kept in the cache folder.

An extension in the wheel would need a wheel for each platform, and one for every processor to use its vectors.
"""

from __future__ import annotations

import ctypes
import hashlib
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

from firstwords.data.download import cache_folder
from firstwords.machine import processor
from firstwords.model.fusion import compilers
from firstwords.run_folder import atomic_write_bytes

_COMPILE_SECONDS = 60

_LOOPS = ("-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math")
"""NaNs stay NaNs (no -ffast-math): a model of NaNs is to be found out."""


def built_loops(source: Path, *options: str) -> ctypes.CDLL | None:
    """`built_library` of loops for this machine's processor, on the threads of PyTorch's OpenMP: those of another would
    wait for the same cores. options: more for the compiler.
    """
    return built_library(source, (*_LOOPS, *options), loaded_library("libgomp", "libiomp5", "libomp"))


def built_library(source: Path, options: Sequence[str], linked: Path | None) -> ctypes.CDLL | None:
    """The library of one C++ file, from the cache folder or made now, which takes a second or two.

    options: of the compiler. linked: a library that PyTorch has loaded and this one uses. None where there is no
    compiler, or none that works, and where the library to link is not there.
    """
    compiler = next(filter(shutil.which, compilers()), None)
    if platform.system() != "Linux" or compiler is None or linked is None:
        return None
    command = (compiler, *options, "-fPIC", "-c")
    try:
        place = cache_folder() / "native" / f"{_key(source, command, linked)}.so"
        if place.exists():
            with suppress(OSError):  # damaged: it is made anew
                return ctypes.CDLL(str(place))
        _build(source, command, linked, place)
        return ctypes.CDLL(str(place))
    except (OSError, subprocess.SubprocessError):
        return None


def loaded_library(*names: str) -> Path | None:
    """The file of a library that this process has loaded, by the beginning of its name; the first that is found."""
    try:
        lines = Path("/proc/self/maps").read_text("utf-8").splitlines()
    except OSError:
        return None
    files = (Path(line.split(maxsplit=5)[-1]) for line in lines)
    return next((file for file in files if file.name.startswith(names)), None)


def _key(source: Path, command: tuple[str, ...], linked: Path) -> str:
    """Names what the code was made for."""
    sources = [file.read_bytes() for file in (source, *sorted(source.parent.glob("*.h")))]
    made_for = repr((str(linked), command, torch.__version__)).encode()
    return hashlib.sha256(b"\0".join((*sources, made_for, _machine(command[0])))).hexdigest()[:16]


@cache
def _machine(compiler: str) -> bytes:
    """The compiler's version and the processor."""
    version = subprocess.run((compiler, "--version"), capture_output=True, timeout=10, check=True).stdout
    return version + processor().encode()


def _build(source: Path, command: tuple[str, ...], linked: Path, place: Path) -> None:
    """Compile and link to `place`, whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        made, library = Path(folder) / "made.o", Path(folder) / "made.so"
        # In two steps: told to use OpenMP, a compiler would link its own beside PyTorch's.
        for arguments in (
            (*command, str(source), "-o", str(made)),
            (command[0], "-shared", str(made), str(linked), "-o", str(library)),
        ):
            subprocess.run(arguments, capture_output=True, timeout=_COMPILE_SECONDS, check=True)
        # On disk before it has its name: a part of one, as a loss of power leaves it, ends the process that opens it.
        atomic_write_bytes(place, library.read_bytes())
