"""The runs of the workspace and their models, by names that are looked up and never made into paths."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from pathlib import Path

from firstwords.errors import FirstwordsError, did_you_mean
from firstwords.models import checkpoints_of, selected
from firstwords.run_folder import RunFolder, runs_in
from firstwords.web.refusal import Refusal

_DRAWN = (".svg", ".png", ".pdf")
_MOST_FILE_BYTES = 20_000_000


@dataclass(frozen=True, slots=True)
class Model:
    """A kept checkpoint of a run. name: `model-b`, for the one that its recipe selects, or `model-b@words-0001M`."""

    name: str
    run: RunFolder
    checkpoint: str
    main: bool
    """Whether it is the one that stands for its run."""

    @property
    def folder(self) -> Path:
        """Where its weights are."""
        return self.run.stage("training") / "checkpoints" / self.checkpoint


class Workspace:
    """A folder of runs. Whatever a request names is compared with what is there now."""

    def __init__(self, path: Path) -> None:
        """It need not exist yet."""
        self.path = path

    def runs(self) -> list[RunFolder]:
        """The runs that are there, by name."""
        try:
            return [run for run in runs_in(self.path) if _printable(run.name)]
        except OSError as error:
            raise Refusal(500, f"the workspace cannot be read: {error.strerror}", where=str(self.path)) from None

    def run(self, name: str) -> RunFolder:
        """The run of that name. Raises Refusal where there is none."""
        runs = {run.name: run for run in self.runs()}
        if name not in runs:
            raise Refusal(
                404,
                f"there is no run '{shortened(name)}'",
                where="the workspace of this page",
                do=did_you_mean(name[:200], runs) or "choose one of the table of runs",
            )
        return runs[name]

    def models(self) -> list[Model]:
        """Every kept checkpoint of every run: of each run first the one that stands for it."""
        return [model for run in self.runs() for model in _models_of(run)]

    def model(self, name: str) -> Model:
        """The model of that name. Raises Refusal where there is none, or where it is gone."""
        models = {model.name: model for model in self.models()}
        if name not in models:
            raise Refusal(
                404,
                f"there is no model '{shortened(name)}'",
                where="the workspace of this page",
                do=did_you_mean(name[:200], models) or "choose another; its run may have been removed",
            )
        return models[name]

    def drawing(self, run: RunFolder, name: str) -> tuple[bytes, str]:
        """A chart of a run's report and its media type. Raises Refusal for any other file."""
        folder = run.path / "charts"
        files = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
        path = files.get(name)
        if path is None or path.suffix not in _DRAWN:
            raise Refusal(404, f"the report has no chart '{shortened(name)}'", do="write the report again")
        return own_file(run, path), mimetypes.types_map[path.suffix]


def own_file(run: RunFolder, path: Path) -> bytes:
    """A file of a run, which a link to a file elsewhere is not. Raises Refusal where it cannot be read."""
    try:
        if run.path.resolve() not in path.resolve(strict=True).parents:
            raise Refusal(403, "the file is a link to somewhere outside its run", where=f"{run.name}/{path.name}")
        if path.stat().st_size > _MOST_FILE_BYTES:
            raise Refusal(413, "the file is too large to be shown", where=f"{run.name}/{path.name}")
        return path.read_bytes()
    except OSError as error:
        raise Refusal(
            404, f"the file cannot be read: {error.strerror}", where=f"{run.name}/{path.name}", do="write it again"
        ) from None


def shortened(text: str, most: int = 80) -> str:
    """A text for a message, cut where it is long."""
    return text if len(text) <= most else f"{text[:most]}…"


def _models_of(run: RunFolder) -> list[Model]:
    try:
        kept, first = checkpoints_of(run), selected(run)
    except (FirstwordsError, OSError):
        return []
    if first not in kept:
        # A run at work has only some of its checkpoints: the latest stands for it.
        words = [name for name in kept if name.startswith("words-")]
        first = next((name for name in ("last", *reversed(words), *kept) if name in kept), "")
    ordered = sorted(kept, key=lambda name: name != first)
    return [
        Model(run.name if name == first else f"{run.name}@{name}", run, name, name == first)
        for name in ordered
        if _printable(name)
    ]


def _printable(name: str) -> bool:
    """Whether a file's name can stand in a page: on Linux it may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
