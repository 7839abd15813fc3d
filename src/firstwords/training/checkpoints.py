"""Weights and training states on disk: written whole, checked when read, never pickled.

A checkpoint is a folder with `model.safetensors` and `checkpoint.json`, which holds the SHA-256 of every file beside
it. A training state has `optimizer.safetensors` too, and everything else that the next step depends on; where the
weights are averaged, `average.safetensors`.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from firstwords.errors import FirstwordsError
from firstwords.run_folder import atomic_folder, atomic_write_json, sha256_of
from firstwords.training.averaging import WeightAverage
from firstwords.training.processes import gathered, like

_KEPT_STATES = 2


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training run is: what the next step needs besides weights and optimizer."""

    step: int
    """Optimizer steps done."""
    words_seen: int
    best_dev_loss: float | None = None
    scaler: dict[str, float] | None = None
    """State of fp16's loss scaling."""
    seconds: float = 0.0
    """Time spent training so far."""
    micro_tokens: int | None = None
    """Inputs of the largest micro-batch: sums are rounded by it."""

    def after(self, step: int, words_seen: int, seconds: float, micro_tokens: int) -> Progress:
        """The progress after one more step, which took so many seconds."""
        seconds += self.seconds
        return replace(self, step=step, words_seen=words_seen, seconds=seconds, micro_tokens=micro_tokens)


Files = dict[str, dict[str, Tensor]]
"""Names of a checkpoint's files, and the tensors in each."""


def checkpoint_files(
    model: nn.Module,
    optimizer: Optimizer | None = None,
    average: WeightAverage | None = None,
    *,
    copied: bool = False,
) -> Files:
    """A model, and with `optimizer` the whole training state, as it is to be written.

    All processes that train together call it, since each may hold a part of the tensors. copied: to the CPU's memory,
    so that training may go on before they are written.
    """
    files = {"model.safetensors": gathered(dict(model.named_parameters()))}
    if optimizer is not None:
        files["optimizer.safetensors"] = gathered(_optimizer_tensors(optimizer))
    if average is not None:
        files["average.safetensors"] = gathered(average.tensors)
    if copied:
        for tensors in files.values():
            tensors.update({name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()})
    return files


def write_checkpoint(folder: Path, files: Files, progress: Progress) -> None:
    """Write a checkpoint as one folder; an older one is replaced."""
    with atomic_folder(folder) as new:
        for name, tensors in files.items():
            _save_file(tensors, new / name)
        checksums = {path.name: sha256_of(path) for path in sorted(new.iterdir())}
        atomic_write_json(new / "checkpoint.json", {"progress": asdict(progress), "sha256": checksums})


def _save_file(tensors: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(tensors, path)
    except SafetensorError as error:  # it hides the system's errors, such as a full disk
        raise OSError(errno.EIO, str(error), str(path)) from None


def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: Optimizer | None = None, average: WeightAverage | None = None
) -> Progress:
    """Read a checkpoint into `model` (and `optimizer` and `average`) and return how far it was.

    Raises FirstwordsError where a file is missing, damaged (checksum) or of another shape.
    """
    try:
        facts = json.loads((folder / "checkpoint.json").read_text())
        for name, checksum in facts["sha256"].items():
            if sha256_of(folder / name) != checksum:
                raise _damaged(folder / name, "its bytes do not match their checksum")
        _fill(dict(model.named_parameters()), folder / "model.safetensors")
        if optimizer is not None:
            _restore_optimizer(optimizer, load_file(folder / "optimizer.safetensors"))
        if average is not None:
            _fill(average.tensors, folder / "average.safetensors")
        return Progress(**facts["progress"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, str(error)) from None


@torch.no_grad()
def _fill(tensors: Mapping[str, Tensor], path: Path) -> None:
    kept = load_file(path)
    if _shapes(kept) != _shapes(tensors):
        raise _damaged(path, "it holds a model of another shape")
    for name, tensor in tensors.items():
        tensor.copy_(like(kept[name], tensor))


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _damaged(path: Path, why: str) -> FirstwordsError:
    folder = path if path.is_dir() else path.parent
    return FirstwordsError(
        f"the checkpoint cannot be used: {why}",
        where=str(path),
        do=f"delete {folder}; training then goes on from the state before it, or starts again",
    )


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value.contiguous() for index, values in state.items() for name, value in values.items()}


def _restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = like(value, weights[int(index)])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def write_state(folder: Path, files: Files, progress: Progress) -> None:
    """Write the state after `progress.step` steps into `folder` and remove all but the newest two."""
    write_checkpoint(folder / f"step-{progress.step:08d}", files, progress)
    for old in saved_states(folder)[:-_KEPT_STATES]:
        shutil.rmtree(old)


def saved_states(folder: Path) -> list[Path]:
    """Folders of the saved training states, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())
