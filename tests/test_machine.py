"""What a process may use: the cores lent to it, and the memory that its control groups leave."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from firstwords import machine
from firstwords.machine import free_memory_bytes, processor, usable_cores


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control groups as Slurm nests them: the limit is the job's, the process is in a step of it."""
    (tmp_path / "cgroup").write_text("12:pids:/other\n0::/slurm/job_7/step_0\n")
    root = tmp_path / "fs"
    for name, limit, used, files in (
        ("slurm", "max", 9_000, 0),
        ("slurm/job_7", "1000", 900, 250),
        ("slurm/job_7/step_0", "max", 900, 250),
    ):
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "memory.max").write_text(limit + "\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 650\ninactive_file {files}\n")
    monkeypatch.setattr(machine, "_OWN_GROUP", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_GROUPS", root)
    return root


def test_the_narrowest_limit_counts_and_files_read_before_make_room(groups: Path) -> None:
    assert free_memory_bytes() == 1000 - 900 + 250
    (groups / "slurm" / "job_7" / "step_0" / "memory.max").write_text("800")
    assert free_memory_bytes() == 800 - 900 + 250
    (groups / "slurm" / "job_7" / "step_0" / "memory.current").write_text("2000")
    assert free_memory_bytes() == 0


@pytest.mark.parametrize("damaged", ["memory.max", "memory.current", "memory.stat"])
def test_a_group_that_does_not_tell_is_passed_over(groups: Path, damaged: str) -> None:
    (groups / "slurm" / "job_7" / damaged).write_text("what\nis this")
    assert free_memory_bytes() == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_without_control_groups_the_system_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_OWN_GROUP", tmp_path / "none")
    assert free_memory_bytes() == pytest.approx(psutil.virtual_memory().available, rel=0.2)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux lends single cores")
def test_cores_are_those_lent_to_the_process() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert usable_cores() == len(before)


@pytest.mark.parametrize(
    "told", ["flags\t\t: fpu avx2 avx512_bf16", "Features\t: fp asimd bf16", "model name\t: another"]
)
def test_processors_are_told_apart(told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for lines in ("processor\t: 0\nmodel name\t: one\nflags\t\t: fpu avx2\n", f"processor\t: 0\n{told}\n", None):
        path = tmp_path / f"cpuinfo-{len(found)}"
        if lines is not None:
            path.write_text(lines)
        monkeypatch.setattr(machine, "_PROCESSOR", path)
        processor.cache_clear()
        found.append(processor())
    processor.cache_clear()
    assert len(set(found)) == 3
    assert found[-1], "other systems name it in another way"
