"""Who is told what a run does: the pipeline speaks to a `Reporter`, the terminal is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from firstwords.training.dev_loss import DevLoss
    from firstwords.training.trackers import StepMetrics


class Reporter(Protocol):
    """Who is told what happens, to show it. All methods may do nothing."""

    def stage(self, name: str, state: Literal["running", "done", "kept", "taken over", "left out"], note: str) -> None:
        """A stage begins, ends, need not be made again, came from another run, or cannot be made here."""

    def say(self, text: str) -> None:
        """A remark for the user, such as the license of a download or a warning."""

    def progress(self, what: str, done: int, total: int) -> None:
        """So much of some work is done."""

    def step(self, metrics: StepMetrics, steps: int) -> None:
        """A training step of `steps` is done."""

    def dev(self, step: int, loss: DevLoss) -> None:
        """The dev loss after a step."""


class Silent:
    """Tells nobody."""

    def stage(self, name: str, state: str, note: str) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Nothing."""

    def step(self, metrics: StepMetrics, steps: int) -> None:
        """Nothing."""

    def dev(self, step: int, loss: DevLoss) -> None:
        """Nothing."""
