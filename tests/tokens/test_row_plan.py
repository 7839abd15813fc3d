"""Which rows each step reads: without schedules as it always was, with them all of the text in every epoch."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstwords.errors import FirstwordsError
from firstwords.settings import TrainingSettings
from firstwords.tokens.row_plan import EvenPlan, StagedPlan, plan_rows

Values = list[tuple[int, float]]


def training(**settings: object) -> TrainingSettings:
    return TrainingSettings.model_validate(settings)


@st.composite
def courses(draw: st.DrawFn, largest: int) -> Values:
    ends = sorted(draw(st.sets(st.floats(0.01, 0.99), min_size=1, max_size=3)))
    return [(draw(st.integers(2, largest)), end) for end in ends]


@given(
    rows=st.integers(1, 60),
    batch_size=st.integers(1, 9),
    accumulation=st.integers(1, 5),
    epochs=st.floats(0.2, 4),
    max_steps=st.none() | st.integers(1, 30),
)
def test_without_schedules_steps_are_those_of_the_older_formulas(
    rows: int, batch_size: int, accumulation: int, epochs: float, max_steps: int | None
) -> None:
    settings = training(
        batch_size=batch_size,
        accumulation=accumulation,
        epochs=epochs,
        max_steps=max_steps,
        whole_steps_per_epoch=True,
    )
    plan = plan_rows(rows * 7 + 3, 7, settings)
    assert isinstance(plan, EvenPlan)
    batches_per_epoch = -(-rows // batch_size)
    steps = max(1, round(max(1, batches_per_epoch // accumulation) * epochs))
    assert plan.steps == (steps if max_steps is None else min(steps, max_steps))
    for step in range(plan.steps):
        expected = []
        for batch in range(step * accumulation, (step + 1) * accumulation):
            epoch, number = divmod(batch, batches_per_epoch)
            first = number * batch_size
            expected += [(epoch, row * 7, 7) for row in range(first, min(first + batch_size, rows))]
        places = [plan.place(row) for row in range(plan.first_row(step), plan.first_row(step + 1))]
        assert [(place.epoch, place.unit, place.units) for place in places] == expected
        assert plan.epochs_done(step + 1) == (step + 1) * accumulation / batches_per_epoch


@given(
    epoch_units=st.integers(16, 400),
    sizes=courses(7),
    contexts=courses(16),
    accumulation=st.integers(1, 3),
    epochs=st.sampled_from([1, 1.5, 2, 5]),
    max_steps=st.none() | st.integers(1, 40),
)
def test_staged_rows_follow_one_another_through_every_epoch(
    epoch_units: int, sizes: Values, contexts: Values, accumulation: int, epochs: float, max_steps: int | None
) -> None:
    settings = training(
        batch_size=5, batch_size_schedule=sizes, context_schedule=contexts, accumulation=accumulation, epochs=epochs,
        max_steps=max_steps,
    )  # fmt: skip
    plan = StagedPlan(epoch_units, 16, settings)
    assert plan.first_row(0) == 0
    for step in range(plan.steps):
        rows = range(plan.first_row(step), plan.first_row(step + 1))
        share = step / plan.steps
        # round() of a border may put one step on its other side.
        near = any(abs(end - share) * plan.steps <= 1 for _, end in [*sizes, *contexts])
        if not near:
            size = next((value for value, end in sizes if share < end), 5)
            context = next((value for value, end in contexts if share < end), 16)
            assert len(rows) == size * accumulation
            assert {plan.place(row).units for row in rows} == {context}
    places = [plan.place(row) for row in range(plan.first_row(plan.steps))]
    for before, after in itertools.pairwise(places):
        end = before.unit + before.units
        if after.epoch == before.epoch:
            assert after.unit == end, "a row begins where the one before it ended"
        else:
            assert (after.epoch, after.unit) == (before.epoch + 1, 0)
            assert epoch_units - end < after.units, "only what fills no row is left out of an epoch"
    assert max_steps is not None or plan.epochs_done(plan.steps) > 0
    assert plan.steps == 1 or plan.epochs_done(plan.steps) <= epochs
    done = [plan.epochs_done(steps) for steps in range(plan.steps + 1)]
    assert done[0] == 0 and done == sorted(done)


@given(epoch_units=st.integers(200, 5_000), sizes=courses(7), epochs=st.integers(1, 5))
def test_there_are_as_many_steps_as_the_epochs_have_text_for(epoch_units: int, sizes: Values, epochs: int) -> None:
    settings = training(batch_size=5, batch_size_schedule=sizes, epochs=epochs)
    plan = StagedPlan(epoch_units, 1, settings)
    # What is left over is less than a step, or what moving a border by half a step changes.
    left = epochs * epoch_units - plan.first_row(plan.steps)
    assert 0 <= left <= 7 * (1 + len(sizes))


@given(batch_size=st.integers(1, 6), epochs=st.integers(1, 4))
def test_a_course_of_one_value_reads_the_rows_of_no_course(batch_size: int, epochs: int) -> None:
    even = plan_rows(batch_size * 10, 1, training(batch_size=batch_size, epochs=epochs))
    staged = plan_rows(
        batch_size * 10, 1, training(batch_size=batch_size, epochs=epochs, batch_size_schedule=[(batch_size, 0.5)])
    )
    assert isinstance(staged, StagedPlan)
    assert staged.steps == even.steps
    for step in range(even.steps + 1):
        assert staged.first_row(step) == even.first_row(step)
        assert staged.epochs_done(step) == pytest.approx(even.epochs_done(step))


@given(max_steps=st.integers(4, 50))
def test_fewer_steps_go_through_the_whole_course(max_steps: int) -> None:
    settings = training(batch_size=4, batch_size_schedule=[(1, 0.25), (2, 0.5)], max_steps=max_steps)
    plan = StagedPlan(100_000, 1, settings)
    assert plan.steps == max_steps
    sizes = [plan.first_row(step + 1) - plan.first_row(step) for step in range(max_steps)]
    assert sizes == sorted(sizes) and set(sizes) == {1, 2, 4}
    assert sizes.count(4) == max_steps - round(max_steps / 2)


def test_a_text_shorter_than_the_longest_row_is_refused() -> None:
    with pytest.raises(FirstwordsError, match="less than one row of 60"):
        plan_rows(50, 32, training(context_schedule=[(60, 0.5)]))


@given(rows=st.integers(1, 60), batch_size=st.integers(1, 9), accumulation=st.integers(1, 9), epochs=st.integers(1, 12))
def test_steps_are_as_many_as_the_epochs_fill(rows: int, batch_size: int, accumulation: int, epochs: int) -> None:
    plan = EvenPlan(rows, 1, training(batch_size=batch_size, accumulation=accumulation, epochs=epochs))
    assert plan.steps == 1 or plan.epochs_done(plan.steps) <= epochs
    assert plan.epochs_done(plan.steps + 1) > epochs


def test_a_tenth_of_ten_epochs_is_one() -> None:
    assert EvenPlan(10, 1, training(batch_size=1, epochs=0.1 * 3)).steps == 3
