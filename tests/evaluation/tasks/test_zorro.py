"""Zorro from text files: odd lines are ungrammatical, even lines grammatical."""

from __future__ import annotations

from pathlib import Path

import pytest

from firstwords.errors import FirstwordsError
from firstwords.evaluation.tasks import find_task
from firstwords.evaluation.tasks.task import Lookup
from firstwords.evaluation.tasks.zorro import PARADIGMS


def lookup(*folders: Path) -> Lookup:
    return Lookup(folders, Path("nowhere"), offline=True)


@pytest.fixture
def zorro(tmp_path: Path) -> Path:
    folder = tmp_path / "Zorro" / "sentences" / "babyberta"
    folder.mkdir(parents=True)
    for paradigm in PARADIGMS:
        (folder / f"{paradigm}.txt").write_text("the cats sleeps .\nthe cat sleeps .\nthe dog run .\nthe dogs run .\n")
    return folder


def test_zorro_pairs_odd_lines_with_even_ones(zorro: Path) -> None:
    suite = find_task("zorro").load(lookup(zorro.parents[2]))
    assert len(suite.pairs) == 46
    first, second = suite.pairs[:2]
    assert (first.bad, first.good, second.bad, second.good) == (
        "the cats sleeps .",
        "the cat sleeps .",
        "the dog run .",
        "the dogs run .",
    )
    assert len({pair.phenomenon for pair in suite.pairs}) == 13
    assert {pair.phenomenon for pair in suite.pairs if pair.uid == "filler-gap-wh_question_object"} == {"filler-gap"}
    assert find_task("zorro").load(lookup(zorro)).pairs == suite.pairs, "the folder itself may be named"


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a .\nb .\nc .\n", 3, "the last one has no partner"),
        ("a .\n\nb .\n", 2, "the line is blank"),
        ("\n", 0, "empty"),
    ],
)
def test_a_file_of_zorro_that_does_not_pair_is_named(zorro: Path, text: str, line: int, what: str) -> None:
    path = zorro / "irregular-verb.txt"
    path.write_text(text)
    with pytest.raises(FirstwordsError, match=what) as caught:
        find_task("zorro").load(lookup(zorro))
    assert caught.value.where == (f"{path}:{line}" if line else str(path))


def test_a_missing_paradigm_of_zorro_is_named_and_others_are_told(zorro: Path) -> None:
    (zorro / "of_my_own-paradigm.txt").write_text("a .\nb .\n")
    assert "of_my_own-paradigm.txt" in find_task("zorro").load(lookup(zorro)).notes[1]
    (zorro / "ellipsis-n_bar.txt").unlink()
    with pytest.raises(FirstwordsError, match=r"lacks 1 of its 23 paradigms: ellipsis-n_bar\.txt"):
        find_task("zorro").load(lookup(zorro))
