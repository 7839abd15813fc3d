"""What is kept of a training run, and when: states to go on from, the best and the last model, models by words seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from torch.optim import Optimizer

from firstwords.model.llama import Llama
from firstwords.settings import TrainingSettings
from firstwords.training.averaging import WeightAverage
from firstwords.training.checkpoints import (
    Progress,
    checkpoint_files,
    load_checkpoint,
    saved_states,
    write_checkpoint,
    write_state,
)
from firstwords.training.processes import Processes
from firstwords.training.schedule import checkpoint_name, checkpoints_due
from firstwords.training.trackers import write_losses


class Keeper:
    """Saves into a training folder: `state/` by time, `checkpoints/` by what a model is kept for."""

    def __init__(
        self,
        folder: Path,
        settings: TrainingSettings,
        model: Llama,
        optimizer: Optimizer,
        scaler: torch.amp.GradScaler,
        average: WeightAverage | None,
        processes: Processes,
        on_checkpoint: Callable[[Path], None],
        *,
        beside: bool = False,
    ) -> None:
        """All processes that train together have one and call it alike; the one that leads writes.

        on_checkpoint: told, in that one, of every model kept at a count of words seen. beside: states are written while
        training goes on, from a copy; worth it where steps do not need the CPU.
        """
        self.states = folder / "state"
        self._folder, self._settings = folder, settings
        self._model, self._optimizer, self._scaler, self._average = model, optimizer, scaler, average
        self._processes, self._on_checkpoint = processes, on_checkpoint
        self._last_save = time.monotonic()
        self._beside = beside
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._writing: Future[None] | None = None

    def resume(self) -> Progress:
        """Load the newest state; where there is none, keep the untrained model and begin at step 0."""
        states = saved_states(self.states)
        if not states:
            begin = Progress(0, 0)
            self._save("untrained", begin)
            return begin
        progress = load_checkpoint(states[-1], self._model, self._optimizer, self._average)
        if progress.scaler:
            self._scaler.load_state_dict(progress.scaler)
        return progress

    def keep_best(self, progress: Progress, dev_loss: float) -> Progress:
        """Keep the model if no dev loss was lower; returns the progress that knows it."""
        if progress.best_dev_loss is not None and dev_loss >= progress.best_dev_loss:
            return progress
        progress = replace(progress, best_dev_loss=dev_loss)
        self._save("best", progress)
        return progress

    def keep_at_words(self, words_before: int, progress: Progress) -> None:
        """Keep the model for every count of words that the last step has passed."""
        for words in checkpoints_due(words_before, progress.words_seen, self._settings):
            folder = self._save(checkpoint_name(words), progress)
            if self._processes.leads:
                self._on_checkpoint(folder)

    def keeps_after(self, words_before: int, words: int) -> bool:
        """Whether a model is kept after a step between two counts of words."""
        return bool(checkpoints_due(words_before, words, self._settings))

    def keep_last(self, progress: Progress) -> None:
        """Keep the model after the last step, and the average of its weights where there is one."""
        self.finish_writing()
        self._save("last", progress)
        if self._average is not None:
            with self._average.in_place():
                self._save("ema", progress)
        self._write_losses()

    def state_is_due(self) -> bool:
        """Whether the time between saves of the state is over."""
        return time.monotonic() - self._last_save > 60 * self._settings.resume_minutes

    def save_state(self, progress: Progress, *, wait: bool) -> None:
        """Save everything that the next step depends on. The metrics of all steps must be on disk before.

        wait: until it is written. Raises OSError where this or the state before it could not be.
        """
        self.finish_writing()
        progress = replace(progress, scaler=self._scaler.state_dict() or None)
        files = checkpoint_files(self._model, self._optimizer, self._average, copied=self._beside)
        if self._processes.leads:
            self._writing = self._writer.submit(write_state, self.states, files, progress)
        if wait or not self._beside:
            self.finish_writing()
        self._write_losses()
        self._last_save = time.monotonic()

    def finish_writing(self) -> None:
        """Wait for the state that is being written; its error is raised here."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _save(self, name: str, progress: Progress) -> Path:
        folder = self._folder / "checkpoints" / name
        files = checkpoint_files(self._model)
        if self._processes.leads:
            write_checkpoint(folder, files, progress)
        return folder

    def _write_losses(self) -> None:
        if self._processes.leads:
            every = self._settings.log_every_steps
            write_losses(self._folder / "metrics.jsonl", self._folder / "losses.csv", every)
