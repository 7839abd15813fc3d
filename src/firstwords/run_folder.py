"""The run folder: names, fingerprints, done-marks, the lock, and files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from firstwords.errors import FirstwordsError, did_you_mean


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader finds the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_text(path: Path, text: str) -> None:
    """`atomic_write_bytes` of UTF-8 text."""
    atomic_write_bytes(path, text.encode())


def atomic_write_json(path: Path, value: Any) -> None:
    """`atomic_write_bytes` of indented JSON; NaN is refused."""
    atomic_write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds."""
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


@contextmanager
def undamaged(what: str, place: Path | str) -> Iterator[None]:
    """What reads a result's file; what the file lacks, or has of another kind, is told as damage.

    what: as in `the result 'blimp.firstwords'`. Raises FirstwordsError.
    """
    try:
        yield
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise FirstwordsError(
            f"{what} is damaged: {type(error).__name__}: {error}", where=str(place), do="delete it and evaluate again"
        ) from None


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that takes the name `path` when the block ends well, and is removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Mark:
    """That a stage is done: with which settings and inputs, when, in how many seconds, and what it found."""

    stage: str
    fingerprint: str
    seconds: float
    finished: str
    facts: dict[str, Any]


def fingerprint_of(*parts: Any) -> str:
    """SHA-256 of values as canonical JSON: equal for equal settings, however they were written."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


_FOLDERS = {"export": "model"}
"""Stages whose folder has another name."""


class RunFolder:
    """One run on disk: a folder for each stage, and `done/` with the marks of the stages that are complete."""

    def __init__(self, path: Path) -> None:
        """Nothing is read or made yet."""
        self.path = path.resolve() if path.name in ("", "..") else path
        self.name = self.path.name

    def stage(self, name: str) -> Path:
        """The folder of a stage."""
        return self.path / _FOLDERS.get(name, name)

    def mark(self, stage: str) -> Mark | None:
        """The mark of a stage, or None where it is not done."""
        try:
            return Mark(**read_json(self._mark_path(stage)))
        except (OSError, ValueError, TypeError):
            return None

    def is_done(self, stage: str, fingerprint: str) -> bool:
        """Whether a stage is done with these settings and inputs."""
        mark = self.mark(stage)
        # A folder that the user has deleted, as a message about damage advises, is made anew.
        return mark is not None and mark.fingerprint == fingerprint and self.stage(stage).is_dir()

    def set_done(self, stage: str, fingerprint: str, seconds: float, facts: dict[str, Any]) -> None:
        """Leave the mark of a stage whose files are all written."""
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        atomic_write_json(self._mark_path(stage), asdict(Mark(stage, fingerprint, round(seconds, 3), finished, facts)))

    def unset_done(self, stage: str) -> None:
        """Take a mark away, before its stage is made again."""
        self._mark_path(stage).unlink(missing_ok=True)

    def result(self, name: str) -> dict[str, Any]:
        """What `evaluation/<name>.json` holds, as in `blimp.firstwords` or `untrained.blimp.firstwords`."""
        return read_json(self.result_path(name))

    def has_result(self, name: str, fingerprint: str | None = None) -> bool:
        """Whether a result is done and still there; with `fingerprint`, whether it is of those settings."""
        mark = self.mark(f"evaluation.{name}")
        same = mark is not None and fingerprint in (None, mark.fingerprint)
        return same and self.result_path(name).is_file()

    def facts(self) -> dict[str, Any]:
        """The content of run.json; empty where there is none."""
        try:
            return read_json(self.path / "run.json")
        except (OSError, ValueError):
            return {}

    def adopt(
        self, stage: str, fingerprint: str, is_whole: Callable[[Path], bool] = lambda _: True
    ) -> RunFolder | None:
        """Take a done stage over from a run beside this one that made the same; None where there is none.

        is_whole: whether its folder holds what it should; one that was damaged is left where it is.
        Files are hard-linked (copied where the file system cannot): they are never changed in place, so runs may share
        them, and each folder stays complete by itself.
        """
        for sibling in runs_in(self.path.parent):
            if sibling.path == self.path or not sibling.is_done(stage, fingerprint):
                continue
            if not is_whole(sibling.stage(stage)):
                continue
            mark = sibling.mark(stage)
            try:
                with atomic_folder(self.stage(stage)) as new:
                    shutil.copytree(sibling.stage(stage), new, copy_function=_link_or_copy, dirs_exist_ok=True)
            except (OSError, shutil.Error):  # the sibling is being removed: make the stage ourselves
                continue
            if mark is not None:
                self.set_done(stage, fingerprint, mark.seconds, mark.facts | {"taken_from": sibling.name})
            return sibling
        return None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this run for one process. Raises FirstwordsError where another one writes it."""
        from filelock import FileLock, Timeout

        owner = self.path / ".owner"
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            by = owner.read_text() if owner.exists() else "another process"
            raise FirstwordsError(
                f"the run '{self.name}' is being written by {by}",
                where=str(self.path),
                do="wait for it to end, or give this run another --name",
            ) from None
        except PermissionError as error:
            raise FirstwordsError(
                f"the run folder cannot be written: {error.strerror}",
                where=str(self.path),
                do="choose another folder with --workspace, or make this one writable",
            ) from None
        try:
            owner.write_text(f"process {os.getpid()} on {platform.node()}")
            self._remove_unfinished()
            yield
        finally:
            owner.unlink(missing_ok=True)
            lock.release()

    def _remove_unfinished(self) -> None:
        """What a killed process had begun to write: a training state can be gigabytes, and nobody would read it.

        Only where writers hold the lock: results of evaluations are written without.
        """
        for left in (*self.path.glob(".*.tmp"), *self.stage("training").glob("**/.*.tmp")):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def result_path(self, name: str) -> Path:
        """Where the result of that name is kept."""
        return self.stage("evaluation") / f"{name}.json"

    def _mark_path(self, stage: str) -> Path:
        return self.path / "done" / f"{stage}.json"


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def words_of(checkpoint: str) -> int:
    """The words seen that a checkpoint is named by: `words-0003M` -> 3,000,000; `words-1500` -> 1,500."""
    count = checkpoint.removeprefix("words-")
    return int(count.removesuffix("M")) * (1_000_000 if count.endswith("M") else 1)


