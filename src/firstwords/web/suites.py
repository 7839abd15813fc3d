"""Test sets whose pairs can be loaded into the playground: those that are on this machine. Nothing is downloaded."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from firstwords.data.download import cache_folder
from firstwords.errors import FirstwordsError
from firstwords.evaluation.pairs import MinimalPair, Suite
from firstwords.evaluation.tasks import find_task
from firstwords.evaluation.tasks.task import Lookup, PairsTask
from firstwords.web.refusal import Refusal
from firstwords.web.workspace import shortened

NAMES = ("blimp", "blimp-filtered", "supplement", "zorro", "comps", "grammar")


@dataclass(frozen=True, slots=True)
class Shelved:
    """A test set with its pairs by paradigm."""

    suite: Suite
    title: str
    paradigms: dict[str, list[MinimalPair]]

    def pair(self, paradigm: str, number: int) -> MinimalPair:
        """A pair by its place in its paradigm, from 0. Raises Refusal where there is none."""
        pairs = self.paradigms.get(paradigm)
        if pairs is None:
            raise Refusal(404, f"{self.title} has no paradigm '{shortened(paradigm)}'", do="choose one of the list")
        if not 0 <= number < len(pairs):
            raise Refusal(404, f"{paradigm} has {len(pairs):,} pairs", do=f"give a number from 1 to {len(pairs):,}")
        return pairs[number]


class Shelf:
    """The test sets, read when they are asked for. Call it in a thread: all of BLiMP takes a few seconds."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """folders: where test sets are looked for, before the cache of downloads."""
        self._folders = tuple(folders)
        self._lock = threading.Lock()
        self._read: dict[str, Shelved] = {}

    def titles(self) -> dict[str, str]:
        """Names and titles of the test sets that can be asked for."""
        return {name: _task(name).title for name in NAMES}

    def get(self, name: str) -> Shelved:
        """A test set by name. Raises Refusal where it is unknown, not on this machine, or damaged."""
        if name not in NAMES:
            raise Refusal(404, f"there is no test set '{shortened(name)}' here", do=f"choose one of {', '.join(NAMES)}")
        with self._lock:
            if name not in self._read:
                self._read[name] = self._load(name)
            return self._read[name]

    def _load(self, name: str) -> Shelved:
        task = _task(name)
        try:
            suite = task.load(Lookup(self._folders, cache_folder(), offline=True))
        except FirstwordsError as error:
            raise Refusal(
                404,
                f"{task.title} cannot be read on this machine: {error.what}",
                where=error.where,
                do=f"start the page with --data FOLDER, a folder that has {name} in it; this page downloads nothing",
            ) from error
        paradigms: dict[str, list[MinimalPair]] = {}
        for pair in suite.pairs:
            paradigms.setdefault(pair.uid, []).append(pair)
        return Shelved(suite, task.title, paradigms)


def _task(name: str) -> PairsTask:
    task = find_task(name)
    if not isinstance(task, PairsTask):
        raise TypeError(f"{name} is no test set of minimal pairs")
    return task
