"""Test sets are read whole, or refused with the file and line that is wrong."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from firstwords.errors import FirstwordsError
from firstwords.evaluation.pairs import (
    GRAMMAR_PAIRS_PER_PARADIGM,
    MinimalPair,
    Suite,
    grammar_suite,
    load_suite,
    make_suite,
    own_suite,
    unshared_name,
)


def row(**values: object) -> str:
    return json.dumps({"sentence_good": "The cat sleeps.", "sentence_bad": "The cat sleep.", **values})


def write(path: Path, *lines: str) -> str:
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


def test_all_of_blimp(shared_data: Path, tmp_path: Path) -> None:
    suite = load_suite("blimp", [shared_data], tmp_path, offline=True)
    assert len(suite.pairs) == 67_000
    assert set(Counter(pair.uid for pair in suite.pairs).values()) == {1_000}
    assert len(Counter(pair.uid for pair in suite.pairs)) == 67
    assert len({pair.phenomenon for pair in suite.pairs}) == 12
    assert {pair.field for pair in suite.pairs} == {"morphology", "syntax", "semantics", "syntax_semantics"}
    assert sum(pair.good == pair.bad for pair in suite.pairs) == 7
    assert suite.license == "CC BY 4.0"
    assert suite.notes == (), "the files are as published"


def test_blimp_fast_is_the_same_pairs_from_its_folder_and_cut_from_blimp(shared_data: Path, tmp_path: Path) -> None:
    suite = load_suite("blimp-fast", [shared_data], tmp_path, offline=True)
    assert len(suite.pairs) == 13_400
    assert set(Counter(pair.uid for pair in suite.pairs).values()) == {200}
    cut = load_suite("blimp-fast", [shared_data / "blimp"], tmp_path, offline=True)
    assert cut.pairs == suite.pairs
    assert cut.sha256 == suite.sha256


def test_a_missing_paradigm_is_named_and_a_changed_one_noted(shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "blimp"
    shutil.copytree(shared_data / "blimp", folder)
    with (folder / "causative.jsonl").open("a") as file:
        file.write(row(pairID="1000") + "\n")
    suite = load_suite("blimp", [folder.parent], tmp_path, offline=True)
    assert suite.notes == ("1 files are not as published: causative",)
    (folder / "wh_island.jsonl").unlink()
    (folder / "passive_1.jsonl").unlink()
    with pytest.raises(FirstwordsError, match=r"lacks 2 of its 67 paradigms: passive_1\.jsonl, wh_island\.jsonl"):
        load_suite("blimp", [folder.parent], tmp_path, offline=True)


def test_the_grammars_pairs_follow_the_seed_and_are_called_artificial(tmp_path: Path) -> None:
    suite = load_suite("grammar", [], tmp_path)
    assert set(Counter(pair.uid for pair in suite.pairs).values()) == {GRAMMAR_PAIRS_PER_PARADIGM}
    assert len({(pair.uid, pair.pair_id) for pair in suite.pairs}) == len(suite.pairs)
    assert "rtificial" in suite.notes[0]
    assert load_suite("grammar", [], tmp_path) == suite
    assert grammar_suite(2).sha256 != suite.sha256


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = write(tmp_path / "agreement.jsonl", row(), "", row(UID="x", pair_id=7, linguistics_term="s-selection"))
    suite = load_suite(path, [], tmp_path)
    first, second = suite.pairs
    assert (suite.name, suite.origin, suite.license) == ("agreement", path, None)
    assert (first.uid, first.pair_id, first.phenomenon, first.field) == ("agreement", "0", "agreement", "all")
    assert (second.uid, second.pair_id, second.phenomenon) == ("x", "7", "argument_structure")


def test_a_folder_of_ones_own_in_whatever_order_it_is_listed(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / f"{name}.jsonl", row())
    suite = load_suite(str(tmp_path), [], tmp_path)
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
        load_suite(path, [], tmp_path)
    assert caught.value.where == f"{path}:3"
    assert caught.value.exit_code == 2


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(row().encode() + b"\n" + b'{"sentence_good": "caf\xe9"}\n')
    with pytest.raises(FirstwordsError, match="UTF-8") as caught:
        load_suite(str(path), [], tmp_path)
    assert caught.value.where == f"{path}:2"


def test_an_empty_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match=r"no \.jsonl file"):
        load_suite(str(tmp_path), [], tmp_path)
    with pytest.raises(FirstwordsError, match="is empty"):
        load_suite(write(tmp_path / "mine.jsonl", ""), [], tmp_path)


def test_an_unknown_suite_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match="no test set 'blimb'") as caught:
        load_suite("blimb", [], tmp_path)
    assert caught.value.do == "did you mean 'blimp'?"


TABLE = "accepted,rejected,construction,frequency\n"


def table(path: Path, *lines: str, header: str = TABLE) -> str:
    path.write_text(header + "".join(line + "\n" for line in lines))
    return str(path)


def own(path: str, **columns: object) -> Suite:
    chosen: dict = {"good": "accepted", "bad": "rejected", "by": ("construction", "frequency")} | columns
    return load_suite(path, [], Path("nowhere"), **chosen)


def test_a_table_with_columns_of_ones_own_choice(tmp_path: Path) -> None:
    path = table(
        tmp_path / "mine.csv",
        "The cat sleeps.,The cat sleep.,agreement,high",
        '"If it rains, she sings.","If it rains, she sing.",agreement,low',
        '"She said ""hi"" twice.",She said hi twice.,quotes,',
    )
    suite = own(path)
    first, second, third = suite.pairs
    assert suite.name == "mine"
    assert (first.uid, first.pair_id, first.phenomenon, first.field) == ("agreement", "0", "agreement", "all")
    assert second.good == "If it rains, she sings."
    assert third.good == 'She said "hi" twice.'
    assert first.groups == (("construction", "agreement"), ("frequency", "high"))
    assert third.groups == (("construction", "quotes"), ("frequency", "(none)"))


def test_without_grouping_columns_the_file_is_the_paradigm(tmp_path: Path) -> None:
    suite = own(table(tmp_path / "mine.csv", "a b,b a,x,y"), by=())
    assert [(pair.uid, pair.groups) for pair in suite.pairs] == [("mine", ())]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("bom.csv", b"\xef\xbb\xbfaccepted,rejected\nYes it is.,Yes is it.\n"),
        ("crlf.csv", b"accepted,rejected\r\nYes it is.,Yes is it.\r\n"),
        ("tabs.tsv", b"accepted\trejected\nYes it is.\tYes is it.\n"),
        ("semicolons.csv", b"accepted;rejected\nYes it is.;Yes is it.\n"),
        ("spaces.csv", b"accepted , rejected\n Yes it is. ,Yes is it.\n\n,\n"),
        ("lines.jsonl", b'\xef\xbb\xbf{"accepted": "Yes it is.", "rejected": "Yes is it."}\r\n'),
    ],
)
def test_tables_as_editors_and_spreadsheets_save_them(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    (pair,) = own(str(tmp_path / name), by=()).pairs
    assert (pair.good, pair.bad) == ("Yes it is.", "Yes is it.")


def test_the_form_of_a_file_does_not_change_its_pairs(tmp_path: Path) -> None:
    rows = [("a", "Yes it is.", "Yes is it."), ("b", "He is.", "Is he.")]
    (tmp_path / "mine.csv").write_text("pair_id,good,bad\n" + "".join(",".join(row) + "\n" for row in rows))
    (tmp_path / "mine.tsv").write_text("pair_id\tgood\tbad\n" + "".join("\t".join(row) + "\n" for row in rows))
    lines = [json.dumps(dict(zip(("pair_id", "good", "bad"), row, strict=True))) for row in rows]
    write(tmp_path / "mine.jsonl", *lines)
    suites = [
        own(str(tmp_path / f"mine.{ending}"), good="good", bad="bad", by=()) for ending in ("csv", "tsv", "jsonl")
    ]
    assert len({suite.sha256 for suite in suites}) == 1
    assert suites[0].pairs == suites[1].pairs == suites[2].pairs


@pytest.mark.parametrize(
    ("lines", "line", "what"),
    [
        (["a,b,c,d", "a,b,c"], 3, "has 3 cells, and the header has 4: accepted, rejected, construction, frequency"),
        (["a,b,c,d,e"], 2, "has 5 cells"),
        (["a,,c,d"], 2, "no sentence under 'rejected'"),
        (["a,b,,d"], 2, "nothing under 'construction'"),
        (['"a', "b,c,d"], 2, "cannot be read"),
        (['"a"b,c,d,e'], 2, "cannot be read"),
        (['"two\nlines",b,c,d', "a,b,c"], 4, "has 3 cells"),
    ],
)
def test_a_row_that_is_no_pair_is_named(tmp_path: Path, lines: list[str], line: int, what: str) -> None:
    path = table(tmp_path / "mine.csv", *lines)
    with pytest.raises(FirstwordsError, match=what) as caught:
        own(path)
    assert caught.value.where == f"{path}:{line}"
    assert caught.value.exit_code == 2


def test_a_missing_column_is_named_with_the_nearest_and_all_there_are(tmp_path: Path) -> None:
    path = table(tmp_path / "mine.csv", "a,b,c,d")
    with pytest.raises(FirstwordsError, match="no column 'acepted'; it has: accepted, rejected") as caught:
        own(path, good="acepted")
    assert caught.value.where == f"{path}:1"
    assert caught.value.do == "did you mean 'accepted'?"
    with pytest.raises(FirstwordsError, match="no column 'sentence_bad'") as caught:
        own(path, bad="sentence_bad")
    assert caught.value.do == "name the column with --bad"
    with pytest.raises(FirstwordsError, match="no column 'frequence'"):
        own(path, by=("construction", "frequence"))
    lines = write(tmp_path / "mine.jsonl", row(kind="x"), row())
    with pytest.raises(FirstwordsError, match="nothing under 'kind'") as caught:
        load_suite(lines, [], tmp_path, by=("kind",))
    assert caught.value.where == f"{lines}:2"


def test_a_column_twice_and_an_id_twice_are_named(tmp_path: Path) -> None:
    path = table(tmp_path / "mine.csv", header="accepted,accepted,rejected\n")
    with pytest.raises(FirstwordsError, match="the column 'accepted' twice"):
        own(path, by=())
    path = table(tmp_path / "ids.csv", "1,a,b", "1,c,d", header="item,accepted,rejected\n")
    assert len(own(path, by=()).pairs) == 2, "a column is no id of pairs unless it is named as one"
    with pytest.raises(FirstwordsError, match=r"the pair 1 of ids was there before, at .*ids\.csv:2") as caught:
        own(path, by=(), pair_id="item")
    assert caught.value.where == f"{path}:3"


def test_a_table_without_rows_and_a_file_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match="a header and no pairs"):
        own(table(tmp_path / "mine.csv"))
    with pytest.raises(FirstwordsError, match="is empty"):
        own(table(tmp_path / "mine.csv", header=""))
    with pytest.raises(FirstwordsError, match=r"ends in \.jsonl, \.csv or \.tsv, not in '\.xlsx'"):
        own(table(tmp_path / "mine.xlsx"))
    with pytest.raises(FirstwordsError, match=r"no file or folder 'gone/mine\.csv'"):
        own("gone/mine.csv")


def test_bytes_of_a_table_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(b"\xef\xbb\xbf" + TABLE.encode() + b"caf\xe9,b,c,d\n")
    with pytest.raises(FirstwordsError, match=r"UTF-8 \(byte 4\)") as caught:
        own(str(path))
    assert caught.value.where == f"{path}:2"


def test_good_equal_to_bad_is_no_error(tmp_path: Path) -> None:
    (pair,) = own(table(tmp_path / "mine.csv", "same,same,c,d")).pairs
    assert pair.good == pair.bad


def test_names_of_suites_become_names_of_files_and_do_not_collide(tmp_path: Path) -> None:
    (tmp_path / "blimp").mkdir()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        table(tmp_path / folder / "my pairs.v2.csv", f"{folder} b,b a,c,d")
    first, second = (own(str(tmp_path / folder / "my pairs.v2.csv")) for folder in ("a", "b"))
    assert first.name == second.name == "my-pairs-v2"
    taken = {first.name: first.sha256}
    assert unshared_name(first, taken) == first, "the same pairs keep their name"
    assert unshared_name(second, taken).name == f"my-pairs-v2-{second.sha256[:8]}"
    write(tmp_path / "blimp" / "x.jsonl", row())
    assert load_suite(str(tmp_path / "blimp"), [], tmp_path).name.startswith("blimp-")


def test_what_is_no_set_of_pairs_is_refused_by_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match="'wug-past-tense' is none of minimal pairs: whether made-up verbs"):
        load_suite("wug-past-tense", [], tmp_path)


def test_what_is_given_belongs_to_the_checksum(tmp_path: Path) -> None:
    pair = MinimalPair("a", "0", "A b c.", "A c c.", "a", "all")
    plain = make_suite("x", [pair], "here", None)
    given = make_suite("x", [replace(pair, good_given=1, bad_given=1)], "here", None)
    assert plain.sha256 != given.sha256


def written(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pair(number: int, **more: object) -> dict[str, object]:
    return {"sentence_good": f"The {number} cats sleep.", "sentence_bad": f"The {number} cats sleeps.", **more}


def test_what_is_empty_says_nothing(tmp_path: Path) -> None:
    empty = {"linguistics_term": None, "field": "", "pairID": None, "UID": ""}
    suite = own_suite(written(tmp_path / "mine.jsonl", [pair(1, **empty), pair(2, **empty)]))
    assert [(one.uid, one.pair_id, one.phenomenon, one.field) for one in suite.pairs] == [
        ("mine", "0", "mine", "all"),
        ("mine", "1", "mine", "all"),
    ]


def test_a_paradigm_of_several_phenomena_is_none_of_them(tmp_path: Path) -> None:
    rows = [
        pair(1, UID="a", linguistics_term="island"),
        pair(2, UID="a", linguistics_term="binding"),
        pair(3, UID="b", linguistics_term="island"),
    ]
    suite = own_suite(written(tmp_path / "mine.jsonl", rows))
    assert [(one.uid, one.phenomenon) for one in suite.pairs] == [("a", "a"), ("a", "a"), ("b", "island")]


def test_other_groups_of_the_same_pairs_are_told_apart(tmp_path: Path) -> None:
    one, other = (
        own_suite(written(tmp_path / "mine.jsonl", [pair(1, linguistics_term=term)])) for term in ("island", "binding")
    )
    assert one.sha256 == other.sha256 and one.identity != other.identity


@pytest.mark.parametrize("name", ["best", "last", "untrained", "words-12", "words-0003M"])
def test_a_file_is_not_called_like_a_checkpoint(name: str, tmp_path: Path) -> None:
    suite = own_suite(written(tmp_path / f"{name}.jsonl", [pair(1)]))
    assert suite.name == f"{name}-{suite.sha256[:8]}"


@pytest.mark.parametrize(
    "line",
    [
        '{"sentence_good": "Cats \\ud800.", "sentence_bad": "Cats."}',
        '{"sentence_good": ' + "9" * 5_000 + "}",
        "[" * 100_000,
    ],
)
def test_a_line_that_python_cannot_hold_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(pair(1)) + "\n" + line + "\n")
    with pytest.raises(FirstwordsError) as refused:
        own_suite(path)
    assert refused.value.where == f"{path}:2"


def test_a_cell_may_hold_a_story(tmp_path: Path) -> None:
    story = "The cat sleeps. " * 20_000
    path = tmp_path / "mine.csv"
    path.write_text(f"sentence_good,sentence_bad\n{story},{story[:-2]}\n")
    assert own_suite(path).pairs[0].good == story.strip()
