"""States that are written while training goes on hold the weights of their own step."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from firstwords.model.llama import Llama
from firstwords.training import keeper as keeper_module
from firstwords.training.checkpoints import Progress, load_checkpoint
from firstwords.training.keeper import Keeper
from firstwords.training.optimizers import make_optimizer
from firstwords.training.processes import ALONE
from tests.training.conftest import recipe_with


def made(folder: Path, *, beside: bool) -> tuple[Keeper, Llama, torch.optim.Optimizer]:
    recipe = recipe_with()
    model = Llama(recipe.model, 50)
    optimizer = make_optimizer(model, recipe.training)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    folder.mkdir()
    (folder / "metrics.jsonl").touch()
    keep = Keeper(folder, recipe.training, model, optimizer, scaler, None, ALONE, lambda _: None, beside=beside)
    return keep, model, optimizer


def step(model: Llama, optimizer: torch.optim.Optimizer) -> None:
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()


def test_training_may_go_on_while_a_state_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep, model, optimizer = made(tmp_path / "run", beside=True)
    step(model, optimizer)
    kept = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    moments = {name: value.clone() for name, value in optimizer.state[model.norm.weight].items()}
    go_on = threading.Event()
    write = keeper_module.write_state

    def slow(*given: object) -> None:
        assert go_on.wait(30)
        write(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(keeper_module, "write_state", slow)
    keep.save_state(Progress(1, 10), wait=False)
    step(model, optimizer)  # the weights change while the state waits to be written
    assert not (keep.states / "step-00000001").exists()
    go_on.set()
    keep.finish_writing()
    again, again_model, again_optimizer = made(tmp_path / "again", beside=False)
    assert load_checkpoint(keep.states / "step-00000001", again_model, again_optimizer).step == 1
    assert all(torch.equal(weight, kept[name]) for name, weight in again_model.named_parameters())
    restored = again_optimizer.state[again_model.norm.weight]
    assert all(torch.equal(restored[name], value) for name, value in moments.items())
    assert again.resume().step == 0, "its own folder has no state"


def test_a_state_that_could_not_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep, _, _ = made(tmp_path / "run", beside=True)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keeper_module, "write_state", full)
    keep.save_state(Progress(1, 10), wait=False)
    with pytest.raises(OSError, match="No space left"):
        keep.save_state(Progress(2, 20), wait=False)
    with pytest.raises(OSError, match="No space left"):
        keep.save_state(Progress(3, 30), wait=True)
