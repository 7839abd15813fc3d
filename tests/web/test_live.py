"""What is told while it happens: losses that are appended, runs that come and go, processes that die."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from firstwords.training.trackers import MetricsLog
from firstwords.web import live, runs
from firstwords.web.live import events
from firstwords.web.losses import Tail, thinned
from firstwords.web.runs import Board, Row
from firstwords.web.workspace import Workspace
from tests.report.conftest import TINY


def line(step: int, loss: float) -> str:
    return json.dumps({"step": step, "epoch": step / 10, "words_seen": 100 * step, "train_loss": loss}) + "\n"


def test_only_whole_lines_are_read_and_each_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert tail.read().train == ()
    path.write_text(line(1, 5.0) + line(2, 4.0)[:20])
    assert tail.read().train == ((1, 5.0),)
    with path.open("a") as file:
        file.write(line(2, 4.0)[20:] + '{"step": 2, "dev_loss": 4.5}\n')
    found = tail.read()
    assert (found.train, found.dev, found.last["words_seen"]) == (((1, 5.0), (2, 4.0)), ((2, 4.5),), 200)


def test_a_run_that_resumes_takes_back_what_it_had_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(line(step, 1.0) for step in range(1, 9)))
    tail = Tail(path)
    assert len(tail.read().train) == 8
    log = MetricsLog(path, 3)
    log.write(json.loads(line(4, 2.0)))
    log.close()
    assert tail.read().train == ((1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0))


def test_a_watcher_sees_steps_while_the_training_goes_on(tmp_path: Path) -> None:
    tail, log = Tail(tmp_path / "metrics.jsonl"), MetricsLog(tmp_path / "metrics.jsonl", 0)
    log.write(json.loads(line(1, 5.0)))
    assert len(tail.read().train) == 1
    log.write(json.loads(line(2, 5.0)))
    time.sleep(1.1)
    log.write(json.loads(line(3, 5.0)))
    assert len(tail.read().train) == 3


def test_thinned_points_keep_the_mean_and_the_end() -> None:
    points = [(float(step), float(step)) for step in range(1, 101)]
    found = thinned(points, 10)
    assert len(found) == 10
    assert found[-1] == (100.0, 95.5)
    assert thinned(points[:5], 10) == points[:5]


def begin(workspace: Path, name: str, owner: int) -> Path:
    """A run that a process with that number trains."""
    folder = workspace / name
    (folder / "training").mkdir(parents=True)
    (folder / "recipe.toml").write_text(TINY)
    (folder / ".owner").write_text(f"process {owner} on {platform.node()}")
    (folder / "training" / "metrics.jsonl").write_text(line(1, 5.0) + line(2, 4.0))
    return folder


def test_a_run_is_running_while_its_process_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_LOOK_AGAIN_SECONDS", 0.0)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folder = begin(tmp_path, "at-work", os.getpid())
    begin(tmp_path, "killed", ended.pid)
    board = Board(Workspace(tmp_path))
    rows = {row.name: row for row in board.rows()}
    assert (rows["at-work"].kind, rows["killed"].kind) == ("running", "stopped")
    assert rows["at-work"].state.startswith("training: step 2")
    with (folder / "training" / "metrics.jsonl").open("a") as file:
        file.write(line(3, 3.0))
    assert board.rows()[0].state.startswith("training: step 3")
    assert board.rows()[0].progress == pytest.approx(0.15)
    (folder / ".owner").unlink()
    assert board.rows()[0].kind == "stopped"
    (folder / "recipe.toml").write_text("nothing")
    assert board.rows()[0].kind == "damaged"


def test_pages_are_told_of_new_changed_and_removed_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LOOK_SECONDS", 0.02)
    folder = begin(tmp_path, "first", os.getpid())
    board, heard, turns = Board(Workspace(tmp_path)), list[tuple[str, str]](), 0

    async def gone() -> bool:
        nonlocal turns
        turns += 1
        if turns == 3:
            with (folder / "training" / "metrics.jsonl").open("a") as file:
                file.write(line(3, 3.0))
        if turns == 5:
            begin(tmp_path, "second", os.getpid())
        if turns == 7:
            (folder / "recipe.toml").unlink()
        return turns > 9

    async def listen() -> None:
        async for event in events(board, lambda row: {"row": row.name}, gone):
            if event.startswith("event: "):
                kind, data = event.removesuffix("\n\n").split("\n")
                values = json.loads(data.removeprefix("data: "))
                heard.append((kind.removeprefix("event: "), values.get("name", "")))

    asyncio.run(listen())
    assert heard == [("run", "first"), ("ready", ""), ("run", "first"), ("run", "second"), ("removed", "first")]


def test_an_unchanged_run_is_the_same_row(two_runs: Path) -> None:
    board = Board(Workspace(two_runs))
    first, second = board.rows(), board.rows()
    assert all(a is b for a, b in zip(first, second, strict=True))
    assert isinstance(first[0], Row)
