"""BLiMP's filtered pairs and the supplement: found, complete, counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from firstwords.errors import FirstwordsError
from firstwords.evaluation.babylm_counts import count_notes, fast_counts, full_counts
from firstwords.evaluation.pairs import load_suite
from firstwords.evaluation.tasks import find_task
from firstwords.evaluation.tasks.task import Lookup, NotFound


def lookup(*folders: Path) -> Lookup:
    return Lookup(folders, Path("nowhere"), offline=True)


def write_parts(folder: Path, *parts: str) -> None:
    folder.mkdir(parents=True)
    for part in parts:
        line = {"sentence_good": f"Good {part}.", "sentence_bad": f"Bad {part}."}
        (folder / f"{part}.jsonl").write_text(json.dumps(line) + "\n")


def test_the_filtered_pairs_are_as_many_as_officially(shared_data: Path) -> None:
    suite = load_suite("blimp-filtered", [shared_data], Path("nowhere"), offline=True)
    assert len(suite.pairs) == 59_875 == sum(full_counts("blimp").values())
    assert suite.notes == ()
    assert len({pair.phenomenon for pair in suite.pairs}) == 12
    assert {pair.field for pair in suite.pairs} == {"morphology", "syntax", "semantics", "syntax_semantics"}


def test_the_supplement_is_as_large_as_officially(shared_data: Path) -> None:
    full, fast = (find_task(name).load(lookup(shared_data)) for name in ("supplement", "supplement-fast"))
    assert [len(suite.pairs) for suite in (full, fast)] == [5_218, 250]
    assert full.notes == fast.notes == ()
    assert {pair.uid for pair in full.pairs} == set(full_counts("blimp_supplement"))
    assert {pair.field for pair in full.pairs} == {"supplement"}
    assert any("\n" in pair.good for pair in full.pairs), "dialogues are whole texts"


@pytest.mark.parametrize("folder", ["supplement_filtered", "evaluation_data/full_eval/supplement_filtered"])
def test_official_downloads_are_found_where_they_are_unpacked(tmp_path: Path, folder: str) -> None:
    write_parts(tmp_path / folder, *full_counts("blimp_supplement"))
    suite = find_task("supplement").load(lookup(tmp_path))
    assert [pair.uid for pair in suite.pairs] == sorted(full_counts("blimp_supplement"))
    assert "hypernym has 1, not 842" in suite.notes[0], "sizes that are not official are told"


def test_a_missing_part_is_named_and_a_missing_set_says_where_it_is(tmp_path: Path) -> None:
    write_parts(tmp_path / "supplement_fast", "hypernym", "turn_taking")
    with pytest.raises(FirstwordsError, match=r"lacks 3 of its 5 paradigms: qa_congruence_easy\.jsonl") as caught:
        find_task("supplement-fast").load(lookup(tmp_path))
    assert not isinstance(caught.value, NotFound)
    with pytest.raises(NotFound, match="blimp_filtered") as missing:
        find_task("blimp-filtered").load(lookup(tmp_path))
    assert "osf.io" in (missing.value.do or "")
    assert str(tmp_path) in (missing.value.where or "")


def test_a_missing_paradigm_of_the_filtered_pairs_is_named(shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "blimp_filtered"
    shutil.copytree(shared_data / "babylm-2025" / "full" / "blimp_filtered", folder)
    (folder / "wh_island.jsonl").rename(folder / "wh_islands.jsonl")
    with pytest.raises(FirstwordsError, match=r"lacks 1 of its 67 paradigms: wh_island\.jsonl"):
        find_task("blimp-filtered").load(lookup(tmp_path))


def test_official_counts() -> None:
    assert sum(full_counts("blimp").values()) == 59_875
    assert sum(full_counts("ewok").values()) == 7_618
    assert sum(full_counts("comps").values()) == 91_028
    assert sum(full_counts("entity_tracking").values()) == 9_483
    assert sum(full_counts("entity_tracking_filtered").values()) == 6_780
    assert set(fast_counts("blimp").values()) == {200}
    assert fast_counts("entity_tracking") == {
        f"regular_{n}_ops": c for n, c in enumerate((606, 607, 606, 606, 568, 159))
    }
    assert fast_counts("wug_adj") == {"wug_adj": 200}


def test_counts_that_differ_are_told_whatever_the_case_of_names() -> None:
    assert count_notes(["A", "A", "b"], {"a": 2, "B": 1}) == []
    (note,) = count_notes(["a", "c"], {"a": 2, "b": 1})
    assert "a has 1, not 2; b has 0, not 1; c has 1, not 0" in note
