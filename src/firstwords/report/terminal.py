"""What a running job shows on stderr: stages, and how far the training is.

On a screen a bar that moves, by rich; in a pipe or a log file plain lines, one every half minute.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from firstwords.reporter import Reporter
    from firstwords.training.dev_loss import DevLoss
    from firstwords.training.trackers import StepMetrics

Level = Literal["running", "done", "kept", "taken over", "left out"]

_BAR_WIDTH = 10
_COLORS = {"running": "cyan", "done": "green", "kept": "dim", "taken over": "dim", "left out": "yellow"}


@contextmanager
def reporter(stream: TextIO | None = None, every_seconds: float = 30.0) -> Iterator[Reporter]:
    """The display that suits `stream` (stderr): moving on a screen, else plain lines.

    every_seconds: between two lines about the same work in a pipe.
    """
    stream = stream or sys.stderr
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        screen = Screen(stream)
        with screen.bars:
            yield screen
    else:
        yield Lines(stream, every_seconds)


class Pace:
    """How fast the training goes and how well, over its last steps."""

    def __init__(self, window_steps: int = 50) -> None:
        """Nothing seen yet."""
        self._seen: deque[tuple[float, StepMetrics]] = deque(maxlen=window_steps)
        self.dev_loss: float | None = None

    def add(self, metrics: StepMetrics, now_seconds: float) -> None:
        """Note a step that ended at `now_seconds`."""
        self._seen.append((now_seconds, metrics))

    def text(self, steps: int, width: int | None = None) -> str:
        """`loss 5.932  dev 5.555  2,901 tokens/s  24 min left`: nats a token, means over the window.

        width: of the text; where it is short the speed and then the dev loss are left out.
        """
        metrics = [step for _, step in self._seen]
        loss = f"loss {sum(step.train_loss for step in metrics) / len(metrics):.3f}"
        dev = [] if self.dev_loss is None else [f"dev {self.dev_loss:.3f}"]
        rate = sum(step.tokens for step in metrics) / max(sum(step.seconds for step in metrics), 1e-9)
        left = f"{duration(self._seconds_a_step() * (steps - metrics[-1].step))} left"
        for parts in ([loss, *dev, f"{rate:,.0f} tokens/s", left], [loss, *dev, left]):
            if width is None or len("  ".join(parts)) <= width:
                return "  ".join(parts)
        return f"{loss}  {left}"

    def _seconds_a_step(self) -> float:
        """By the clock, so that dev losses and saves count; by the first step's own time when there is no other."""
        (first, step), (last, _) = self._seen[0], self._seen[-1]
        return (last - first) / (len(self._seen) - 1) if len(self._seen) > 1 else step.seconds


class Lines:
    """Plain lines, for a pipe or a log file."""

    def __init__(self, stream: TextIO, every_seconds: float) -> None:
        """Write to `stream`."""
        self._stream = stream
        self._every_seconds = every_seconds
        self._last_line = 0.0
        self._pace = Pace()

    def stage(self, name: str, state: Level, note: str) -> None:
        """One line for each change of a stage."""
        self._write(_stage_line(name, state, note))
        self._last_line = time.monotonic()

    def say(self, text: str) -> None:
        """A remark."""
        self._write(text)

    def progress(self, what: str, done: int, total: int) -> None:
        """A line now and then."""
        if self._due():
            self._write(f"{what}  {done:,}/{total:,}")

    def step(self, metrics: StepMetrics, steps: int) -> None:
        """A line now and then."""
        self._pace.add(metrics, time.monotonic())
        if self._due():
            self._write(f"training    {metrics.step:,}/{steps:,}  {self._pace.text(steps)}")

    def dev(self, step: int, loss: DevLoss) -> None:
        """Always a line: dev losses are few."""
        self._pace.dev_loss = loss.dev_loss
        self._write(_dev_line(step, loss))

    def _due(self) -> bool:
        now = time.monotonic()
        if now - self._last_line < self._every_seconds:
            return False
        self._last_line = now
        return True

    def _write(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class Screen:
    """A moving display: a bar for the work at hand, the lines of finished stages above it."""

    def __init__(self, stream: TextIO) -> None:
        """Draw on `stream`; nothing is drawn before `bars` is entered."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._console = Console(file=stream, highlight=False)
        self.bars: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=_BAR_WIDTH),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
            refresh_per_second=4,
        )
        self._tasks: dict[str, TaskID] = {}
        self._pace = Pace()

    def stage(self, name: str, state: Level, note: str) -> None:
        """A bar while it runs, a line when it is done."""
        if state == "running":
            self._show(name, 0, None, "")
            return
        for what in list(self._tasks):
            self._hide(what)
        self._line(_stage_line(name, state, note), _COLORS[state])

    def say(self, text: str) -> None:
        """A remark above the bar."""
        self._line(text, "yellow" if text.startswith("warning") else "")

    def progress(self, what: str, done: int, total: int) -> None:
        """Move the bar of some work."""
        self._show(what, done, total, "")
        if done >= total:
            self._hide(what)

    def step(self, metrics: StepMetrics, steps: int) -> None:
        """Move the training's bar."""
        self._pace.add(metrics, time.monotonic())
        before = f"training {' ' * _BAR_WIDTH} {steps}/{steps} "
        self._show("training", metrics.step, steps, self._pace.text(steps, self._console.width - len(before)))

    def dev(self, step: int, loss: DevLoss) -> None:
        """A line above the bar."""
        self._pace.dev_loss = loss.dev_loss
        self._line(_dev_line(step, loss), "")

    def _show(self, what: str, done: int, total: int | None, note: str) -> None:
        if what not in self._tasks:
            self._tasks[what] = self.bars.add_task(what, total=total, note=note)
        self.bars.update(self._tasks[what], completed=done, total=total, note=note)

    def _hide(self, what: str) -> None:
        self.bars.remove_task(self._tasks.pop(what))

    def _line(self, text: str, style: str) -> None:
        self._console.print(text, style=style or None, markup=False)


def duration(seconds: float) -> str:
    """`45 s`, `24 min` or `2 h 05 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def _stage_line(name: str, state: Level, note: str) -> str:
    return f"{name:<10}  {state:<7}  {note}".rstrip()


def _dev_line(step: int, loss: DevLoss) -> str:
    units = f"{loss.dev_loss:.3f} nats a token, {loss.dev_bits_per_byte:.3f} bits a byte"
    return f"training    step {step:,}: dev loss {units}"
