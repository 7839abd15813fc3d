"""The heap hands out places that are nobody else's, and holds little more than was ever in use."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from firstwords.model import heap as heap_module
from firstwords.model.heap import Heap, tensor_heap
from firstwords.models import scoring_device
from firstwords.training import devices

MIB = 2**20


@pytest.fixture
def heap() -> Heap:
    found = tensor_heap()
    if found is None:
        pytest.skip("there is no C++ compiler that works here")
    return found


def test_there_is_a_heap_where_there_is_a_compiler() -> None:
    if not Path("/proc/self/maps").exists() or shutil.which("g++") is None:
        pytest.skip("it is compiled by g++ on Linux")
    assert tensor_heap() is not None


def tensor_of(size: int) -> Tensor:
    return torch.empty(size, dtype=torch.uint8)


def test_blocks_do_not_overlap(heap: Heap) -> None:
    rng = random.Random(0)
    held: list[tuple[Tensor, int]] = []
    for number in range(3_000):
        if held and (rng.random() < 0.5 or len(held) > 30):
            block, mark = held.pop(rng.randrange(len(held)))
            assert int(block[0]) == int(block[-1]) == mark
            assert bool((block[:: block.numel() // 7] == mark).all())
            del block
        else:
            block = tensor_of(rng.randrange(MIB // 2, 9 * MIB))
            assert block.data_ptr() % 64 == 0
            mark = number % 251
            block[0], block[-1] = mark, mark
            block[:: block.numel() // 7] = mark
            held.append((block, mark))


def test_a_freed_place_is_used_again(heap: Heap) -> None:
    heap.give_back()
    before = heap.held_bytes()
    first = tensor_of(50 * MIB)
    grown = heap.held_bytes() - before
    assert grown <= 50 * MIB + 32 * MIB
    place = first.data_ptr()
    del first
    parts = [tensor_of(10 * MIB) for _ in range(5)]
    assert heap.held_bytes() - before == grown
    assert min(part.data_ptr() for part in parts) == place
    del parts
    whole = tensor_of(50 * MIB)  # neighbours are joined again
    assert whole.data_ptr() == place
    assert heap.held_bytes() - before == grown


def test_sizes_that_grow_leave_no_heap_of_small_places_behind(heap: Heap) -> None:
    """malloc that keeps everything would hold the sum of all."""
    heap.give_back()
    before = heap.held_bytes()
    largest = 0
    for size in range(8, 120):
        block = tensor_of(size * MIB)
        largest = max(largest, heap.held_bytes() - before)
        del block
    assert largest <= (120 * 9 // 8 + 64) * MIB


def test_what_is_not_in_use_is_given_back(heap: Heap) -> None:
    heap.give_back()
    before = heap.held_bytes()
    kept = tensor_of(3 * MIB).fill_(7)
    freed = [tensor_of(40 * MIB).fill_(1) for _ in range(3)]
    after = tensor_of(3 * MIB).fill_(8)
    assert heap.held_bytes() - before >= 126 * MIB
    del freed
    heap.give_back()
    assert heap.held_bytes() - before <= 16 * MIB
    assert bool((kept == 7).all()) and bool((after == 8).all())


def test_storages_that_grow_keep_what_they_hold(heap: Heap) -> None:
    block = tensor_of(100).fill_(3)
    block.untyped_storage().resize_(5 * MIB)
    assert bool((block == 3).all())
    block.untyped_storage().resize_(0)


LITTLE_ROOM = """
import resource
from pathlib import Path
import torch
from firstwords.model.heap import tensor_heap
from firstwords.training.step import is_out_of_memory
heap = tensor_heap()
kept = torch.empty(2**25, dtype=torch.uint8)
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 2**29, held + 2**29))
try:
    torch.empty(2**30, dtype=torch.uint8)
except RuntimeError as error:
    assert is_out_of_memory(error), error
else:
    raise AssertionError("there was no room for it")
kept = torch.empty(2**28, dtype=torch.uint8)
held = heap.held_bytes()
del kept  # given back at once, once memory was short
assert heap.held_bytes() < held - 2**28 + 2**22, (held, heap.held_bytes())
while True:  # what others ask of malloc finds room still
    try:
        kept = (kept, torch.empty(2**23, dtype=torch.uint8)) if "kept" in globals() else ()
    except RuntimeError:
        break
bytearray(2**24)
print("fine")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process's memory is bounded by Linux's limits")
def test_where_memory_is_short_it_says_so_and_leaves_some_to_others(heap: Heap) -> None:
    done = subprocess.run([sys.executable, "-c", LITTLE_ROOM], capture_output=True, text=True, check=False)
    assert done.stdout == "fine\n", done.stderr


def test_trainings_on_a_cpu_have_it_and_nothing_else_has(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(devices, "tensor_heap", lambda: asked.append("a heap"))
    assert scoring_device("cpu") == "cpu"
    assert not asked
    devices.Device("cpu", "fp32").prepare_training()
    assert asked == ["a heap"]
    devices.Device("cuda", "bf16").prepare_training()
    assert asked == ["a heap"]


def test_without_a_compiler_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap_module, "built_library", lambda *_: None)
    assert tensor_heap.__wrapped__() is None
