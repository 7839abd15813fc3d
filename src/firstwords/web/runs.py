"""What the page tells of each run, read again only where its files have changed."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from firstwords.errors import FirstwordsError
from firstwords.recipe import Recipe
from firstwords.report.results import UNTRAINED, read_results
from firstwords.report.summary import state_of
from firstwords.run_folder import RunFolder
from firstwords.web.curves import Curve, spark
from firstwords.web.losses import Losses, Tail
from firstwords.web.workspace import Workspace

Kind = Literal["running", "complete", "stopped", "damaged"]
_WRITTEN_BY = " (being written by "
_LOOK_AGAIN_SECONDS = 5.0
"""How often an unfinished run is asked whether its process still lives: no file tells when one is killed."""
_READ_ERRORS = (FirstwordsError, OSError, ValueError, LookupError, TypeError, AttributeError)
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Score:
    """Pairs judged right, in percent, with the 95% interval."""

    suite: str
    percent: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One run of the table. progress: of the training, 0 to 1, while it runs or where it was stopped."""

    name: str
    kind: Kind
    state: str
    progress: float | None
    curve: Curve | None
    train_loss: float | None
    dev_loss: float | None
    words_seen: int | None
    scores: tuple[Score, ...]


class Board:
    """The rows of all runs. Its methods read files: call them in a thread; they may be called from several."""

    def __init__(self, workspace: Workspace) -> None:
        """Nothing is read yet."""
        self._workspace = workspace
        self._lock = threading.Lock()
        self._seen: dict[str, _Seen] = {}

    def rows(self) -> list[Row]:
        """The rows of the runs that are there now, by name."""
        with self._lock:
            runs = self._workspace.runs()
            self._seen = {run.name: self._seen.get(run.name) or _Seen(run) for run in runs}
            return [self._seen[run.name].row() for run in runs]

    def losses(self, run: RunFolder) -> Losses:
        """All losses of one run."""
        with self._lock:
            return (self._seen.get(run.name) or _Seen(run)).losses()


class _Seen:
    """One run as it was last seen."""

    def __init__(self, run: RunFolder) -> None:
        self._run, self._tail = run, Tail(run.stage("training") / "metrics.jsonl")
        self._row: Row | None = None
        self._signature: tuple[Any, ...] = ()
        self._done: tuple[Any, ...] = ()
        self._state = ""
        self._scores: tuple[Score, ...] = ()
        self._epochs: float | None = None
        self._asked_at = -math.inf

    def losses(self) -> Losses:
        return self._tail.read()

    def row(self) -> Row:
        run, now = self._run, time.monotonic()
        done = (*(_stamp(run.path / name) for name in ("done", "evaluation", ".owner", "recipe.toml")),)
        signature = (*done, _stamp(run.stage("training") / "metrics.jsonl"))
        finished = self._row is not None and self._row.kind == "complete"
        due = done != self._done or (not finished and now - self._asked_at >= _LOOK_AGAIN_SECONDS)
        if self._row is not None and signature == self._signature and not due:
            return self._row
        if due:
            self._state = _or(lambda: state_of(run), "")
            if done != self._done:
                self._scores = _or(lambda: _scores(run), ())
                self._epochs = _or(lambda: Recipe.load(run.path / "recipe.toml").training.epochs, None)
            self._done, self._asked_at = done, now
        self._signature = signature
        self._row = self._told()
        return self._row

    def _told(self) -> Row:
        losses = self._tail.read()
        state, running, _ = self._state.partition(_WRITTEN_BY)
        kind: Kind = "running" if running else "complete" if state == "complete" else "stopped"
        if not state or self._epochs is None:
            kind, state = "damaged", "its files cannot be read" if not state else "its recipe cannot be read"
        progress = None
        if state.startswith("training:") and losses.last:
            epoch = losses.last.get("epoch")
            state = f"training: step {losses.last['step']:,}"
            if isinstance(epoch, float | int) and self._epochs is not None:
                progress = max(0.0, min(1.0, epoch / max(self._epochs, 1e-9)))
                state += f", epoch {epoch:.2f} of {self._epochs:g}"
        words = losses.last.get("words_seen")
        return Row(
            name=self._run.name,
            kind=kind,
            state=state,
            progress=progress,
            curve=spark(losses),
            train_loss=_recent(losses),
            dev_loss=losses.dev[-1][1] if losses.dev else None,
            words_seen=words if isinstance(words, int) else None,
            scores=self._scores,
        )


def _recent(losses: Losses) -> float | None:
    """The mean of the last steps: single steps differ too much to be read."""
    last = [loss for _, loss in losses.train[-20:]]
    return math.fsum(last) / len(last) if last else None


def _scores(run: RunFolder) -> tuple[Score, ...]:
    return tuple(
        Score(name, 100 * found.overall.share, 100 * found.overall.low, 100 * found.overall.high)
        for name, found in read_results(run)[0].items()
        if not name.startswith(UNTRAINED)
    )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _or(read: Callable[[], Found], otherwise: Found) -> Found:
    """What is read, or what stands there where a file is damaged or just being replaced."""
    try:
        return read()
    except _READ_ERRORS:
        return otherwise
