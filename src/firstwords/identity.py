"""What makes a run that run: its settings, the texts that it reads, and the fingerprints of its stages."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstwords.errors import FirstwordsError
from firstwords.recipe import Recipe
from firstwords.run_folder import fingerprint_of, sha256_of
from firstwords.settings import TrainingSettings

if TYPE_CHECKING:
    from firstwords.corpus.sources import ResolvedSource
    from firstwords.data.download import Say

STAGES = ("corpus", "tokenizer", "tokens", "training", "evaluation", "export")

_VERSION = 1
"""Raised when a stage's code changes what it makes, so that old results are not taken for new ones."""

_FREE_TRAINING_SETTINGS = {
    "compile", "device", "log-every-steps", "micro-tokens", "resume-minutes", "select", "gradient-checkpointing",
    "shard-weights",
}  # fmt: skip
"""Training settings that do not change the weights of a training run."""

_LATER_TRAINING_SETTINGS = {
    "decay-shape", "deterministic", "optimizer", "muon-scale", "muon-momentum", "muon-nesterov", "muon-steps", "z-loss",
}  # fmt: skip
"""Training settings that runs once did not have. At their defaults, which do what was done before there was a choice,
they are no part of the identity: the runs made then are found again. (Settings that are None are never part of it.)"""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The texts that a recipe reads, found and checksummed."""

    sources: dict[str, ResolvedSource]
    dev_path: Path | None
    checksums: dict[str, list[str]]


def find_inputs(
    recipe: Recipe, data: Sequence[Path], cache: Path, *, offline: bool = False, say: Say | None = None
) -> Inputs:
    """Find (or download) the texts of a recipe; `say` is told of downloads.

    Raises FirstwordsError for the first that is not to be had.
    """
    from firstwords.corpus.sources import resolve_sources
    from firstwords.data.folders import find

    sources = resolve_sources(recipe.corpus, data, cache, offline=offline, say=say)
    checksums = {name: [file.sha256 for file in source.files] for name, source in sources.items()}
    dev_path = None
    if recipe.corpus.dev_file is not None:
        named = Path(recipe.corpus.dev_file)
        dev_path = named if named.is_file() else find([named.name], data)
        if dev_path is None:
            raise FirstwordsError(
                f"the dev text {recipe.corpus.dev_file} is not there",
                where="corpus.dev-file; searched: " + (", ".join(map(str, data)) or "no --data folder"),
                do="give the folder that has it with --data, or set corpus.dev-file to its path",
            )
        checksums["dev"] = [sha256_of(dev_path)]
    return Inputs(sources, dev_path, checksums)


def identity_settings(recipe: Recipe) -> dict[str, Any]:
    """The settings that make the trained weights what they are: two runs that agree in them are the same run."""
    values = recipe.to_values()
    kept = {key: values[key] for key in ("seed", "corpus", "tokenizer", "tokens", "model", "training")}
    before = TrainingSettings().model_dump(mode="json", by_alias=True)
    kept["training"] = {
        key: value
        for key, value in kept["training"].items()
        if key not in _FREE_TRAINING_SETTINGS and not (key in _LATER_TRAINING_SETTINGS and value == before[key])
    }
    if kept["training"]["schedule"] == "warmup-stable-decay":
        kept["training"]["schedule"] = "constant-decay"  # its name in older runs
    exact = recipe.training.accumulation == 1 and recipe.training.epochs.is_integer()
    if recipe.training.whole_steps_per_epoch or exact:
        del kept["training"]["whole-steps-per-epoch"]  # older runs counted so, or no other steps come of it
    return kept


def stage_fingerprints(recipe: Recipe, checksums: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Fingerprint of each stage: of its own settings and of the stages that it reads."""
    values = identity_settings(recipe)
    corpus = fingerprint_of("corpus", _VERSION, values["corpus"], recipe.seed, checksums)
    begins = [recipe.tokens.add_bos, recipe.model.positions]
    tokenizer = fingerprint_of("tokenizer", _VERSION, values["tokenizer"], begins, corpus)
    tokens = fingerprint_of("tokens", _VERSION, values["tokens"], tokenizer)
    training = fingerprint_of("training", _VERSION, values["model"], values["training"], recipe.seed, tokens)
    chosen = recipe.training.select
    evaluation = fingerprint_of("evaluation", _VERSION, recipe.to_values()["evaluation"], chosen, training)
    export = fingerprint_of("export", _VERSION, recipe.to_values()["export"], evaluation)
    return dict(zip(STAGES, (corpus, tokenizer, tokens, training, evaluation, export), strict=True))


def differing_setting(ours: Any, theirs: Any, key: str = "") -> str | None:
    """The first setting in which two nested values differ, in words, or None."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted({*ours, *theirs}):
            found = differing_setting(ours.get(name), theirs.get(name), f"{key}.{name}" if key else name)
            if found:
                return found
        return None
    return None if ours == theirs else f"{key} is {theirs} there and {ours} here"


def environment() -> dict[str, Any]:
    """Versions, machine and git commit that a result depends on."""
    import platform
    from importlib.metadata import version

    import torch

    packages = ("firstwords", "torch", "tokenizers", "transformers", "safetensors", "numpy")
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        "machine": platform.machine(),
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": commit or None,
    }
