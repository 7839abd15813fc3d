"""What a training run writes down: metrics.jsonl, a line a step, and losses.csv made from it."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstwords.run_folder import atomic_write_bytes, atomic_write_text

LOSS_COLUMNS = (
    "step",
    "epoch",
    "words_seen",
    "learning_rate",
    "train_loss",
    "gradient_norm",
    "dev_loss",
    "dev_loss_batch_means",
    "dev_bits_per_byte",
)
_SHOWN_EVERY_SECONDS = 1.0
"""How long a line may wait for others; steps can be many times shorter, and writing each by itself costs more."""


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """One optimizer step as it is recorded. Losses in nats a token; step counts from 1."""

    step: int
    epoch: float
    words_seen: int
    learning_rate: float
    train_loss: float
    gradient_norm: float | None
    """None where fp16's loss scaling skipped the step."""
    tokens: int
    seconds: float


class MetricsLog:
    """Appends to metrics.jsonl. Lines after the state that a run resumes from are cut off first."""

    def __init__(self, path: Path, steps_done: int) -> None:
        """Open `path` to go on after `steps_done` steps."""
        kept = [line for line, values in _whole_lines(path) if values["step"] <= steps_done]
        atomic_write_bytes(path, b"".join(kept))
        self._file = path.open("a", encoding="utf-8")
        self._shown_at = -math.inf

    def write(self, values: Mapping[str, Any]) -> None:
        """Add one line, which whoever watches the file sees within seconds."""
        self._file.write(json.dumps(values, allow_nan=False) + "\n")
        if (now := time.monotonic()) - self._shown_at >= _SHOWN_EVERY_SECONDS:
            self._file.flush()
            self._shown_at = now

    def flush(self) -> None:
        """Put all lines on disk: called before the state is saved, so that no saved step lacks its line."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        self._file.close()


class NoLog:
    """Of a process that trains with others and does not lead them."""

    def write(self, values: Mapping[str, Any]) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _whole_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Lines and what they hold, up to the first that was not written whole, as a killed process leaves."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                values = json.loads(line)
            except ValueError:
                return
            if not line.endswith(b"\n") or not isinstance(values, dict):
                return
            yield line, values


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All lines of a metrics.jsonl."""
    return [values for _, values in _whole_lines(path)]


def write_losses(metrics_file: Path, losses_file: Path, log_every_steps: int) -> None:
    """Make losses.csv from metrics.jsonl: the mean loss of every `log_every_steps` steps, and each dev loss."""
    out = io.StringIO()
    writer = csv.DictWriter(out, LOSS_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    losses: list[float] = []
    for line in read_metrics(metrics_file):
        if "train_loss" in line:
            losses.append(line["train_loss"])
            if line["step"] % log_every_steps == 0:
                writer.writerow(line | {"train_loss": sum(losses) / len(losses)})
                losses = []
        else:
            writer.writerow(line)
    atomic_write_text(losses_file, out.getvalue())
