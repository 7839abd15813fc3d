"""A run's model folder goes out: a copy of it to a folder, or a push to the Hugging Face Hub. Nothing is executed.

A copy has `firstwords-export.json` beside its files, with their checksums and what model they are. So a later copy of
the same model may replace it, and nothing that somebody else put or changed there is lost.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from firstwords.errors import FirstwordsError
from firstwords.models import checkpoint_identity, selected
from firstwords.recipe import Recipe
from firstwords.run_folder import RunFolder, atomic_folder, atomic_write_json, read_json, sha256_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelInfo

    from firstwords.model.gguf import GgufFile, GgufType

MANIFEST = "firstwords-export.json"
"""File beside a copy's files that says what they are."""

_ON_THE_HUB = "hub:"
_LONGEST_TOLD = 300
"""Characters of another library's message that are shown."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What of a run goes out. identity: which model it is. sizes_bytes: of the files of its folder, by their names."""

    run: str
    folder: Path
    identity: str
    sizes_bytes: Mapping[str, int]

    @classmethod
    def of(cls, run: RunFolder) -> ModelFiles:
        """Raises FirstwordsError where the run has no model folder yet."""
        folder = run.stage("export")
        if run.mark("export") is None or not (folder / "config.json").is_file():
            raise FirstwordsError(
                f"the run '{run.name}' has no model folder yet",
                where=str(folder),
                do=f"finish it with `firstwords run {run.name}`",
            )
        names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        sizes = {name: (folder / name).stat().st_size for name in names}
        return cls(run.name, folder, checkpoint_identity(run, selected(run)), sizes)


def add_gguf(run: RunFolder, kind: GgufType) -> GgufFile:
    """Write `<run>.gguf` into the run's model folder, from the weights and the tokenizer that are there.

    Raises what `ModelFiles.of` and `model.gguf.write_gguf` raise.
    """
    from firstwords.model.gguf import write_gguf
    from firstwords.model.hub import load_folder

    folder = ModelFiles.of(run).folder
    recipe = Recipe.load(run.path / "recipe.toml")
    model, vocabulary = load_folder(folder)
    with run.locked():
        return write_gguf(
            model,
            vocabulary,
            folder / gguf_name(run),
            name=run.name,
            kind=kind,
            license=recipe.export.license,
            description=f"{recipe.description} Made with firstwords {version('firstwords')}.".strip(),
        )


def gguf_name(run: RunFolder) -> str:
    """Name of the GGUF file in the run's model folder."""
    return f"{run.name}.gguf"


# ---- to a folder ----


def check_destination(folder: Path, model: ModelFiles | None = None, *, force: bool = False) -> None:
    """Raises FirstwordsError where `folder` is a file, the run's own, or holds what no copy of this model put there.

    model: what is to go there; where it is not made yet, only what needs no model is checked. force: files of others
    may be there.
    """
    folder = folder.resolve()
    if folder.exists() and not folder.is_dir():
        raise FirstwordsError("it is a file, not a folder", where=str(folder), do="name a folder, or a new name")
    if model is not None and folder == model.folder.resolve():
        raise FirstwordsError("that is the run's own model folder", where=str(folder), do="name another folder")
    if force or not folder.exists():
        return
    manifest = _read_manifest(folder)
    for path in sorted(folder.iterdir()):
        if path.name == MANIFEST and manifest:
            continue
        recorded = manifest.get("files", {}).get(path.name)
        if recorded is None:
            raise _taken(folder, f"it holds '{path.name}', which no export wrote")
        if not path.is_file() or sha256_of(path) != recorded:
            raise _taken(folder, f"'{path.name}' was changed after it was exported there")
    if manifest and model is not None and manifest.get("model") != model.identity:
        raise _taken(folder, f"it holds another model, of the run '{manifest.get('run')}'")


