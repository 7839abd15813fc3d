"""GLUE's files are read as the organisers write them, and what is wrong in them is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from firstwords.errors import FirstwordsError
from firstwords.evaluation.tasks.glue import BOOLQ, MNLI, MRPC, MULTIRC, QQP, RTE, WSC, GlueTask
from firstwords.evaluation.tasks.task import Lookup, NotFound, TaskData


def load(task: GlueTask, folder: Path) -> TaskData:
    return task.load(Lookup((folder,), folder / "cache"))


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


LINES: dict[str, tuple[GlueTask, dict[str, Any], tuple[str, str]]] = {
    "boolq": (BOOLQ, {"question": "q", "passage": "p", "label": 1}, ("q", "p")),
    "mnli": (MNLI, {"premise": "p", "hypothesis": "h", "label": 2}, ("p", "h")),
    "mrpc": (MRPC, {"sentence1": "a", "sentence2": "b", "label": 0}, ("a", "b")),
    "multirc": (
        MULTIRC,
        {"paragraph": "p {x}", "question": "q?", "answer": "a", "label": 1},
        ("Question: q? Answer: a", "p {x}"),
    ),
    "qqp": (QQP, {"question1": "a", "question2": "", "label": 0}, ("a", "")),
    "rte": (RTE, {"sentence1": "a", "sentence2": "b", "label": 1}, ("a", "b")),
    "wsc": (
        WSC,
        {"text": "Ann saw her.", "span1_text": "Ann", "span2_text": "her", "label": 0},
        ('Does "her" refer to "Ann" in this passage?', "Ann saw her."),
    ),
}


@pytest.mark.parametrize("key", LINES)
def test_every_task_reads_its_own_keys(key: str, tmp_path: Path) -> None:
    task, line, texts = LINES[key]
    write(tmp_path / f"{key}.train.jsonl", [line])
    write(tmp_path / f"{key}.valid.jsonl", [line])
    (item,) = load(task, tmp_path).items.valid
    assert item.texts == texts and item.label == line["label"]
    for missing in line:
        write(tmp_path / f"{key}.valid.jsonl", [line, {name: line[name] for name in line if name != missing}])
        with pytest.raises(FirstwordsError) as caught:
            load(task, tmp_path)
        assert caught.value.where == f"{tmp_path / f'{key}.valid.jsonl'}:2"
        assert missing in caught.value.what


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"sentence1": "a", "sentence2": "b", "label": 2}', "the label 2 is none of 0 (entailment), 1 (not entail"),
        ('{"sentence1": "a", "sentence2": "b", "label": -1}', "the label -1 is none of"),
        ('{"sentence1": "a", "sentence2": "b", "label": "1"}', 'the label "1" is none of'),
        ('{"sentence1": 5, "sentence2": "b", "label": 1}', "no text under 'sentence1'"),
        ('{"sentence1": "a", ', "no JSON"),
        ("[1]", "no JSON object"),
    ],
)
@pytest.mark.parametrize("part", ["train", "valid"])
def test_malformed_lines_are_named(line: str, says: str, part: str, tmp_path: Path) -> None:
    for name in ("train", "valid"):
        write(tmp_path / f"rte.{name}.jsonl", [LINES["rte"][1]] * 3)
    path = tmp_path / f"rte.{part}.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(FirstwordsError) as caught:
        load(RTE, tmp_path)
    assert caught.value.where == f"{path}:4"
    assert says in caught.value.what


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"wsc\.train\.jsonl"):
        load(WSC, tmp_path)
    write(tmp_path / "wsc.train.jsonl", [LINES["wsc"][1]])
    with pytest.raises(NotFound, match=r"wsc\.valid\.jsonl"):
        load(WSC, tmp_path)
    (tmp_path / "wsc.valid.jsonl").write_text("\n")
    with pytest.raises(FirstwordsError, match="no item"):
        load(WSC, tmp_path)


@pytest.mark.parametrize("task", [MRPC, RTE, WSC], ids=lambda task: task.key)
def test_the_official_files_are_read_whole(task: GlueTask, shared_data: Path) -> None:
    data = load(task, shared_data / "babylm-2025")
    sizes = {"mrpc": (3_668, 204), "rte": (2_490, 139), "wsc": (554, 52)}
    assert (len(data.items.train), len(data.items.valid)) == sizes[task.key]
