"""Models by name: a checkpoint of a run, a Hugging Face folder, an id on the Hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstwords.errors import FirstwordsError, did_you_mean
from firstwords.recipe import Recipe
from firstwords.run_folder import RunFolder, read_json, runs_in

if TYPE_CHECKING:
    from firstwords.evaluation.subject import Subject
    from firstwords.model.llama import Llama
    from firstwords.report.page_pairs import SurprisalOf, TokenBits
    from firstwords.tokens.tokenizer import Vocabulary

EVALUATED = "evaluated"
"""Folder of a workspace that holds the results of models that no run made."""


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model that is there and not opened yet.

    place: where its results are kept. identity: what it is, so that results of other weights are not taken for its own.
    """

    name: str
    place: RunFolder
    identity: str
    open: Callable[[], Subject]


def find_subject(
    name: str,
    *,
    workspace: Path = Path("runs"),
    checkpoint: str | None = None,
    device: str = "auto",
    allow_code: bool = False,
    offline: bool = False,
    say: Callable[[str], None] | None = None,
) -> FoundModel:
    """A model by the name of its run, the path of its run or Hugging Face folder, or its id on the Hub (downloaded).

    checkpoint: of a run; the one that its recipe selects where not given. device: auto, cpu, cuda or mps.
    allow_code: run the Python files that come with a model. Raises FirstwordsError where the name is of nothing.
    """
    from firstwords.data.download import cache_folder
    from firstwords.evaluation.opening import fetch_model, folder_identity, is_hub_id, open_folder

    run = find_run_folder(name, workspace)
    if run is not None:
        chosen = checkpoint or selected(run)
        return FoundModel(
            run.name, run, checkpoint_identity(run, chosen), partial(open_run, run, chosen, device=device)
        )
    path, origin = Path(name), None
    if not path.exists() and is_hub_id(name):
        path, origin = fetch_model(name, cache_folder(), offline=offline, say=say)
    elif not path.is_dir():
        names = [run.name for run in runs_in(workspace)]
        raise FirstwordsError(
            f"there is no model '{name}'",
            where=f"runs in {workspace.absolute()}: {', '.join(names) or 'none yet'}",
            do=did_you_mean(name, names) or "name a run, the path of a model folder, or owner/name on the Hub",
        )
    if checkpoint is not None:
        raise FirstwordsError(
            f"'{name}' is no run, so it has no checkpoint '{checkpoint}'",
            where="--checkpoint",
            do="leave it out; a revision on the Hub is named as owner/name@revision",
        )
    identity = folder_identity(path)
    called = name.removeprefix("hub:") if origin else folder_name(path, workspace)
    return FoundModel(
        called,
        evaluated_folder(called, workspace),
        identity,
        lambda: open_folder(
            path, device=scoring_device(device), allow_code=allow_code, name=called, origin=origin or str(path)
        ),
    )


def open_subject(name: str, **options: Any) -> Subject:
    """`find_subject`, opened."""
    return find_subject(name, **options).open()


def find_run_folder(name: str, workspace: Path) -> RunFolder | None:
    """The run of that name (or at that path); None where the name is of something else."""
    for path in (workspace / name, Path(name)):
        if (path / "recipe.toml").is_file():
            return RunFolder(path)
    return None


def evaluated_folder(name: str, workspace: Path) -> RunFolder:
    """Where the results of a model that no run made are kept."""
    return RunFolder(workspace / EVALUATED / name.replace("/", "--"))


def folder_name(path: Path, workspace: Path) -> str:
    """What the model of a folder is called: as the folder, with digits of its checksum where another has that name."""
    from firstwords.evaluation.opening import folder_identity

    name = path.resolve().name
    return f"{name}-{folder_identity(path)[:8]}" if _is_of_another(evaluated_folder(name, workspace), path) else name


def _is_of_another(place: RunFolder, path: Path) -> bool:
    """Whether results there are all of model folders elsewhere: many are called `final` or `checkpoint-500`."""
    origins = set()
    for result in place.stage("evaluation").glob("*.json"):
        with suppress(OSError, ValueError):
            origins.add(read_json(result).get("model", {}).get("origin"))
    origins.discard(None)
    return bool(origins) and not any(Path(origin).resolve() == path.resolve() for origin in origins)


