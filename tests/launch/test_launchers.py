"""Several processes train what one would train, go on where any number of them stopped, and end badly with a word."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from firstwords import pipeline
from firstwords.errors import FirstwordsError
from firstwords.launch.launchers import Torchrun
from firstwords.recipe import Recipe
from firstwords.run_folder import RunFolder
from firstwords.training.checkpoints import saved_states
from firstwords.training.trackers import read_metrics
from tests.report.conftest import TINY

pytestmark = pytest.mark.heavy

EXACT = {
    "training.precision": "fp32",
    "training.max-steps": "8",
    "training.resume-minutes": "1e-9",
    "training.eval-every-steps": "4",
    # The average is spread over processes as the weights are.
    "training.ema-decay": "0.9",
    # Steps of several micro-batches' worth of rows, and one row that the processes cannot share evenly.
    "training.batch-size": "5",
    "training.accumulation": "2",
    "evaluation.suites": "[]",
    "evaluation.untrained-control": "false",
}


def recipe_with(**changes: str) -> Recipe:
    given = EXACT | {f"training.{key.replace('_', '-')}": value for key, value in changes.items()}
    return Recipe.parse(TINY.encode(), "tiny.toml").override(given)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Trained by one process, with every state kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("firstwords.training.checkpoints._KEPT_STATES", 1_000)
        workspace = tmp_path_factory.mktemp("alone")
        return pipeline.run(recipe_with(), workspace=workspace, until="training", offline=True)


def losses_of(run: RunFolder) -> list[float]:
    lines = read_metrics(run.stage("training") / "metrics.jsonl")
    return [value for line in lines for key, value in line.items() if key.endswith(("train_loss", "dev_loss"))]


def weights_of(run: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(run.stage("training") / "checkpoints" / "last" / "model.safetensors")


def assert_alike(run: RunFolder, alone: RunFolder) -> None:
    assert losses_of(run) == pytest.approx(losses_of(alone), abs=1e-5)
    for name, weight in weights_of(alone).items():
        assert torch.allclose(weights_of(run)[name], weight, atol=1e-4), name


@pytest.mark.parametrize("sharded", ["false", "true"])
def test_two_processes_train_what_one_trains(sharded: str, alone: RunFolder, tmp_path: Path) -> None:
    recipe = recipe_with(shard_weights=sharded)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    environment = dict(os.environ)
    run = pipeline.run(recipe, workspace=tmp_path, until="training", offline=True, train=Torchrun(2))
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert environment == dict(os.environ)
    assert_alike(run, alone)
    mark = run.mark("training")
    assert mark is not None and mark.facts["steps"] == 8
    assert sorted(path.name for path in (run.stage("training") / "checkpoints").iterdir()) == [
        "best", "ema", "last", "untrained",
    ]  # fmt: skip

    # One process goes on from what two have saved.
    states = saved_states(run.stage("training") / "state")
    shutil.rmtree(states[-1])
    mark_file = run.path / "done" / "training.json"
    mark_file.unlink()
    pipeline.run(recipe, workspace=tmp_path, until="training", offline=True)
    assert_alike(run, alone)


def test_two_processes_go_on_where_one_stopped(alone: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(alone.path.parent, tmp_path / "runs")
    run = RunFolder(tmp_path / "runs" / alone.name)
    for state in saved_states(run.stage("training") / "state")[3:]:
        shutil.rmtree(state)
    (run.path / "done" / "training.json").unlink()
    pipeline.run(recipe_with(), workspace=tmp_path / "runs", until="training", offline=True, train=Torchrun(2))
    assert_alike(run, alone)


def test_an_error_of_the_training_is_the_users_error(tmp_path: Path) -> None:
    recipe = recipe_with(peak_lr="1e38", warmup_steps="0")
    with pytest.raises(FirstwordsError, match="the loss is not finite at step") as refused:
        pipeline.run(recipe, workspace=tmp_path, until="training", offline=True, train=Torchrun(2))
    assert refused.value.exit_code == 3


def test_muon_is_not_spread_over_processes(tmp_path: Path) -> None:
    recipe = recipe_with(shard_weights="true", optimizer="muon")
    with pytest.raises(FirstwordsError, match="Muon needs whole matrices"):
        pipeline.run(recipe, workspace=tmp_path, until="training", offline=True, train=Torchrun(2))


ENDLESS = ["--training.max-steps", "100000", "--training.epochs", "100000", "--training.resume-minutes", "0.005"]


def begin(place: Path, *words: str) -> subprocess.Popen[str]:
    (place / "tiny.toml").write_text(TINY)
    command = [sys.executable, "-m", "firstwords", "train", "tiny.toml", "--offline", *words]
    return subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def wait_for_state(place: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not saved_states(place / "runs" / "tiny" / "training" / "state"):
        assert process.poll() is None and time.monotonic() < end, process.stderr and process.stderr.read()
        time.sleep(0.1)


def test_a_killed_process_ends_the_run_with_a_message_and_a_good_checkpoint(tmp_path: Path) -> None:
    process = begin(tmp_path, "--on", "torchrun", "--processes", "2", *ENDLESS)
    wait_for_state(tmp_path, process)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "firstwords.launch.worker" in child.cmdline()
    ]
    assert len(workers) == 2
    victim = next(worker for worker in workers if worker.environ()["RANK"] == "1")
    os.kill(victim.pid, signal.SIGKILL)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "firstwords: training process 2 of 2 was ended by SIGKILL; its state after step" in told
    assert "do:    run it again" in told and "Traceback" not in told
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)

    # What it left is whole: one process goes on from it, and Ctrl-C stops that one.
    step = int(saved_states(tmp_path / "runs" / "tiny" / "training" / "state")[-1].name.removeprefix("step-"))
    again = begin(tmp_path, "--on", "torchrun", "--processes", "2", *ENDLESS)
    end = time.monotonic() + 120
    states = tmp_path / "runs" / "tiny" / "training" / "state"
    while int(saved_states(states)[-1].name.removeprefix("step-")) <= step:
        assert again.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    again.send_signal(signal.SIGINT)
    _, told = again.communicate(timeout=120)
    assert again.returncode == 130
    assert "stopped after step" in told and "Traceback" not in told


def test_torchrun_itself_can_start_the_processes(alone: RunFolder, tmp_path: Path) -> None:
    run = pipeline.run(recipe_with(), workspace=tmp_path, until="tokens", offline=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "-m", "firstwords.launch.worker", str(run.path)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert_alike(run, alone)
    pipeline.run(recipe_with(), workspace=tmp_path, until="training", offline=True)
    assert run.mark("training") is not None


AHEAD = """
import sys
from firstwords.launch.worker import main
from firstwords.training.devices import Device
Device.leaves_cpu_idle = property(lambda device: True)
sys.exit(main())
"""
"""A process that begins the next step before it reads the last one's loss, as on GPUs."""


def test_processes_that_run_ahead_agree_when_they_save(alone: RunFolder, tmp_path: Path) -> None:
    run = pipeline.run(recipe_with(), workspace=tmp_path, until="tokens", offline=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, sys.executable, "-c", AHEAD, str(run.path)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert_alike(run, alone)

    # What they saved after a step is the model of that step: one process goes on from it, and ends with the same.
    before, last = saved_states(run.stage("training") / "state")
    assert before.name == "step-00000006", "one is due after every step, and the next has been begun"
    shutil.rmtree(last)
    pipeline.run(recipe_with(), workspace=tmp_path, until="training", offline=True)
    assert_alike(run, alone)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--processes", "2"], "--on does not name it"),
        (["--on", "torchrun", "--processes", "0"], "give a number above 0"),
        (["--on", "slurm"], "--on is 'slurm', not a value it can take"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_made(words: list[str], said: str, tmp_path: Path) -> None:
    process = begin(tmp_path, *words)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2 and said in told and "Traceback" not in told
    assert not (tmp_path / "runs").exists()
