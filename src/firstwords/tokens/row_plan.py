"""Which rows of the text each optimizer step reads: numbered through all epochs, and where each lies in its epoch.

A row is as many units of an epoch's text as it is long: tokens of the stream of documents where rows are packed, one
line where each is an example.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from operator import attrgetter

from firstwords.errors import FirstwordsError
from firstwords.settings import Course, TrainingSettings


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row lies: it begins `unit` units after the begin of its epoch's text and is `units` long."""

    row: int
    """Its number through all epochs."""
    epoch: int
    unit: int
    units: int


class EvenPlan:
    """Batches of one size and rows of one length: the batches of every epoch are alike and its last may be smaller.

    A step takes the next `accumulation` of them, across an epoch's end where it must, as Hugging Face's Trainer did
    for the cards.
    """

    def __init__(self, epoch_units: int, row_units: int, training: TrainingSettings) -> None:
        """epoch_units: an epoch's text, at least one row."""
        self._rows, self._units = epoch_units // row_units, row_units
        self._batch_size, self._accumulation = training.batch_size, training.accumulation
        self._batches = -(-self._rows // self._batch_size)
        if training.whole_steps_per_epoch:
            steps = round(max(1, self._batches // self._accumulation) * training.epochs)
        else:
            # Not one too few where the epochs are a fraction that floats do not hold.
            steps = int(self._batches * training.epochs / self._accumulation + 1e-6)
        self.steps = max(1, steps)
        if training.max_steps is not None:
            self.steps = min(self.steps, training.max_steps)

    def first_row(self, step: int) -> int:
        """Number of the first row of `step`; the rows of a step end where those of the next begin."""
        epoch, batch = divmod(step * self._accumulation, self._batches)
        return epoch * self._rows + batch * self._batch_size

    def place(self, row: int) -> Place:
        """Where a row lies."""
        epoch, number = divmod(row, self._rows)
        return Place(row, epoch, number * self._units, self._units)

    def epochs_done(self, steps: int) -> float:
        """Passes over the text after so many steps, counted in batches as the cards' Trainer counted them."""
        return steps * self._accumulation / self._batches


@dataclass(frozen=True, slots=True)
class _Stage:
    """Steps with rows of one length and as many of them, from `first_step` on."""

    first_step: int
    first_row: int
    rows_per_step: int
    units: int


class StagedPlan:
    """Batch size or length of the rows change at shares of the steps.

    The text is read on where the rows before ended, and batches are full: they go on across an epoch's end. What is
    left of an epoch and is shorter than a row is left out. There are as many steps as the epochs have text for.
    """

    def __init__(self, epoch_units: int, row_units: int, training: TrainingSettings) -> None:
        """epoch_units: an epoch's text. row_units: length of the last rows, after those of the context schedule."""
        self._epoch_units, self._row_units, self._training = epoch_units, row_units, training
        self._shares = sorted({0.0}.union(*(_ends(course) for course in (self._contexts, self._batch_sizes))))
        ends = [*self._shares[1:], 1.0]
        mean_units = sum(
            (end - start) * self._rows_at(start) * self._units_at(start)
            for start, end in zip(self._shares, ends, strict=True)
        )
        # More than fit: an epoch's last tokens may fill no row.
        steps = 2 + int(training.epochs * epoch_units / mean_units)
        self._lay_out(steps)
        while steps > 1 and self.epochs_done(steps) > training.epochs:
            steps -= 1
            self._lay_out(steps)
        if training.max_steps is not None and training.max_steps < steps:
            self._lay_out(training.max_steps)

    @property
    def _contexts(self) -> Course | None:
        return self._training.context_schedule

    @property
    def _batch_sizes(self) -> Course | None:
        return self._training.batch_size_schedule

    def first_row(self, step: int) -> int:
        """Number of the first row of `step`; the rows of a step end where those of the next begin."""
        stage = self._stages[bisect_right(self._stages, step, key=attrgetter("first_step")) - 1]
        return stage.first_row + (step - stage.first_step) * stage.rows_per_step

    def place(self, row: int) -> Place:
        """Where a row lies."""
        begin = self._segments[bisect_right(self._segments, row, key=attrgetter("row")) - 1]
        return Place(row, begin.epoch, begin.unit + (row - begin.row) * begin.units, begin.units)

    def epochs_done(self, steps: int) -> float:
        """Passes over the text after so many steps."""
        place = self.place(self.first_row(steps))
        return place.epoch + place.unit / self._epoch_units

    def _rows_at(self, share: float) -> int:
        return self._training.accumulation * _value_at(share, self._batch_sizes, self._training.batch_size)

    def _units_at(self, share: float) -> int:
        return _value_at(share, self._contexts, self._row_units)

    def _lay_out(self, steps: int) -> None:
        """Make the stages of so many steps, and the segments: the first row of each stage and of each epoch."""
        self.steps = steps
        self._stages: list[_Stage] = []
        self._segments: list[Place] = []
        row = epoch = unit = 0
        ends = [*self._shares[1:], 1.0]
        for share, end in zip(self._shares, ends, strict=True):
            first, rows_per_step, units = round(share * steps), self._rows_at(share), self._units_at(share)
            left = (round(end * steps) - first) * rows_per_step
            if not left:
                continue
            self._stages.append(_Stage(first, row, rows_per_step, units))
            while left:
                if unit + units > self._epoch_units:
                    epoch, unit = epoch + 1, 0
                taken = min(left, (self._epoch_units - unit) // units)
                self._segments.append(Place(row, epoch, unit, units))
                row, unit, left = row + taken, unit + taken * units, left - taken
        # Where the text would go on after the last step.
        if unit + units > self._epoch_units:
            epoch, unit = epoch + 1, 0
        self._segments.append(Place(row, epoch, unit, units))


def plan_rows(epoch_units: int, row_units: int, training: TrainingSettings) -> EvenPlan | StagedPlan:
    """The plan that the training settings ask for; raises FirstwordsError where the text does not fill one row."""
    longest = max(row_units, *(context for context, _ in training.context_schedule or ()), 0)
    if epoch_units < longest:
        raise FirstwordsError(
            f"the training text has {epoch_units + 1:,} tokens, less than one row of {longest}",
            where="tokens.context",
            do="give more text or a shorter context",
        )
    staged = training.batch_size_schedule is not None or training.context_schedule is not None
    return (StagedPlan if staged else EvenPlan)(epoch_units, row_units, training)


def _ends(course: Course | None) -> set[float]:
    return {until for _, until in course or ()}


def _value_at(share: float, course: Course | None, last: int) -> int:
    return next((value for value, until in course or () if share < until), last)
