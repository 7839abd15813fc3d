"""COMPS from files in the form that its authors give them; the subject is given, the property scored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from firstwords.errors import FirstwordsError
from firstwords.evaluation.babylm_counts import full_counts
from firstwords.evaluation.judging import evaluate_suite
from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.scoring import token_log_probs
from firstwords.evaluation.tasks import find_task
from firstwords.evaluation.tasks.task import Lookup
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings
from firstwords.tokens.tokenizer import Vocabulary

SHAPE = ModelSettings(hidden=32, layers=2, heads=2, intermediate=48, positions=256, init_std=0.2)


def lookup(*folders: Path) -> Lookup:
    return Lookup(folders, Path("nowhere"), offline=True)


def write_lines(path: Path, *rows: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def comps(tmp_path: Path) -> Path:
    row = {
        "id": 1,
        "property": "can sing",
        "acceptable_concept": "bird",
        "unacceptable_concept": "tree",
        "prefix_acceptable": "The bird",
        "prefix_unacceptable": "The old tree",
        "property_phrase": "sings near the house.",
        "negative_sample_type": "taxonomic",
        "similarity": 0.4,
    }
    for stem in ("comps_base", "comps_wugs", "comps_wugs_dist-before", "comps_wugs_dist-in-between"):
        write_lines(tmp_path / "data" / "comps" / f"{stem}.jsonl", row, row | {"negative_sample_type": "random"})
    return tmp_path


def test_comps_scores_the_property_after_each_subject(comps: Path, vocabulary: Vocabulary) -> None:
    suite = find_task("comps").load(lookup(comps))
    first = suite.pairs[0]
    assert {pair.uid for pair in suite.pairs} == set(full_counts("comps"))
    assert (first.good, first.good[first.good_given :]) == ("The bird sings near the house.", "sings near the house.")
    assert first.bad[first.bad_given :] == "sings near the house."
    assert {pair.groups for pair in suite.pairs} == {
        (("negative_sample_type", "taxonomic"),),
        (("negative_sample_type", "random"),),
    }
    assert "base has 2, not 49,340" in suite.notes[0]
    model = Llama(SHAPE, vocabulary.size, seed=1)
    (result,) = evaluate_suite(OwnModel("tiny", model, vocabulary), suite, ["babylm-2025"])
    before, whole = vocabulary.encode(["The bird", first.good])
    ids = [vocabulary.bos_id, *whole]
    (log_probs,) = token_log_probs(model, [ids])
    assert whole[: len(before)] == before
    expected = log_probs[len(before) :].sum(dtype=np.float64)
    assert result.judged[0].good_score == pytest.approx(expected, abs=1e-4)


def test_a_missing_file_of_comps_is_named(comps: Path) -> None:
    (comps / "data" / "comps" / "comps_base.jsonl").unlink()
    with pytest.raises(FirstwordsError, match=r"lacks 1 of its 4 paradigms: comps_base\.jsonl"):
        find_task("comps").load(lookup(comps))
    write_lines(comps / "data" / "comps" / "comps_base.jsonl", {"prefix_acceptable": "The bird"})
    with pytest.raises(FirstwordsError, match="no text under 'prefix_unacceptable'") as caught:
        find_task("comps").load(lookup(comps))
    assert str(caught.value.where).endswith("comps_base.jsonl:1")
