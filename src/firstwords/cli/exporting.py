"""The command that lets a model out: its Hugging Face folder, a copy of it, a push to the Hub, a GGUF file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from firstwords.cli.options import NO_OPTIONS, RecipeOptions, RecipeSettings
from firstwords.cli.printing import print_columns, print_json
from firstwords.cli.results import print_accuracies
from firstwords.cli.running import carry_out
from firstwords.errors import FirstwordsError

if TYPE_CHECKING:
    from firstwords.publishing import ModelFiles
    from firstwords.run_folder import RunFolder

_SENDING = Group("Where to", sort_key=1)


def export(
    run: Annotated[str, Parameter(name="RUN", help="A run, or a recipe: what of it is not done yet is made first.")],
    /,
    *,
    to: Annotated[
        str | None,
        Parameter(
            group=_SENDING,
            help="Copy the model's folder to this folder, or push it to the Hugging Face Hub: hub:owner/name. The "
            "Hub's token is $HF_TOKEN or what `hf auth login` keeps.",
        ),
    ] = None,
    gguf: Annotated[
        Literal["f32", "f16"] | None,
        Parameter(
            group=_SENDING,
            help="Put a GGUF file into the model's folder first, for llama.cpp and programs like it, with numbers of "
            "this type.",
        ),
    ] = None,
    public: Annotated[
        bool,
        Parameter(
            group=_SENDING,
            help="Everybody may see the repository on the Hub. It is private where this is not given.",
            show_default=False,
        ),
    ] = False,
    force: Annotated[
        bool,
        Parameter(
            group=_SENDING,
            help="Copy into a folder that holds other files too; those of the same names are replaced.",
            show_default=False,
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        Parameter(
            group=_SENDING, help="Only show what would be copied or pushed; nothing is made.", show_default=False
        ),
    ] = False,
    options: RecipeOptions = NO_OPTIONS,
    settings: RecipeSettings,
) -> None:
    """Write the Hugging Face folder of a run's model with its card, and copy it to a folder or push it to the Hub."""
    from firstwords import publishing
    from firstwords.report.summary import summarize

    repository = _checked_destination(to, public=public, force=force, dry_run=dry_run, offline=options.offline)
    if gguf is not None:
        from firstwords.model.gguf import check_gguf_is_installed

        check_gguf_is_installed()
    if dry_run:
        found = _finished(run, options, settings)
        if found is None:
            raise FirstwordsError(
                f"the model of '{run}' is not made yet, so there is nothing to show",
                where="--dry-run",
                do=f"make it with `firstwords run {run}`",
            )
        _show_plan(found, to or "", repository, gguf, public=public, force=force, json=options.json)
        return
    folder = _finished(run, options, settings) or _made(run, options, settings)
    sent: dict[str, Any] = {}
    if gguf is not None:
        sent["gguf"] = _with_gguf(folder, gguf)
    if to is not None:
        sent |= _send(publishing.ModelFiles.of(folder), to, repository, public=public, force=force)
    summary = summarize(folder)
    if options.json:
        print_json(asdict(summary) | {"exported": sent})
        return
    if to is None:
        print_accuracies([summary])
        print()
    print_columns([("run", summary.path), ("model", str(summary.model)), *_lines(sent)])


def _with_gguf(folder: RunFolder, number_type: Literal["f32", "f16"]) -> dict[str, Any]:
    """Write the GGUF file into the model's folder, and warn of what it cannot hold."""
    from firstwords.publishing import add_gguf

    written = add_gguf(folder, number_type)
    for lost in written.lost:
        print(f"warning: {lost}", file=sys.stderr)
    return {"path": str(written.path), "bytes": written.bytes, "type": number_type, "lost": list(written.lost)}


