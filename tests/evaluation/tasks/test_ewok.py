"""EWoK from files as BabyLM's script writes them: a context is given, what follows it is scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from firstwords.evaluation.babylm_counts import full_counts
from firstwords.evaluation.tasks import find_task
from firstwords.evaluation.tasks.task import Lookup, NotFound


def lookup(*folders: Path) -> Lookup:
    return Lookup(folders, Path("nowhere"), offline=True)


def write_lines(path: Path, *rows: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


EWOK = {
    "Domain": "social-relations",
    "ConceptA": "teacher",
    "Context1": "The girl runs near the teacher.",
    "Context2": "The girl talks near the boy.",
    "Target1": "The teacher runs.",
    "Target2": "The boy talks.",
    "ContextType": "direct",
    "ContextDiff": "concept swap",
    "TargetDiff": "variable swap",
}


@pytest.fixture
def ewok(tmp_path: Path) -> Path:
    for domain in full_counts("ewok"):
        # BabyLM's script writes every item in both directions.
        swapped = {key: EWOK[key.replace("1", "0").replace("2", "1").replace("0", "2")] for key in EWOK}
        rows = [values | {"Domain": domain} for values in (EWOK, swapped)]
        for folder in ("ewok_filtered", "ewok_fast"):
            write_lines(tmp_path / "evaluation_data" / folder / f"{domain}.jsonl", *rows)
    return tmp_path


def test_ewok_of_2025_asks_which_target_follows_a_context(ewok: Path) -> None:
    suite = find_task("ewok").load(lookup(ewok))
    assert len(suite.pairs) == 22
    first, second = suite.pairs[:2]
    assert (first.good, first.bad) == (
        "The girl runs near the teacher. The teacher runs.",
        "The girl runs near the teacher. The boy talks.",
    )
    assert (first.good[first.good_given :], first.bad[first.bad_given :]) == (" The teacher runs.", " The boy talks.")
    assert second.good == "The girl talks near the boy. The boy talks.", "the other direction is an item of its own"
    assert dict(first.groups)["context_contrast"] == "concept swap"


def test_ewok_of_2026_asks_in_which_context_a_target_follows(ewok: Path) -> None:
    first = find_task("ewok-2026-fast").load(lookup(ewok)).pairs[0]
    assert (first.good, first.bad) == (
        "The girl runs near the teacher. The teacher runs.",
        "The girl talks near the boy. The teacher runs.",
    )
    assert (first.good[first.good_given :], first.bad[first.bad_given :]) == (" The teacher runs.",) * 2


def test_ewok_where_it_is_not_there_says_that_its_authors_must_be_asked(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        find_task("ewok").load(lookup(tmp_path))
    assert "agree to its terms" in (caught.value.do or "")
