"""Submissions of others are read as choices, or refused with the place that does not fit the test set."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firstwords.errors import FirstwordsError
from firstwords.evaluation.babylm_counts import full_counts
from firstwords.evaluation.submission_reader import read_submission
from firstwords.evaluation.tasks.task import Lookup

PARTS = tuple(full_counts("blimp_supplement"))
DOMAINS = tuple(full_counts("ewok"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A supplement of two pairs a part, the second of them with equal sentences, and EWoK of one item a domain."""
    folder = tmp_path / "data"
    for name, stems in (("supplement_filtered", PARTS), ("ewok_filtered", DOMAINS)):
        (folder / name).mkdir(parents=True)
        for stem in stems:
            pairs = [
                {"sentence_good": f"Good {stem}. ", "sentence_bad": f"Bad {stem}."},
                {"sentence_good": "Same.", "sentence_bad": "Same."},
            ]
            item = {
                "Domain": stem,
                "Context1": "C one.",
                "Context2": "C two.",
                "Target1": "T one.",
                "Target2": "T two.",
            }
            rows = pairs if name == "supplement_filtered" else [item]
            (folder / name / f"{stem}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def supplement() -> dict[str, Any]:
    return {
        part: {"predictions": [{"id": f"{part}_0", "pred": f"Bad {part}."}, {"id": f"{part}_1", "pred": "Same."}]}
        for part in PARTS
    }


def read(data: Path, content: object, **options: Any) -> Any:
    path = data.parent / "submission.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_submission(path, Lookup([data], Path("nowhere"), offline=True), **options)


def test_the_chosen_sentence_counts_and_white_space_around_it_does_not(data: Path) -> None:
    content = supplement()
    content["hypernym"]["predictions"][0]["pred"] = "  Good hypernym.\n"
    found = read(data, {"blimp_supplement": content})
    judged = found.judged["supplement"]
    choices = {(one.pair.uid, one.pair.pair_id): one.choice for one in judged}
    assert choices["hypernym", "0"] == "good"
    assert choices["turn_taking", "0"] == "bad"
    assert choices["turn_taking", "1"] == "tie", "where both sentences are the same, neither is chosen"
    assert len(judged) == 10


@pytest.mark.parametrize(
    ("content", "year", "choice"),
    [
        ({"pred": " T one."}, 2025, "good"),
        ({"pred": " T two."}, 2025, "bad"),
        ({"pred": "C one. T one."}, 2026, "good"),
        ({"pred": "C two. T one."}, 2026, "bad"),
    ],
)
def test_both_years_forms_of_ewok(data: Path, content: dict, year: int, choice: str) -> None:
    mark = {"entity_tracking_filtered": None} if year == 2026 else {}
    ewok = {domain: {"predictions": [content | {"id": f"{domain}_0"}]} for domain in DOMAINS}
    found = read(data, {"ewok": ewok} | mark)
    assert found.year == year
    (judged,) = found.judged.values()
    assert {one.choice for one in judged} == {choice}


def test_test_sets_that_are_not_at_hand_are_left_out_and_said(data: Path) -> None:
    found = read(data, {"blimp_supplement": supplement(), "comps": {}, "glue": {}})
    assert list(found.judged) == ["supplement"]
    assert "COMPS is not there" in found.left_out["comps"]


def spoil(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    content = copy.deepcopy(supplement())
    change(content)
    return {"blimp_supplement": content}


WRONG: list[tuple[object, str]] = [
    ("{", "no JSON"),
    ("[" * 100_000, "cannot be read"),
    ('{"blimp": ' + "1" * 5_000 + "}", "cannot be read: Exceeds"),
    ([], "no JSON object"),
    ({}, "no predictions for minimal pairs"),
    ({"blimp_supplement": []}, "no object with the parts"),
    (spoil(lambda content: content.pop("hypernym")), "1 parts of supplement are missing: hypernym"),
    (
        spoil(lambda content: content.update(hypernyms={})),
        "'hypernyms' is no part of supplement; did you mean 'hypernym'",
    ),
    (spoil(lambda content: content.update(hypernym=[])), "no list of predictions"),
    (spoil(lambda content: content["hypernym"].update(predictions={})), "no list of predictions"),
    (spoil(lambda content: content["hypernym"]["predictions"].pop()), "there are 1 predictions for 2 pairs"),
    (spoil(lambda content: content["hypernym"]["predictions"][0].update(pred=1)), "no chosen sentence"),
    (spoil(lambda content: content["hypernym"]["predictions"][0].update(pred="Good.")), "is neither"),
    (spoil(lambda content: content["hypernym"]["predictions"].reverse()), "its id is 'hypernym_1', not 'hypernym_0'"),
]


@pytest.mark.parametrize(("content", "what"), WRONG, ids=[what for _, what in WRONG])
def test_a_file_of_another_shape_is_refused(data: Path, content: object, what: str) -> None:
    with pytest.raises(FirstwordsError, match=what) as caught:
        read(data, content)
    assert "submission.json" in (caught.value.where or "")
    assert caught.value.exit_code == 2


def test_the_place_of_a_wrong_prediction_is_named(data: Path) -> None:
    content = supplement()
    content["hypernym"]["predictions"][1]["pred"] = "Another."
    with pytest.raises(FirstwordsError) as caught:
        read(data, {"blimp_supplement": content})
    assert str(caught.value.where).endswith("submission.json: blimp_supplement: hypernym: prediction 1")


def test_a_file_that_is_not_there_is_named(data: Path) -> None:
    for path in (data / "nowhere.json", data):
        with pytest.raises(FirstwordsError, match="the file cannot be read") as caught:
            read_submission(path, Lookup([data], Path("nowhere"), offline=True))
        assert caught.value.where == str(path)


def test_an_unknown_year_is_refused(data: Path) -> None:
    with pytest.raises(FirstwordsError, match="form of 2024"):
        read(data, {"blimp_supplement": supplement()}, year=2024)