def copy_to(model: ModelFiles, folder: Path, *, force: bool = False) -> None:
    """Copy the model's files to `folder`, all of them or none; an earlier copy of the same model is replaced.

    force: write among the files of others; those of the same names are replaced, one after the other. Raises
    FirstwordsError where there is something that would be lost.
    """
    check_destination(folder, model, force=force)
    folder = folder.resolve()
    old = _read_manifest(folder).get("files", {}) if folder.is_dir() else {}
    if folder.is_dir() and (force or Path.cwd().is_relative_to(folder)):
        # A folder that stays: others' files are in it, or a shell that would find itself in a deleted folder.
        _copy_among(model, folder)
        for name in old.keys() - model.sizes_bytes.keys() if not force else ():
            (folder / name).unlink()
        return
    with atomic_folder(folder) as new:
        for name in model.sizes_bytes:
            shutil.copyfile(model.folder / name, new / name)
        _write_manifest(model, new)


def _copy_among(model: ModelFiles, folder: Path) -> None:
    for name in model.sizes_bytes:
        temporary = folder / f".{name}.{os.getpid()}.tmp"
        try:
            shutil.copyfile(model.folder / name, temporary)
            temporary.replace(folder / name)
        finally:
            temporary.unlink(missing_ok=True)
    _write_manifest(model, folder)


def _write_manifest(model: ModelFiles, folder: Path) -> None:
    facts = {"firstwords": version("firstwords"), "run": model.run, "model": model.identity}
    atomic_write_json(
        folder / MANIFEST, facts | {"files": {name: sha256_of(folder / name) for name in model.sizes_bytes}}
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    """What an earlier copy says of itself; empty where there is none, or it cannot be read as one."""
    try:
        manifest = read_json(folder / MANIFEST)
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) and isinstance(manifest.get("files"), dict) else {}


def _taken(folder: Path, why: str) -> FirstwordsError:
    return FirstwordsError(
        f"the folder is not free: {why}",
        where=str(folder),
        do="name another folder, or give --force to write there; files of the same names are replaced then",
    )


# ---- to the Hub ----


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did. files: names and sizes, as the Hub has them. private: who may see the repository."""

    url: str
    commit: str
    private: bool
    files: Mapping[str, int]


def hub_repository(destination: str) -> str | None:
    """`owner/name` of `hub:owner/name`, None for a folder. Raises FirstwordsError where the Hub allows no such name."""
    if destination != "hub" and not destination.startswith(_ON_THE_HUB):
        return None
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # it is, but not by __all__

    name = destination.removeprefix(_ON_THE_HUB)
    try:
        validate_repo_id(name)
    except HFValidationError:
        name = ""
    if name.count("/") != 1:
        raise FirstwordsError(
            f"'{destination}' names no repository of the Hub",
            where="--to",
            do="write hub:owner/name, with your name or your organization's before the stroke",
        )
    return name


def check_login() -> str:
    """The token of the Hugging Face Hub: $HF_TOKEN, or what `hf auth login` keeps. FirstwordsError without one."""
    from huggingface_hub import get_token

    with _explained("the Hub"):
        token = get_token()
    if token is None:
        raise FirstwordsError(
            "there is no token of the Hugging Face Hub, so nothing can be pushed",
            where="$HF_TOKEN, and what `hf auth login` keeps",
            do="make a token that may write at https://huggingface.co/settings/tokens, then run `hf auth login`",
        )
    return token


def push(model: ModelFiles, repository: str, *, public: bool = False, endpoint: str | None = None) -> Pushed:
    """Push the model's files to `owner/name` on the Hub; the repository is made where it is not there, private if not
    `public`.

    A repository that is there keeps its visibility: one that all can see is only written with `public`. endpoint: the
    Hub's address; $HF_ENDPOINT, else huggingface.co. Raises FirstwordsError without a token, where the Hub refuses or
    cannot be reached, and where what arrived is not what was sent.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint, token=check_login(), library_name="firstwords", library_version=version("firstwords"))
    with _explained(f"{api.endpoint}/{repository}"):
        info = _repository(api, repository)
        if info is None:
            api.create_repo(repository, private=not public)
        elif not info.private and not public:
            raise FirstwordsError(
                f"everybody can see the repository {repository}, and so could see this model",
                where=f"{api.endpoint}/{repository}",
                do="give --public if that is meant, or name another repository",
            )
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=model.folder,
            commit_message=f"{model.run}, exported by firstwords {version('firstwords')}",
            ignore_patterns=[".*", "*/*"],
        )
        found = api.model_info(repository, revision=commit.oid, files_metadata=True)
    there = {file.rfilename: file.size or 0 for file in found.siblings or []}
    for name, size in model.sizes_bytes.items():
        if there.get(name) != size:
            raise FirstwordsError(
                f"the push of {repository} is incomplete: '{name}' "
                + ("is not there" if name not in there else f"has {there[name]:,} bytes there and {size:,} here"),
                where=commit.commit_url,
                do="look for a .gitignore in the repository, and push again",
                exit_code=3,
            )
    return Pushed(
        f"{api.endpoint}/{repository}",
        commit.oid,
        bool(found.private),
        {name: there[name] for name in model.sizes_bytes},
    )


