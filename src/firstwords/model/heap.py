"""A heap for the large tensors of a CPU: `heap.cpp`, compiled once for a machine, in the place of malloc.

malloc either gives large blocks back to the system at once, and gets them anew page by page, zeroed; or keeps them, and
where sizes vary from step to step, holds far more than is ever in use (docs/experiments.md).
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from firstwords.model.built import built_library, loaded_library

_SOURCE = Path(__file__).with_name("heap.cpp")


class Heap:
    """The heap of this process."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """From now on, PyTorch takes the CPU's blocks of a megabyte and more from it."""
        library.held_bytes.restype = ctypes.c_int64
        self._library = library
        library.use_heap()

    def held_bytes(self) -> int:
        """What it has from the system, in use or not."""
        return int(self._library.held_bytes())

    def give_back(self) -> None:
        """Return to the system what is not in use."""
        self._library.give_back()


@cache
def tensor_heap() -> Heap | None:
    """Put the heap under PyTorch, for the rest of the process; None where it cannot be compiled, and malloc stays."""
    import torch

    options = ("-O2", "-std=c++20", f"-I{Path(torch.__file__).parent / 'include'}")
    library = built_library(_SOURCE, options, loaded_library("libc10."))
    return None if library is None else Heap(library)
