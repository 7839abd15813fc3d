"""The learning rate's course, and when a model is kept."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from firstwords.settings import TrainingSettings
from firstwords.training.schedule import checkpoint_words, checkpoints_due, learning_rate


def test_cosine_is_transformers_cosine() -> None:
    from transformers import get_cosine_schedule_with_warmup

    settings = TrainingSettings(peak_lr=3e-4, warmup_steps=20)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=3e-4)
    scheduler = get_cosine_schedule_with_warmup(optimizer, 20, 100)
    for step in range(100):
        assert learning_rate(step, 100, settings) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_model_as_rates_are_those_of_its_log(shared_data: Path) -> None:
    import csv

    rows = csv.DictReader((shared_data.parent / "reference" / "card_a_losses.csv").open())
    checked = 0
    for row in rows:
        if row["learning_rate"]:
            # The log shows the rate of the step that comes next.
            rate = learning_rate(int(row["step"]), 3_575, TrainingSettings(peak_lr=3e-4, warmup_steps=200))
            assert rate == pytest.approx(float(row["learning_rate"]), rel=1e-9, abs=1e-12)
            checked += 1
    assert checked == 143


@given(
    steps=st.integers(1, 500),
    warmup=st.integers(0, 50),
    schedule=st.sampled_from(["cosine", "linear", "warmup-stable-decay"]),
    final=st.floats(0, 1),
)
def test_rates_rise_to_the_peak_and_never_rise_again(steps: int, warmup: int, schedule: str, final: float) -> None:
    settings = TrainingSettings(peak_lr=1.0, warmup_steps=warmup, schedule=schedule, final_lr_share=final)
    rates = [learning_rate(step, steps, settings) for step in range(steps)]
    assert all(0 <= rate <= 1 for rate in rates)
    after = rates[warmup:]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(after))
    if after:
        if schedule != "warmup-stable-decay" or warmup <= 0.8 * steps:
            assert after[0] == pytest.approx(1.0)
        assert after[-1] >= final - 1e-12


@given(
    stable=st.integers(1, 200),
    decay=st.integers(1, 100),
    warmup=st.integers(0, 50),
    shape=st.sampled_from(["linear", "1-sqrt"]),
    final=st.sampled_from([0.0, 0.1]),
)
def test_warmup_stable_decay_is_the_formula_of_its_three_phases(
    stable: int, decay: int, warmup: int, shape: str, final: float
) -> None:
    """Written in counts of steps, as in Hägele et al. 2024 (arXiv:2405.18392), section 3."""
    steps = warmup + stable + decay
    settings = TrainingSettings(
        peak_lr=2e-3,
        warmup_steps=warmup,
        schedule="warmup-stable-decay",
        decay_share=decay / steps,
        decay_shape=shape,
        final_lr_share=final,
    )
    for step in range(steps):
        if step < warmup:
            expected = step / warmup
        elif step < steps - decay:
            expected = 1.0
        else:
            done = (step - (steps - decay)) / decay
            expected = 1 - done if shape == "linear" else 1 - math.sqrt(done)
            expected = final + (1 - final) * expected
        # The square root makes much of the rounding where the fall begins.
        assert learning_rate(step, steps, settings) == pytest.approx(2e-3 * expected, rel=1e-6, abs=1e-9)


def test_the_older_name_of_warmup_stable_decay_is_valid_and_the_same() -> None:
    older = TrainingSettings(schedule="constant-decay", decay_share=0.3)
    newer = TrainingSettings(schedule="warmup-stable-decay", decay_share=0.3)
    assert older == newer
    # What `constant-decay` did.
    for step in range(200, 1_000):
        share = min(1.0, (1 - step / 1_000) / 0.3)
        assert learning_rate(step, 1_000, older) == 3e-4 * share


def test_babylm_checkpoints() -> None:
    words = checkpoint_words(TrainingSettings(checkpoint_words="babylm"))
    assert words[:10] == tuple(million * 10**6 for million in range(1, 11))
    assert sum(count <= 100 * 10**6 for count in words) == 19
    assert words[-1] == 10**9
    assert checkpoints_due(900_000, 2_100_000, TrainingSettings(checkpoint_words="babylm")) == (10**6, 2 * 10**6)
