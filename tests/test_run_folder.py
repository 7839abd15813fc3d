"""The run folder: marks, names, shared stages, the lock, and files that are whole or not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstwords.errors import FirstwordsError
from firstwords.run_folder import (
    RunFolder,
    atomic_folder,
    atomic_write_json,
    atomic_write_text,
    claim_run,
    find_run,
    fingerprint_of,
    runs_in,
    sha256_of,
)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def a_run(workspace: Path, name: str) -> RunFolder:
    run = RunFolder(workspace / name)
    atomic_write_text(run.path / "recipe.toml", f'name = "{name}"\n')
    return run


def a_done_stage(run: RunFolder, stage: str, fingerprint: str) -> None:
    (run.stage(stage) / "part").mkdir(parents=True)
    (run.stage(stage) / "part" / "file.bin").write_bytes(b"made at some cost")
    run.set_done(stage, fingerprint, 1.5, {"words": 7})


# Marks


def test_a_stage_is_done_for_the_settings_it_was_made_with_and_no_others(tmp_path: Path) -> None:
    run = a_run(tmp_path, "a")
    assert run.mark("corpus") is None
    assert not run.is_done("corpus", "f1")
    a_done_stage(run, "corpus", "f1")
    assert run.is_done("corpus", "f1")
    assert not run.is_done("corpus", "f2")
    mark = run.mark("corpus")
    assert mark is not None
    assert (mark.stage, mark.seconds, mark.facts) == ("corpus", 1.5, {"words": 7})
    run.unset_done("corpus")
    assert run.mark("corpus") is None
    run.unset_done("corpus")  # twice does no harm


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"stage": "corpus"}'])
def test_a_damaged_mark_means_not_done(tmp_path: Path, damaged: str) -> None:
    run = a_run(tmp_path, "a")
    a_done_stage(run, "corpus", "f1")
    (run.path / "done" / "corpus.json").write_text(damaged)
    assert run.mark("corpus") is None


def test_a_stage_whose_folder_was_deleted_is_not_done(tmp_path: Path) -> None:
    # Messages advise to delete a damaged folder and run again; that must be enough.
    run = a_run(tmp_path, "a")
    a_done_stage(run, "tokens", "f1")
    (run.stage("tokens") / "part" / "file.bin").unlink()
    (run.stage("tokens") / "part").rmdir()
    run.stage("tokens").rmdir()
    assert not run.is_done("tokens", "f1")


@given(JSON_VALUES)
def test_fingerprints_depend_on_values_not_on_the_order_of_keys(value: object) -> None:
    assert fingerprint_of({"a": value, "b": 1}) == fingerprint_of({"b": 1, "a": value})
    assert fingerprint_of({"a": value, "b": 1}) != fingerprint_of({"a": value, "b": 2})


# Stages taken over from another run


def test_a_stage_is_taken_over_from_a_run_that_made_the_same(tmp_path: Path) -> None:
    first, second = a_run(tmp_path, "first"), a_run(tmp_path, "second")
    a_done_stage(first, "corpus", "f1")
    sibling = second.adopt("corpus", "f1")
    assert sibling is not None
    assert sibling.name == "first"
    assert second.is_done("corpus", "f1")
    mark = second.mark("corpus")
    assert mark is not None
    assert mark.facts == {"words": 7, "taken_from": "first"}
    ours = second.stage("corpus") / "part" / "file.bin"
    theirs = first.stage("corpus") / "part" / "file.bin"
    assert ours.read_bytes() == theirs.read_bytes()
    assert ours.stat().st_ino == theirs.stat().st_ino  # the same file: no space is used twice


def test_a_run_stays_complete_when_the_one_it_took_from_is_deleted(tmp_path: Path) -> None:
    first, second = a_run(tmp_path, "first"), a_run(tmp_path, "second")
    a_done_stage(first, "corpus", "f1")
    second.adopt("corpus", "f1")
    (first.stage("corpus") / "part" / "file.bin").unlink()
    assert (second.stage("corpus") / "part" / "file.bin").read_bytes() == b"made at some cost"


def test_nothing_is_taken_over_from_other_settings_or_from_itself(tmp_path: Path) -> None:
    first, second = a_run(tmp_path, "first"), a_run(tmp_path, "second")
    a_done_stage(first, "corpus", "f1")
    assert second.adopt("corpus", "f2") is None
    assert first.adopt("corpus", "f1") is None
    assert second.mark("corpus") is None


def test_a_marked_stage_whose_files_are_gone_is_not_taken_over(tmp_path: Path) -> None:
    first, second = a_run(tmp_path, "first"), a_run(tmp_path, "second")
    first.set_done("corpus", "f1", 1.0, {})
    assert second.adopt("corpus", "f1") is None
    assert not second.stage("corpus").exists()


# Names


def test_a_fresh_name_is_given_and_the_same_recipe_gets_its_folder_again(tmp_path: Path) -> None:
    assert claim_run("m", tmp_path, exact=False, same=lambda _: None).path == tmp_path / "m"
    a_run(tmp_path, "m")
    assert claim_run("m", tmp_path, exact=False, same=lambda _: None).name == "m"


def test_a_name_taken_by_another_recipe_gets_the_first_number_that_is_free_or_its_own(tmp_path: Path) -> None:
    for name in ("m", "m-2", "m-3"):
        a_run(tmp_path, name)
    other = "another recipe"
    assert claim_run("m", tmp_path, exact=False, same=lambda _: other).name == "m-4"
    own = claim_run("m", tmp_path, exact=False, same=lambda run: None if run.name == "m-2" else other)
    assert own.name == "m-2"


def test_a_name_that_the_user_gave_is_never_changed(tmp_path: Path) -> None:
    a_run(tmp_path, "m")
    with pytest.raises(FirstwordsError, match="layers is 1 there and 2 here"):
        claim_run("m", tmp_path, exact=True, same=lambda _: "model.layers is 1 there and 2 here")


def test_runs_are_listed_by_name_and_found_by_name_or_path(tmp_path: Path) -> None:
    for name in ("b", "a"):
        a_run(tmp_path, name)
    (tmp_path / "no-run").mkdir()
    assert [run.name for run in runs_in(tmp_path)] == ["a", "b"]
    assert runs_in(tmp_path / "nowhere") == []
    assert find_run("a", tmp_path).path == tmp_path / "a"
    assert find_run(str(tmp_path / "b"), Path("elsewhere")).name == "b"
    with pytest.raises(FirstwordsError) as error:
        find_run("ab", tmp_path)
    assert "runs: a, b" in str(error.value)


# Files that are whole or not there


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    atomic_write_json(path, {"old": 1})
    with pytest.raises(ValueError):
        atomic_write_json(path, {"new": float("nan")})
    assert path.read_text() == '{\n "old": 1\n}\n'
    assert [entry.name for entry in tmp_path.iterdir()] == ["value.json"]


def test_a_failed_block_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    with atomic_folder(path) as new:
        (new / "old.txt").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(path) as new:
        (new / "new.txt").write_text("half")
        raise RuntimeError("a failure in between")
    assert [entry.name for entry in tmp_path.iterdir()] == ["corpus"]
    assert [entry.name for entry in path.iterdir()] == ["old.txt"]


def test_a_folder_replaces_the_older_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    for name in ("old.txt", "new.txt"):
        with atomic_folder(path) as new:
            (new / name).write_text(name)
            assert not (path / name).exists()  # nobody sees it before it is whole
    assert [entry.name for entry in path.iterdir()] == ["new.txt"]


KILLED_IN_BETWEEN = """
import os, signal, sys
from pathlib import Path
from firstwords.run_folder import atomic_folder
with atomic_folder(Path(sys.argv[1])) as new:
    (new / "half.txt").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_in_between_leaves_the_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    with atomic_folder(path) as new:
        (new / "old.txt").write_text("old")
    killed = subprocess.run([sys.executable, "-c", KILLED_IN_BETWEEN, str(path)], check=False)
    assert killed.returncode == -9
    assert [entry.name for entry in path.iterdir()] == ["old.txt"]


