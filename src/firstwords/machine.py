"""What this process may use of the machine: its cores, and the memory that is left to it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_PROCESSOR = Path("/proc/cpuinfo")
_OWN_GROUP, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Cores that this process may run on: a cluster often lends a few of many."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@cache
def processor() -> str:
    """The processor's model and instructions: a home folder, and a cache in it, may be shared by machines of several
    kinds.
    """
    try:
        lines = _PROCESSOR.read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    told = (next((line for line in lines if line.startswith(key)), "") for key in ("model name", "flags", "Features"))
    return "\n".join(told)


def free_memory_bytes() -> int:
    """Memory that is free now, within what containers and clusters allow this process."""
    import psutil

    return min([int(psutil.virtual_memory().available), *_left_by_control_groups()])


def _left_by_control_groups() -> Iterator[int]:
    """What each of Linux's control groups (version 2) that hold this process and have a limit leaves of it."""
    try:
        path = next(line[3:] for line in _OWN_GROUP.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return
    group = _GROUPS / path.strip().lstrip("/")
    for folder in (group, *group.parents):
        try:
            limit, used = ((folder / f"memory.{name}").read_text().strip() for name in ("max", "current"))
            facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            # Files that were read lately count as used, and make room where it is needed.
            taken = int(used) - int(facts.get("inactive_file", 0))
            left = None if limit == "max" else max(0, int(limit) - taken)
        except (OSError, ValueError):
            continue
        if left is not None:
            yield left
