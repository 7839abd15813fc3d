"""The losses of a run while it writes them: metrics.jsonl, of which only what is new is read each time."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Point = tuple[float, float]
"""A step and the loss there, in nats a token."""

_MOST_READ_BYTES = 64_000_000
"""Of one metrics.jsonl; of a longer one only the end is read."""


@dataclass(frozen=True, slots=True)
class Losses:
    """What a training has told so far: losses of its steps and of the dev text, and its last line of a step."""

    train: Sequence[Point] = ()
    dev: Sequence[Point] = ()
    last: dict[str, Any] = field(default_factory=dict)


class Tail:
    """Follows one metrics.jsonl."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self._path = path
        self._inode: int | None = None
        self._place = 0
        self._train: list[Point] = []
        self._dev: list[Point] = []
        self._last: dict[str, Any] = {}

    def read(self) -> Losses:
        """All losses up to now; empty where nothing is written. Damaged lines are left out."""
        try:
            with self._path.open("rb") as file:
                inode, size = _identity(file.fileno())
                # A run that resumes cuts off what came after its saved state, and writes the file anew.
                if inode != self._inode or size < self._place:
                    self._begin_again(inode)
                if size - self._place > _MOST_READ_BYTES:
                    self._place = size - _MOST_READ_BYTES
                file.seek(self._place)
                text = file.read(size - self._place)
        except OSError:
            self._begin_again(None)
            return Losses()
        whole = text.rfind(b"\n") + 1
        self._place += whole
        for line in text[:whole].splitlines():
            self._add(line)
        return Losses(tuple(self._train), tuple(self._dev), self._last)

    def _begin_again(self, inode: int | None) -> None:
        self._inode, self._place = inode, 0
        self._train, self._dev, self._last = [], [], {}

    def _add(self, line: bytes) -> None:
        try:
            values = json.loads(line)
            points, key = (self._dev, "dev_loss") if "dev_loss" in values else (self._train, "train_loss")
            step, loss = values["step"], values[key]
            told = isinstance(step, int) and isinstance(loss, float | int) and math.isfinite(loss)
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        if not told:
            return
        points.append((float(step), float(loss)))
        if points is self._train:
            self._last = values


def _identity(descriptor: int) -> tuple[int, int]:
    stat = os.fstat(descriptor)
    return stat.st_ino, stat.st_size


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most so many points: each the mean of as many neighbours, at the last of their steps."""
    if len(points) <= most:
        return list(points)
    borders = [round(place * len(points) / most) for place in range(most + 1)]
    found = []
    for start, end in itertools.pairwise(borders):
        part = points[start:end]
        found.append((part[-1][0], math.fsum(loss for _, loss in part) / len(part)))
    return found
