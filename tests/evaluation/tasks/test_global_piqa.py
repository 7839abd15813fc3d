"""Global PIQA takes the mean log-probability of each solution, wherever the right one stands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from firstwords.errors import FirstwordsError
from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.scoring import token_log_probs
from firstwords.evaluation.tasks import find_task
from firstwords.evaluation.tasks.task import Lookup, NotFound
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings
from firstwords.tokens.tokenizer import Vocabulary

SHAPE = ModelSettings(hidden=32, layers=2, heads=2, intermediate=48, positions=128, init_std=0.2)
TASK = find_task("global-piqa-parallel")
ROWS = (
    {
        "prompt": "The cat sleeps",
        "solution0": "near a tree.",
        "solution1": "in the car, quietly.",
        "label": 1,
        "example_id": "a",
    },
    {"prompt": "Some dogs", "solution0": "run.", "solution1": "talk to a teacher.", "label": 0, "example_id": "b"},
)


def load(folder: Path, *rows: object) -> object:
    path = folder / "evaluation_data" / "global_piqa_parallel" / "eng_latn.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return TASK.load(Lookup([folder], Path("nowhere"), offline=True))


def test_the_solution_with_the_best_mean_is_chosen(tmp_path: Path, vocabulary: Vocabulary) -> None:
    model = Llama(SHAPE, vocabulary.size, seed=1)
    result = TASK.evaluate(OwnModel("tiny", model, vocabulary), load(tmp_path, *ROWS), "babylm-2026")
    right = 0
    for values, row in zip(ROWS, result.rows, strict=True):
        before, *texts = vocabulary.encode(
            [values["prompt"], *(f"{values['prompt']} {values[f'solution{n}']}" for n in (0, 1))]
        )
        scores = [float(token_log_probs(model, [[vocabulary.bos_id, *ids]])[0][len(before) :].mean()) for ids in texts]
        assert json.loads(row["scores"]) == pytest.approx(scores, abs=1e-4)
        assert row["pred"] == " " + values[f"solution{int(np.argmax(scores))}"]
        right += int(np.argmax(scores)) == values["label"]
    assert result.overall.value == right / 2
    assert [row["uid"] for row in result.rows] == ["a", "b"]
    assert "global_piqa_parallel has 2, not 103" in result.notes[0]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"label": 2}, "the label 2 is none of the 2 solutions"),
        ({"solution1": " "}, "no text under 'solution1'"),
        ({"solution0": 3}, "no text under 'solution0'"),
        ({"example_id": "a"}, "the example a was there before"),
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path: Path, change: dict, what: str) -> None:
    with pytest.raises(FirstwordsError, match=what) as caught:
        load(tmp_path, ROWS[0], ROWS[1] | change)
    assert str(caught.value.where).endswith("eng_latn.jsonl:2")


def test_where_it_is_not_there_it_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Global PIQA, non-parallel"):
        find_task("global-piqa-nonparallel").load(Lookup([tmp_path], Path("nowhere")))
