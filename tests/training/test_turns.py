"""Steps are begun ahead of those whose numbers are read, but never past one after which something is to be done."""

from __future__ import annotations

import pytest

from firstwords.tokens.batches import StepBatch
from firstwords.training.step import StepBegun, in_turn


def told(steps: int, waits_after: set[int]) -> list[str]:
    """What happens, in its order."""
    events: list[str] = []

    def begin(step: int) -> StepBegun:
        events.append(f"begin {step}")
        return StepBegun(step, 0.0, StepBatch((), 0, 0), 0.0, lambda: (0.0, 0.0))

    for begun, is_last in in_turn(range(steps), begin, lambda step: step in waits_after):
        events.append(f"read {begun.step}" + (", the last" if is_last else ""))
    return events


def test_a_step_is_begun_before_the_last_one_is_read() -> None:
    assert told(3, set()) == ["begin 0", "begin 1", "read 0", "begin 2", "read 1", "read 2, the last"]


def test_nothing_is_begun_past_a_step_that_is_waited_for() -> None:
    assert told(4, {1}) == [
        *("begin 0", "begin 1", "read 0", "read 1, the last"),
        *("begin 2", "begin 3", "read 2", "read 3, the last"),
    ]


def test_where_each_is_waited_for_they_take_turns() -> None:
    assert told(2, {0, 1}) == ["begin 0", "read 0, the last", "begin 1", "read 1, the last"]


@pytest.mark.parametrize("waits_after", [set(), {0}])
def test_one_step_and_none(waits_after: set[int]) -> None:
    assert told(1, waits_after) == ["begin 0", "read 0, the last"]
    assert told(0, waits_after) == []
