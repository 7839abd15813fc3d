"""The figures of others are those of BLiMP's paper, and stand beside a result only where it is one on BLiMP."""

from __future__ import annotations

from pathlib import Path

import pytest

from firstwords.evaluation.babylm_counts import full_counts
from firstwords.evaluation.pairs import load_suite
from firstwords.evaluation.reference import (
    REFERENCE_COLUMNS,
    reference_columns,
    reference_overall,
    reference_paradigms,
    reference_phenomena,
)

ALL = [one.uid for one in reference_paradigms()]


def test_means_of_the_67_paradigms_are_the_papers() -> None:
    assert len(set(ALL)) == 67
    means = {column: round(100 * value, 1) for column, value in reference_overall(ALL).items()}
    assert means == {
        "5-gram": 61.2,
        "LSTM": 69.8,
        "Transformer-XL": 69.6,
        "GPT-2 large": 83.0,
        "people": 88.6,
        "people, majority": 96.4,
    }


def test_every_figure_is_a_share_and_the_majority_is_of_five_items() -> None:
    for one in reference_paradigms():
        assert list(one.accuracies) == list(REFERENCE_COLUMNS)
        assert all(0 <= value <= 1 for value in one.accuracies.values())
        assert one.people_majority in (0.8, 1.0)


def test_paradigms_are_those_of_the_official_filtered_set() -> None:
    assert sorted(ALL) == sorted(full_counts("blimp"))


def test_phenomena_are_12_and_their_means_are_over_their_paradigms() -> None:
    phenomena = reference_phenomena(ALL)
    assert all(len(values) == 12 for values in phenomena.values())
    assert phenomena["5-gram"]["anaphor_agreement"] == pytest.approx((0.439 + 0.519) / 2)
    # BLiMP's own files call two of the nine s-selection.
    argument = [one.people for one in reference_paradigms() if one.phenomenon == "argument_structure"]
    assert len(argument) == 9
    assert phenomena["people"]["argument_structure"] == pytest.approx(sum(argument) / 9)


def test_a_part_of_blimp_gets_its_part_of_the_figures() -> None:
    some = ["wh_island", "my_own", "adjunct_island", "wh_island"]
    columns = reference_columns(some)
    assert columns["GPT-2 large"] == {"wh_island": 0.789, "adjunct_island": 0.894}
    assert list(columns["GPT-2 large"]) == ["wh_island", "adjunct_island"]
    assert reference_phenomena(some)["LSTM"] == {"island_effects": pytest.approx((0.467 + 0.674) / 2)}
    assert reference_overall(some)["people"] == pytest.approx((0.73 + 0.94) / 2)


def test_another_suite_gets_none() -> None:
    grammar = {pair.uid for pair in load_suite("grammar", [], Path("unused")).pairs}
    for paradigms in (sorted(grammar), []):
        assert reference_columns(paradigms) == {}
        assert reference_phenomena(paradigms) == {}
        assert reference_overall(paradigms) == {}


def test_phenomena_and_fields_are_named_as_those_of_the_pairs(shared_data: Path, tmp_path: Path) -> None:
    blimp = load_suite("blimp", [shared_data], tmp_path, offline=True)
    named = {pair.uid: (pair.phenomenon, pair.field) for pair in blimp.pairs}
    assert {one.uid: (one.phenomenon, one.field) for one in reference_paradigms()} == named
