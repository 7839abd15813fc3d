"""`--data` folders: what is found, and which of several."""

from __future__ import annotations

from pathlib import Path

import pytest

from firstwords.data import folders
from firstwords.errors import FirstwordsError


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("text")
    return path


def test_the_first_data_folder_that_has_any_of_the_names_wins(tmp_path: Path) -> None:
    write(tmp_path / "b" / "x.train")
    first = write(tmp_path / "a" / "deep" / "x.txt")
    assert folders.find(["x.train", "x.txt"], [tmp_path / "a", tmp_path / "b"]) == first


def test_the_shallowest_wins_then_the_best_name_then_the_first_in_sorted_order(tmp_path: Path) -> None:
    write(tmp_path / "a" / "x.train")
    shallow = write(tmp_path / "x.txt")
    assert folders.find(["x.train", "x.txt"], [tmp_path]) == shallow
    best = write(tmp_path / "x.train")
    assert folders.find(["x.train", "x.txt"], [tmp_path]) == best
    write(tmp_path / "c" / "y.txt")
    first = write(tmp_path / "b" / "y.txt")
    assert folders.find(["y.txt"], [tmp_path]) == first


def test_sub_folders_are_searched_three_levels_deep_and_hidden_ones_not(tmp_path: Path) -> None:
    deep = write(tmp_path / "1" / "2" / "3" / "x.txt")
    write(tmp_path / "1" / "2" / "3" / "4" / "too_deep.txt")
    write(tmp_path / ".git" / "hidden.txt")
    assert folders.find(["x.txt"], [tmp_path]) == deep
    assert folders.find(["too_deep.txt"], [tmp_path]) is None
    assert folders.find(["hidden.txt"], [tmp_path]) is None


def test_a_slash_asks_for_a_folder_which_may_be_the_data_folder_itself(tmp_path: Path) -> None:
    write(tmp_path / "sets" / "blimp" / "a.jsonl")
    write(tmp_path / "other" / "blimp")
    assert folders.find(["blimp/"], [tmp_path]) == tmp_path / "sets" / "blimp"
    assert folders.find(["blimp/"], [tmp_path / "sets" / "blimp"]) == tmp_path / "sets" / "blimp"
    assert folders.find(["sets"], [tmp_path]) is None


@pytest.mark.parametrize("name", ["nowhere", "file.txt"])
def test_a_data_folder_that_is_none_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path / "file.txt")
    with pytest.raises(FirstwordsError, match=name) as raised:
        folders.find(["x"], [tmp_path / name])
    assert raised.value.exit_code == 2
    assert "--data" in str(raised.value)
