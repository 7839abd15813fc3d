"""SyntaxGym: regions have the surprisals of their tokens, items are right if all predictions hold, faults are named."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firstwords.errors import FirstwordsError
from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.statistics import wilson
from firstwords.evaluation.surprisal import Manner, score_texts
from firstwords.evaluation.tasks.syntaxgym import TASK, Condition
from firstwords.evaluation.tasks.task import Lookup, NotFound, Task, TaskData, write_task_result
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings
from firstwords.tokens.tokenizer import Vocabulary

SHAPE = ModelSettings(hidden=32, layers=2, heads=2, intermediate=48, positions=64, init_std=0.3)
PLURAL = {"cat": "cats", "dog": "dogs", "bird": "birds", "girl": "girls", "teacher": "teachers"}


def suite(*formulas: str) -> dict[str, Any]:
    """Agreement with the subject over a phrase that can be missing."""
    items = []
    for number, (one, many) in enumerate(PLURAL.items(), start=1):
        conditions = []
        for name, noun, phrase in (
            ("match", one, "near the house"),
            ("mismatch", many, "near the house"),
            ("bare", one, ""),
        ):
            contents = ["The", noun, phrase, "sleeps", "."]
            regions = [{"region_number": n, "content": text} for n, text in enumerate(contents, start=1)]
            conditions.append({"condition_name": name, "regions": regions})
        items.append({"item_number": number, "conditions": conditions})
    return {
        "meta": {"name": "agreement", "metric": "sum"},
        "region_meta": {"1": "start", "2": "noun", "3": "phrase", "4": "verb", "5": "end"},
        "predictions": [{"type": "formula", "formula": formula} for formula in formulas],
        "items": items,
    }


def load(folder: Path, **suites: dict[str, Any]) -> TaskData:
    (folder / "syntaxgym").mkdir(exist_ok=True)
    for name, values in suites.items():
        (folder / "syntaxgym" / f"{name}.json").write_text(json.dumps(values))
    return TASK.load(Lookup([folder], folder))


@pytest.fixture(scope="module")
def subject(vocabulary: Vocabulary) -> OwnModel:
    return OwnModel("small", Llama(SHAPE, vocabulary.size, seed=1), vocabulary)


def test_regions_join_to_a_natural_sentence() -> None:
    condition = Condition.of({1: "I know", 2: "what", 3: "", 4: "our uncle", 5: ", they say", 6: "."})
    assert condition.text == "I know what our uncle, they say."
    pieces = {number: span and condition.text[slice(*span)] for number, span in condition.spans.items()}
    assert pieces == {1: "I know", 2: "what", 3: None, 4: "our uncle", 5: ", they say", 6: "."}


def test_regions_have_the_surprisals_of_their_tokens_and_add_up(subject: OwnModel, tmp_path: Path) -> None:
    task: Task = TASK
    data = load(tmp_path, agreement=suite("(4;%match%) < (4;%mismatch%)"))
    result = task.evaluate(subject, data, "firstwords")
    for row, noun in zip(result.rows, PLURAL, strict=True):
        bits = json.loads(row["region_bits"])
        text = f"The {noun} near the house sleeps."
        (scored,) = score_texts(subject, [text], Manner())
        assert sum(bits["match"]) == pytest.approx(scored.bits_T.sum(), abs=1e-4)
        words = [word.bits for word in scored.words()]
        assert bits["match"][:2] == pytest.approx(words[:2], abs=1e-4)
        assert bits["match"][2] == pytest.approx(sum(word or 0 for word in words[2:5]), abs=1e-4)
        assert bits["match"][3] + bits["match"][4] == pytest.approx(words[5], abs=1e-4)
        assert bits["bare"][2] == 0
        assert row["right"] == int(bits["match"][3] < bits["mismatch"][3])


def test_an_item_is_right_if_all_predictions_of_its_suite_hold(subject: OwnModel, tmp_path: Path) -> None:
    verb, whole = "(4;%match%) < (4;%mismatch%)", "(*;%bare%) < (*;%match%)"
    data = load(
        tmp_path,
        one=suite(verb),
        both=suite(verb, whole),
        always=suite("(3;%bare%) = 0"),
        never=suite("(3;%bare%) > 0 | (1;%match%) - (1;%bare%) > 0.01"),
    )
    result = TASK.evaluate(subject, data, "firstwords")
    assert list(result.parts) == ["always", "both", "never", "one"]
    assert (result.parts["always"].value, result.parts["never"].value) == (1.0, 0.0)
    rows = {name: [row for row in result.rows if row["suite"] == name] for name in result.parts}
    both = [row["predictions"].split() for row in rows["both"]]
    assert [row["right"] for row in rows["both"]] == [int(held == ["1", "1"]) for held in both]
    assert [held[0] for held in both] == [row["predictions"] for row in rows["one"]]
    for index, prediction in enumerate(result.more["predictions"]["both"]):
        assert prediction["accuracy"] == sum(held[index] == "1" for held in both) / 5
    for part in result.parts.values():
        assert (part.low, part.high) == wilson(part.value * 5, 5)
        assert part.items == 5
    assert result.overall.value == pytest.approx(sum(part.value for part in result.parts.values()) / 4)
    assert result.overall.low is not None and result.overall.high is not None
    assert 0 <= result.overall.low < result.overall.value < result.overall.high <= 1
    path = write_task_result(
        result, tmp_path, "syntaxgym", task=TASK, protocol="firstwords", data=data, facts=subject.facts
    )
    assert json.loads(path.read_text())["more"]["random"]["one"] == result.more["random"]["one"]


def test_random_surprisals_are_right_as_often_as_they_must_be(subject: OwnModel, tmp_path: Path) -> None:
    simple = "(4;%match%) < (4;%mismatch%)"
    data = load(tmp_path, half=suite(simple), quarter=suite(f"[{simple}] & [(2;%match%) < (2;%mismatch%)]"))
    random = TASK.evaluate(subject, data, "firstwords").more["random"]
    assert random["half"] == pytest.approx(0.5, abs=0.04)
    assert random["quarter"] == pytest.approx(0.25, abs=0.04)


def test_a_token_over_a_border_counts_where_it_begins_and_is_told(subject: OwnModel, tmp_path: Path) -> None:
    data = load(tmp_path, odd=suite("(2;%match%) > 0"))
    assert TASK.evaluate(subject, data, "firstwords").notes == []
    # " the" is one token of this tokenizer, so that "e house" begins within it.
    cut = Condition("Near the house it.", {1: (0, 4), 2: (5, 7), 3: (7, 14), 4: (15, 17), 5: (17, 18)})
    data.items[0].items["1"]["match"] = cut
    result = TASK.evaluate(subject, data, "firstwords")
    assert result.notes == ["2 regions end within a token, which counts where its first letter is."]
    bits = json.loads(result.rows[0]["region_bits"])["match"]
    words = [word.bits for word in score_texts(subject, [cut.text], Manner())[0].words()]
    assert bits[:3] == pytest.approx(words[:3], abs=1e-4)


def changed(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    values = copy.deepcopy(suite("(4;%match%) < (4;%mismatch%)"))
    change(values)
    return values


@pytest.mark.parametrize(
    ("values", "message", "where"),
    [
        (changed(lambda v: v.pop("items")), "a list must stand under 'items'", "bad.json"),
        (changed(lambda v: v.update(items=[])), "the suite has no items", "bad.json"),
        (changed(lambda v: v.update(predictions=[])), "predicts nothing", "bad.json"),
        (changed(lambda v: v.pop("meta")), "an object must stand under 'meta'", "bad.json"),
        (changed(lambda v: v["meta"].update(metric="mean")), "the metric is 'mean'", "bad.json, meta"),
        (changed(lambda v: v["predictions"][0].update(type="code")), "the type 'code'", "bad.json, prediction 1"),
        (
            changed(lambda v: v["predictions"][0].update(formula="(4;%match%) <")),
            "it ends where",
            "bad.json, prediction 1",
        ),
        (
            changed(lambda v: v["predictions"][0].update(formula="(4;%match%) < (4;%other%)")),
            "the condition 'other', which the item lacks",
            "bad.json, item 1",
        ),
        (
            changed(lambda v: v["predictions"][0].update(formula="(9;%match%) < (4;%match%)")),
            "region 9, which 'match' lacks",
            "bad.json, item 1",
        ),
        (changed(lambda v: v["items"][2].pop("item_number")), "under 'item_number'", "bad.json, item 3 of the list"),
        (changed(lambda v: v["items"][2].update(item_number=2)), "was there before", "bad.json, item 2"),
        (
            changed(lambda v: v["items"].append("x")),
            "an object must stand where 'x' stands",
            "bad.json, item 6 of the list",
        ),
        (
            changed(lambda v: v["items"][1]["conditions"][0]["regions"][3].update(content=7)),
            "a text must stand under 'content'",
            "bad.json, item 2, condition 'match'",
        ),
        (
            changed(lambda v: v["items"][1]["conditions"][0]["regions"][3].update(region_number=2)),
            "region 2 was there before",
            "bad.json, item 2, condition 'match'",
        ),
        (
            changed(lambda v: v["items"][1]["conditions"][0]["regions"][3].update(region_number=True)),
            "a whole number must stand",
            "bad.json, item 2, condition 'match'",
        ),
        (
            changed(lambda v: v["items"][1]["conditions"][1].update(condition_name="match")),
            "the condition 'match' was there before",
            "bad.json, item 2",
        ),
        (
            changed(lambda v: v["items"][1]["conditions"][2].update(regions=[{"region_number": 1, "content": " "}])),
            "all of its regions are empty",
            "bad.json, item 2, condition 'bare'",
        ),
    ],
)
def test_what_is_malformed_is_named(values: dict[str, Any], message: str, where: str, tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match=message) as caught:
        load(tmp_path, bad=values)
    assert (caught.value.where or "").startswith(f"{tmp_path / 'syntaxgym'}/{where}")


def test_a_folder_without_suites_and_files_that_are_no_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="SyntaxGym"):
        TASK.load(Lookup([tmp_path], tmp_path))
    with pytest.raises(FirstwordsError, match="has no suite"):
        load(tmp_path)
    path = tmp_path / "syntaxgym" / "broken.json"
    path.write_text('{"meta":\n {]')
    with pytest.raises(FirstwordsError, match="no JSON") as caught:
        TASK.load(Lookup([tmp_path], tmp_path))
    assert caught.value.where == f"{path}:2"
    path.write_bytes(b'{"meta": "\xe9"}')
    with pytest.raises(FirstwordsError, match="no valid UTF-8"):
        TASK.load(Lookup([tmp_path], tmp_path))


def test_the_published_suites_have_their_sizes(shared_data: Path, subject: OwnModel, tmp_path: Path) -> None:
    data = TASK.load(Lookup([shared_data], tmp_path))
    sizes = {one.name: len(one.items) for one in data.items}
    assert sizes == {"fgd_object": 24, "mvrr": 28, "npi_orc_ever": 38, "number_orc": 19}
    first = data.items[0].items["1"]["what_gap"]
    assert first.text == "I know what our uncle grabbed in front of the guests at the holiday party"
    result = TASK.evaluate(subject, data, "firstwords")
    assert result.notes == []
    assert result.overall.items == 109
    assert result.more["random"]["fgd_object"] == pytest.approx(0.25, abs=0.03)
    assert all(row["right"] in (0, 1) for row in result.rows)