def test_checksum_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# The lock


def test_a_run_is_held_by_one_at_a_time_and_free_again_after(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "a")
    with (
        run.locked(),
        pytest.raises(FirstwordsError, match="is being written by process"),
        RunFolder(run.path).locked(),
    ):
        pass
    with run.locked():
        assert (run.path / ".owner").is_file()
    assert not (run.path / ".owner").exists()


def test_the_lock_is_free_after_a_failure(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "a")
    with pytest.raises(RuntimeError), run.locked():
        raise RuntimeError("a failure in between")
    with run.locked():
        pass


def test_what_a_killed_process_had_begun_is_removed_by_the_next(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "one")
    begun = [run.path / ".corpus.12.tmp", run.stage("training") / "state" / ".step-00000004.12.tmp"]
    for folder in begun:
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"half")
    half = run.stage("training") / ".losses.csv.12.tmp"
    half.write_text("half")
    kept = run.stage("evaluation") / ".blimp.json.13.tmp"
    kept.parent.mkdir()
    kept.write_text("another process writes this now, without the lock")
    with run.locked():
        assert not any(path.exists() for path in (*begun, half))
        assert kept.exists()


def test_a_run_may_be_named_from_inside_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one" / "corpus").mkdir(parents=True)
    (tmp_path / "one" / "recipe.toml").touch()
    for place, name in (("one", "."), ("one/corpus", "..")):
        monkeypatch.chdir(tmp_path / place)
        run = find_run(name, Path("runs"))
        assert (run.name, run.path) == ("one", tmp_path / "one")