def _checked_destination(to: str | None, *, public: bool, force: bool, dry_run: bool, offline: bool) -> str | None:
    """The repository to push to, or None. All that can be wrong with where it goes is told before hours of training."""
    from firstwords.publishing import check_destination, check_login, hub_repository

    repository = None if to is None else hub_repository(to)
    folder = Path(to) if to is not None and repository is None else None
    for flag, idle, about, wanted in (
        ("--public", public and repository is None, "is about a repository on the Hub", "hub:owner/name"),
        ("--force", force and folder is None, "is about a folder", "DIR"),
        ("--dry-run", dry_run and to is None, "shows what --to would do", "DIR or hub:owner/name"),
    ):
        if idle:
            raise FirstwordsError(f"{flag} {about}, and --to names none", where=flag, do=f"give --to {wanted}")
    if repository is not None and not dry_run:
        if offline:
            raise FirstwordsError("nothing can be pushed with --offline", where="--offline", do="leave it out")
        check_login()
    if folder is not None:
        check_destination(folder, force=force)
    return repository


def _run_named(name: str, options: RecipeOptions, settings: Mapping[str, str]) -> RunFolder | None:
    """The run of that name, where nothing asks for another one: what its folder says of it makes it no other."""
    from firstwords.models import find_run_folder

    if any(not key.startswith("export.") for key in settings) or options.seed is not None or options.name is not None:
        return None
    return find_run_folder(name, options.workspace)


def _finished(name: str, options: RecipeOptions, settings: Mapping[str, str]) -> RunFolder | None:
    """The run of that name, where it has its model's folder."""
    run = None if settings else _run_named(name, options, settings)
    made = run is not None and run.mark("export") is not None and (run.stage("export") / "config.json").is_file()
    return run if made else None


def _made(name: str, options: RecipeOptions, settings: dict[str, str]) -> RunFolder:
    """Carry out what is not done: of a run by its own recipe, else of the recipe of that name."""
    run = _run_named(name, options, settings)
    if run is None:
        return carry_out("export", name, options, settings)
    options = replace(options, name=run.name, workspace=run.path.parent)
    return carry_out("export", str(run.path / "recipe.toml"), options, settings)


def _send(model: ModelFiles, to: str, repository: str | None, *, public: bool, force: bool) -> dict[str, Any]:
    from firstwords import publishing

    if repository is None:
        publishing.copy_to(model, Path(to), force=force)
        return {"to": str(Path(to).resolve()), "files": dict(model.sizes_bytes)}
    if not sys.stderr.isatty():
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # not in __all__

        disable_progress_bars()
    pushed = publishing.push(model, repository, public=public)
    facts = {"to": pushed.url, "commit": pushed.commit, "private": pushed.private}
    return facts | {"files": dict(pushed.files)}


def _lines(sent: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = []
    if "gguf" in sent:
        lines.append(("gguf", f"{sent['gguf']['path']} ({sent['gguf']['bytes']:,} bytes)"))
    if "commit" in sent:
        seen = "private: only you and your organization see it" if sent["private"] else "everybody sees it"
        lines += [("pushed to", f"{sent['to']} ({seen})"), ("commit", sent["commit"])]
    elif "to" in sent:
        lines.append(("copied to", sent["to"]))
    return lines


def _show_plan(
    run: RunFolder, to: str, repository: str | None, gguf: str | None, *, public: bool, force: bool, json: bool
) -> None:
    """What would go where; neither the network nor a file is touched."""
    from firstwords.publishing import ModelFiles, check_destination, gguf_name

    model = ModelFiles.of(run)
    if repository is None:
        check_destination(Path(to), model, force=force)
    sizes: dict[str, int | None] = dict(model.sizes_bytes)
    if gguf is not None:
        sizes[gguf_name(run)] = None
    visibility = None if repository is None else ("public" if public else "private")
    if json:
        print_json({"run": run.name, "to": to, "dry_run": True, "visibility": visibility, "files": sizes})
        return
    print(f"would {'copy' if repository is None else 'push'} {model.folder} to {to}")
    if visibility is not None:
        print(f"a repository that is made for it is {visibility}; one that is there keeps who may see it")
    print_columns(
        [(name, "written then" if size is None else f"{size:,}") for name, size in sizes.items()]
        + [("together", f"{sum(size or 0 for size in sizes.values()):,} bytes")],
        right=[1],
    )