def runs_in(workspace: Path) -> list[RunFolder]:
    """All runs of a workspace folder, by name."""
    if not workspace.is_dir():
        return []
    return [RunFolder(path) for path in sorted(workspace.iterdir()) if (path / "recipe.toml").is_file()]


def find_run(name: str, workspace: Path) -> RunFolder:
    """The run of that name (or at that path). Raises FirstwordsError where there is none."""
    for path in (workspace / name, Path(name)):
        if (path / "recipe.toml").is_file():
            return RunFolder(path)
    names = [run.name for run in runs_in(workspace)]
    raise FirstwordsError(
        f"there is no run '{name}'",
        where=str(workspace.absolute()) + (f" (runs: {', '.join(names)})" if names else " (no runs yet)"),
        do=did_you_mean(name, names) or f"make it with `firstwords run {name}`",
    )


def claim_run(name: str, workspace: Path, *, exact: bool, same: Callable[[RunFolder], str | None]) -> RunFolder:
    """The run folder for a recipe: the one that already holds it, or a fresh one.

    `same` says how a folder's recipe differs, or None where it is the same. A name taken by another recipe gets a
    number (`model-b-2`), unless the user has named the run (`exact`): then it is an error.
    """
    number = 1
    while True:
        run = RunFolder(workspace / (name if number == 1 else f"{name}-{number}"))
        if not (run.path / "recipe.toml").is_file():
            return run
        difference = same(run)
        if difference is None:
            return run
        if exact:
            raise FirstwordsError(
                f"the run folder '{run.name}' holds another recipe: {difference}",
                where=str(run.path),
                do="give another --name; nothing in that folder was changed",
            )
        number += 1