def _repository(api: HfApi, repository: str) -> ModelInfo | None:
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.model_info(repository)
    except RepositoryNotFoundError:
        return None


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into one message; what it does not know passes."""
    from huggingface_hub.errors import HfHubHTTPError

    # Which HTTP library it uses depends on its version; that one's errors are the base of its own.
    http_error: type[Exception] = cast(Any, HfHubHTTPError.__bases__[0])
    try:
        yield
    except (http_error, OSError, ValueError, RuntimeError) as error:
        # An upload in a thread is told by a RuntimeError of which the Hub's answer is the cause.
        cause: BaseException | None = error
        while isinstance(cause, RuntimeError):
            cause = cause.__cause__
        if isinstance(cause, HfHubHTTPError):
            said = cause.server_message or cause.response.headers.get("X-Error-Message") or ""
            raise _refused(cause.response.status_code, said, where) from None
        # Large files go by the library hf_xet, which has no errors of its own and tells the status in its words.
        status = re.search(r"status (?:client|server) error \((\d{3}) ", str(error))
        if status is not None:
            raise _refused(int(status[1]), "", where) from None
        raise FirstwordsError(f"the push failed: {_told(error)}", where=where, do=_advice(error, http_error)) from None


def _advice(error: Exception, http_error: type[Exception]) -> str:
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "unset HF_HUB_OFFLINE"
    if isinstance(error, http_error | ConnectionError | TimeoutError):
        return "check the network, and $HF_ENDPOINT where it is set, and run it again"
    if isinstance(error, ValueError):
        return "correct what it names, and run it again"
    return "run it again; what has arrived is not sent again"


def _refused(status: int, said: str, where: str) -> FirstwordsError:
    """The Hub's answer with an HTTP status, and what it said."""
    what, do = {
        401: (
            "the Hub does not accept the token",
            "run `hf auth login` again, or set HF_TOKEN to a token that is valid",
        ),
        403: (
            "the token may not write there",
            "make a token that may write at https://huggingface.co/settings/tokens, and name an owner that is you",
        ),
        404: ("there is no such repository, or the token may not see it", "look at the name: hub:owner/name"),
        413: ("the files are too large for the Hub", "push without the GGUF file, or ask the Hub for more room"),
        429: ("the Hub has had too many requests from you", "wait some minutes and run it again"),
    }.get(status, ("the Hub refused", "look at what it says, and run it again"))
    if status >= 500:
        what, do = "the Hub has a fault of its own", "run it again later; https://status.huggingface.co tells its state"
    detail = f"HTTP {status}" + (f": {' '.join(said.split())}" if said else "")
    return FirstwordsError(f"{what} ({detail})", where=where, do=do)


def _told(error: Exception) -> str:
    """What an error says, on one line that is not too long."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:_LONGEST_TOLD]}" if text else type(error).__name__