def checkpoint_identity(run: RunFolder, checkpoint: str) -> str:
    """What a run's checkpoint is: the fingerprint of the training that made it, and its name."""
    try:
        training = (run.stage("training") / "fingerprint").read_text()
    except OSError:
        training = "not trained"
    return f"{training}:{checkpoint}"


def open_run(run: RunFolder, checkpoint: str | None = None, *, device: str = "auto") -> Subject:
    """The model of a kept checkpoint of a run, ready to score; raises what `load_model` raises."""
    from firstwords.evaluation.own_model import OwnModel

    model, vocabulary = load_model(run, checkpoint, device=device)
    return OwnModel(run.name, model, vocabulary, {"run": run.name, "checkpoint": checkpoint or selected(run)})


def surprisals_of(run: RunFolder) -> SurprisalOf | None:
    """Asks the selected model for surprisals, which is loaded when it is first asked; None where none was trained."""
    if run.mark("training") is None:
        return None
    subject = None

    def surprisals(texts: Sequence[str]) -> list[list[TokenBits]]:
        nonlocal subject
        subject = subject or open_run(run)
        return piece_surprisals(subject, texts)

    return surprisals


def piece_surprisals(subject: Subject, texts: Sequence[str]) -> list[list[TokenBits]]:
    """Each text cut after its tokens, each piece with its surprisal in bits, as a report shows it."""
    from firstwords.evaluation.surprisal import Manner, score_texts

    found = score_texts(subject, texts, Manner.of(subject))
    return [[(piece.text, piece.bits) for piece in scored.pieces()] for scored in found]


def load_model(run: RunFolder, checkpoint: str | None = None, *, device: str = "auto") -> tuple[Llama, Vocabulary]:
    """The model of a kept checkpoint of a run (`last`, `best`, `untrained`, `words-0001M`) and its vocabulary.

    checkpoint: the one that the recipe selects where not given. device: `auto` is the recipe's.
    Raises FirstwordsError, with those that there are, where there is no such checkpoint.
    """
    from firstwords.model.llama import Llama
    from firstwords.tokens.tokenizer import Vocabulary
    from firstwords.training.checkpoints import load_checkpoint

    recipe, checkpoint = Recipe.load(run.path / "recipe.toml"), checkpoint or selected(run)
    folder = run.stage("training") / "checkpoints" / checkpoint
    if not folder.is_dir():
        kept = checkpoints_of(run)
        raise FirstwordsError(
            f"the run '{run.name}' has no checkpoint '{checkpoint}'",
            where=", ".join(kept) or str(folder),
            do=did_you_mean(checkpoint, kept)
            or f"train it with `firstwords run {run.path / 'recipe.toml'} --name {run.name}`",
        )
    kind = scoring_device(recipe.training.device if device == "auto" else device)
    vocabulary = Vocabulary.load(run.stage("tokenizer"))
    model = Llama(recipe.model, vocabulary.size)
    load_checkpoint(folder, model)
    return model.to(kind).eval(), vocabulary


def selected(run: RunFolder) -> str:
    """The checkpoint that the run's recipe selects."""
    return Recipe.load(run.path / "recipe.toml").training.select


def scoring_device(asked: str) -> str:
    """cpu, cuda or mps: the one that is asked for, or the best that is there; FirstwordsError where it is not.

    The process is prepared for it: a stranger's model wants fast products as much as our own.
    """
    from firstwords.settings import TrainingSettings
    from firstwords.training.devices import choose_device, prepare_process

    prepare_process()
    return choose_device(TrainingSettings.model_validate({"device": asked})).kind


def checkpoints_of(run: RunFolder) -> list[str]:
    """Names of the kept checkpoints, in the order of their words seen, then `best`, `last`, `untrained`."""
    folder = run.stage("training") / "checkpoints"
    names = sorted(path.name for path in folder.glob("*") if path.is_dir() and not path.name.startswith("."))
    return sorted(names, key=lambda name: not name.startswith("words-"))
