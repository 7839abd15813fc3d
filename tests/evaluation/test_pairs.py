"""Test sets are read whole, or refused with the file and line that is wrong."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from firstwords.errors import FirstwordsError
from firstwords.evaluation.pairs import GRAMMAR_PAIRS_PER_PARADIGM, load_suite


def row(**values: object) -> str:
    return json.dumps({"sentence_good": "The cat sleeps.", "sentence_bad": "The cat sleep.", **values})


def write(path: Path, *lines: str) -> str:
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


def test_all_of_blimp(shared_data: Path, tmp_path: Path) -> None:
    suite = load_suite("blimp", [shared_data], tmp_path, seed=1, offline=True)
    assert len(suite.pairs) == 67_000
    assert set(Counter(pair.uid for pair in suite.pairs).values()) == {1_000}
    assert len(Counter(pair.uid for pair in suite.pairs)) == 67
    assert len({pair.phenomenon for pair in suite.pairs}) == 12
    assert {pair.field for pair in suite.pairs} == {"morphology", "syntax", "semantics", "syntax_semantics"}
    assert sum(pair.good == pair.bad for pair in suite.pairs) == 7
    assert suite.license == "CC BY 4.0"
    assert suite.notes == (), "the files are as published"


def test_blimp_fast_is_the_same_pairs_from_its_folder_and_cut_from_blimp(shared_data: Path, tmp_path: Path) -> None:
    suite = load_suite("blimp-fast", [shared_data], tmp_path, seed=1, offline=True)
    assert len(suite.pairs) == 13_400
    assert set(Counter(pair.uid for pair in suite.pairs).values()) == {200}
    cut = load_suite("blimp-fast", [shared_data / "blimp"], tmp_path, seed=1, offline=True)
    assert cut.pairs == suite.pairs
    assert cut.sha256 == suite.sha256


def test_a_missing_paradigm_is_named_and_a_changed_one_noted(shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "blimp"
    shutil.copytree(shared_data / "blimp", folder)
    with (folder / "causative.jsonl").open("a") as file:
        file.write(row(pairID="1000") + "\n")
    suite = load_suite("blimp", [folder.parent], tmp_path, seed=1, offline=True)
    assert suite.notes == ("1 files are not as published: causative",)
    (folder / "wh_island.jsonl").unlink()
    (folder / "passive_1.jsonl").unlink()
    with pytest.raises(FirstwordsError, match=r"lacks 2 of its 67 paradigms: passive_1\.jsonl, wh_island\.jsonl"):
        load_suite("blimp", [folder.parent], tmp_path, seed=1, offline=True)


def test_the_grammars_pairs_follow_the_seed_and_are_called_artificial(tmp_path: Path) -> None:
    suite = load_suite("grammar", [], tmp_path, seed=1)
    assert set(Counter(pair.uid for pair in suite.pairs).values()) == {GRAMMAR_PAIRS_PER_PARADIGM}
    assert len({(pair.uid, pair.pair_id) for pair in suite.pairs}) == len(suite.pairs)
    assert "rtificial" in suite.notes[0]
    assert load_suite("grammar", [], tmp_path, seed=1) == suite
    assert load_suite("grammar", [], tmp_path, seed=2).sha256 != suite.sha256


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = write(tmp_path / "agreement.jsonl", row(), "", row(UID="x", pair_id=7, linguistics_term="s-selection"))
    suite = load_suite(path, [], tmp_path, seed=1)
    first, second = suite.pairs
    assert (suite.name, suite.origin, suite.license) == ("agreement", path, None)
    assert (first.uid, first.pair_id, first.phenomenon, first.field) == ("agreement", "0", "agreement", "all")
    assert (second.uid, second.pair_id, second.phenomenon) == ("x", "7", "argument_structure")


def test_a_folder_of_ones_own_in_whatever_order_it_is_listed(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / f"{name}.jsonl", row())
    suite = load_suite(str(tmp_path), [], tmp_path, seed=1)
    assert [pair.uid for pair in suite.pairs] == ["a", "b"]
    assert suite.name == tmp_path.name


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "is no JSON"),
        ("[]", "is no JSON object"),
        ('{"sentence_good": "Yes."}', "no sentence under 'sentence_bad'"),
        (row(sentence_good=" "), "no sentence under 'sentence_good'"),
        (row(sentence_bad=3), "no sentence under 'sentence_bad'"),
        (row(pairID=0), "was there before, at"),
    ],
)
def test_a_line_that_is_no_pair_is_named(tmp_path: Path, line: str, what: str) -> None:
    path = write(tmp_path / "mine.jsonl", row(), "", line)
    with pytest.raises(FirstwordsError, match=what) as caught:
        load_suite(path, [], tmp_path, seed=1)
    assert caught.value.where == f"{path}:3"
    assert caught.value.exit_code == 2


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(row().encode() + b"\n" + b'{"sentence_good": "caf\xe9"}\n')
    with pytest.raises(FirstwordsError, match="UTF-8") as caught:
        load_suite(str(path), [], tmp_path, seed=1)
    assert caught.value.where == f"{path}:2"


def test_an_empty_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match=r"no \.jsonl file"):
        load_suite(str(tmp_path), [], tmp_path, seed=1)
    with pytest.raises(FirstwordsError, match="is empty"):
        load_suite(write(tmp_path / "mine.jsonl", ""), [], tmp_path, seed=1)


def test_an_unknown_suite_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match="no test set 'blimb'") as caught:
        load_suite("blimb", [], tmp_path, seed=1)
    assert caught.value.do == "did you mean 'blimp'?"
