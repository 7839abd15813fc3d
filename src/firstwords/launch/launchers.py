"""Where a run is trained: in this process, or in several that torchrun starts."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstwords.errors import FirstwordsError
from firstwords.launch.worker import LAUNCHED, PROBLEM, RESULT, error_file
from firstwords.machine import usable_cores
from firstwords.run_folder import RunFolder, read_json

if TYPE_CHECKING:
    from firstwords.recipe import Recipe
    from firstwords.reporter import Reporter
    from firstwords.training.loop import TrainingResult


_TAKEN_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


_STOPPING_SECONDS = 30 * 60
"""How long a process that is to stop may take to end its step (or a dev loss) and to save its state; torchrun's own
limit is half a minute."""


class Torchrun:
    """Trains in several processes of this machine, which torchrun's agent starts and watches."""

    def __init__(self, processes: int) -> None:
        """processes: how many; on CUDA no more than there are devices."""
        self.processes = processes

    def __call__(
        self, recipe: Recipe, vocabulary: int, tokens: Path, folder: Path, *, reporter: Reporter | None = None
    ) -> TrainingResult:
        """Train `folder`'s run; the processes read its recipe.toml and tell their progress themselves."""
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch

        from firstwords.training.loop import Interrupted, TrainingResult

        self._check_devices(recipe)
        run = RunFolder(folder.parent)
        for left in (folder / RESULT, folder / PROBLEM, *(error_file(run, rank) for rank in range(self.processes))):
            left.unlink(missing_ok=True)
        logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # it prints tables of its own
        before = _last_state(folder)
        try:
            with _lent_to_the_agent(threads=max(1, usable_cores() // self.processes)):
                config = LaunchConfig(
                    min_nodes=1,
                    max_nodes=1,
                    nproc_per_node=self.processes,
                    rdzv_backend="c10d",
                    rdzv_endpoint="localhost:0",
                    max_restarts=0,
                    monitor_interval=0.2,
                )
                elastic_launch(config, sys.executable)("-m", "firstwords.launch.worker", str(run.path))
        except SignalException as stop:
            raise self._stopped(folder, before, Interrupted) from stop
        except ChildFailedError as failure:
            raise self._told(run, failure, before, Interrupted) from None
        return TrainingResult(**read_json(folder / RESULT))

    def _check_devices(self, recipe: Recipe) -> None:
        import torch

        from firstwords.training.devices import choose_device

        device = choose_device(recipe.training).kind
        there = torch.cuda.device_count() if device == "cuda" else self.processes if device == "cpu" else 1
        if self.processes > there:
            raise FirstwordsError(
                f"{self.processes} processes need as many {device} devices, and this machine has {there}",
                where="--processes",
                do=f"give --processes {there}, or --training.device cpu",
            )

    def _stopped(self, folder: Path, before: int, interrupted: type[Exception]) -> BaseException:
        after = _last_state(folder)
        return (
            interrupted(after) if after > before else KeyboardInterrupt(f"stopped; its last state is of step {after}")
        )

    def _told(self, run: RunFolder, failure: Any, before: int, interrupted: type[Exception]) -> Exception:
        """What the user is told of a process that ended badly."""
        folder = run.stage("training")
        if (folder / PROBLEM).is_file():
            return FirstwordsError(**read_json(folder / PROBLEM))
        codes = {rank: one.exitcode for rank, one in failure.failures.items()}
        if 130 in codes.values():
            return interrupted(_last_state(folder))
        # The others only heard that it had gone.
        rank = next((rank for rank, code in codes.items() if code < 0), min(codes))
        how = f"was ended by {signal.Signals(-codes[rank]).name}" if codes[rank] < 0 else "failed"
        step = _last_state(folder)
        kept = f"its state after step {step:,} is kept" if step else "no state had been saved yet"
        heard = error_file(run, rank)
        return FirstwordsError(
            f"training process {rank + 1} of {self.processes} {how}; {kept}",
            where=str(heard if heard.is_file() else folder),
            do="run it again: it goes on from there. If memory ran out, use fewer processes or a smaller batch",
            exit_code=1,
        )


def cuda_devices() -> int:
    """How many there are."""
    import torch

    return torch.cuda.device_count()


@contextmanager
def _lent_to_the_agent(threads: int) -> Iterator[None]:
    """What torchrun's agent and its processes take of this one, given back afterwards.

    The agent keeps the signals that it took over. The processes inherit the environment: each would take all cores, and
    they would wait for each other; later programs of this process must not.
    """
    handlers = {number: signal.getsignal(number) for number in _TAKEN_SIGNALS}
    before = dict(os.environ)
    os.environ[LAUNCHED] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_STOPPING_SECONDS))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _last_state(folder: Path) -> int:
    """Step of the newest saved state; 0 where there is none."""
    from firstwords.training.checkpoints import saved_states

    states = saved_states(folder / "state")
    return int(states[-1].name.removeprefix("step-")) if states else 0
