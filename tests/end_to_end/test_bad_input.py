"""Bad input, as a user meets it: exit code 2, one clear message on stderr, no traceback, and nothing lost.

Most cases call the command's own `main` in this process, which is the same code without the start of an interpreter.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from firstwords.cli import main
from firstwords.data.catalogue import suites

RECIPE = """
name = "tiny"

[corpus]
budget = "4 kB"
dev-budget = "500 B"

[corpus.sources.sentences]
at = "sentences.txt"

[tokenizer]
vocabulary = 300

[tokens]
context = 32

[model]
hidden = 32
layers = 1
heads = 2
intermediate = 64
positions = 64

[training]
max-steps = 3
batch-size = 4
warmup-steps = 1
device = "cpu"
precision = "fp32"
resume-minutes = 1e-6

[evaluation]
suites = []
"""

SENTENCES = "".join(
    f"The {noun} {verb}s near the {place}.\nSome {noun}s {verb} too, quietly.\n\n"
    for place in ("tree", "house", "river", "car")
    for noun in ("cat", "dog", "bird", "girl", "boy", "teacher")
    for verb in ("sleep", "sing", "run", "talk", "eat", "jump")
)

Complaint = Callable[..., str]


def write_recipe(folder: Path, text: str = RECIPE) -> None:
    (folder / "tiny.toml").write_text(text)
    (folder / "sentences.txt").write_text(SENTENCES)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, its text and a run of it that is trained."""
    folder = tmp_path_factory.mktemp("trained")
    write_recipe(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("FIRSTWORDS_WORKSPACE", raising=False)
        patch.delenv("FIRSTWORDS_DATA", raising=False)
        assert main(["train", "tiny.toml"]) == 0
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own current folder with the recipe and its text."""
    write_recipe(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FIRSTWORDS_WORKSPACE", raising=False)
    monkeypatch.delenv("FIRSTWORDS_DATA", raising=False)
    return tmp_path


@pytest.fixture
def done(here: Path, trained: Path) -> Path:
    """A copy of the trained run, to be damaged."""
    shutil.copytree(trained / "runs", here / "runs")
    return here / "runs" / "tiny"


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]) -> Complaint:
    """Calls the command, checks that it fails as it should, and gives its message."""

    def call(*words: str) -> str:
        capsys.readouterr()
        code = main(words)
        captured = capsys.readouterr()
        check_message(code, captured.err)
        assert captured.out == ""
        return captured.err

    return call


def check_message(code: int, stderr: str) -> None:
    assert code == 2, stderr
    assert "Traceback" not in stderr
    lines = stderr.splitlines()
    first = [number for number, line in enumerate(lines) if line.startswith("firstwords: ")]
    assert len(first) == 1, stderr
    # The message is the last thing said: what, where and what to do.
    what, where, do = lines[first[0] :]
    assert where.startswith("  where: ")
    assert do.startswith("  do:    ")
    assert len(what) < 300


def contents(folder: Path) -> dict[str, str]:
    """Checksums of all files, but not of the lock."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".lock", ".owner")
    }


# The text


def test_missing_source(here: Path, complaint: Complaint) -> None:
    message = complaint("run", "tiny.toml", "--corpus.sources.sentences.at", "sentence.txt")
    assert "corpus.sources.sentences.at" in message
    assert "did you mean 'sentences.txt'?" in message


def test_missing_source_by_name(here: Path, complaint: Complaint) -> None:
    text = RECIPE.replace('at = "sentences.txt"', "").replace("sources.sentences", "sources.my_sentences")
    (here / "tiny.toml").write_text(text)
    message = complaint("corpus", "tiny.toml", "--offline", "--data", ".")
    assert "corpus.sources.my_sentences" in message
    assert not (here / "runs").exists()


def test_missing_data_folder(here: Path, complaint: Complaint) -> None:
    assert "nowhere" in complaint("corpus", "tiny.toml", "--data", "nowhere")


def test_missing_data_folder_when_the_corpus_is_made_already(done: Path, complaint: Complaint) -> None:
    assert "nowhere" in complaint("train", "tiny.toml", "--data", "nowhere")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", ["sentences.txt is empty", "corpus.sources.sentences"]),
        (b"\n\n \n", ["sentences.txt has no text"]),
        (b"words\n\x00\x01\x02 a picture\n" * 50, ["sentences.txt"]),
        ("A caf\u00e9.\nA na\u00efve line.\n".encode() + "Latin-1: \u00e9\n".encode("latin-1"), ["sentences.txt", "3"]),
    ],
    ids=["empty", "blank", "binary", "invalid-utf8"],
)
def test_text_that_is_none(here: Path, complaint: Complaint, content: bytes, named: list[str]) -> None:
    (here / "sentences.txt").write_bytes(content)
    message = complaint("corpus", "tiny.toml")
    for part in named:
        assert part in message


def test_a_bad_second_source_leaves_a_made_corpus_as_it_was(done: Path, here: Path, complaint: Complaint) -> None:
    before = contents(done)
    (here / "bad.txt").write_bytes(b"\xff\xfe nothing")
    (here / "other.toml").write_text(RECIPE + '\n[corpus.sources.bad]\nat = "bad.txt"\n')
    assert "bad.txt" in complaint("corpus", "other.toml")
    assert contents(done) == before


# The recipe


def test_unknown_recipe_key(here: Path, complaint: Complaint) -> None:
    (here / "tiny.toml").write_text(RECIPE.replace("max-steps", "max-stepps"))
    message = complaint("run", "tiny.toml")
    assert "training.max-stepps" in message
    assert "tiny.toml" in message
    assert "did you mean 'training.max-steps'?" in message


def test_recipe_that_is_no_toml(here: Path, complaint: Complaint) -> None:
    (here / "tiny.toml").write_text(RECIPE + "\n[training\n")
    message = complaint("run", "tiny.toml")
    assert "line " in message
    assert "tiny.toml" in message


def test_vocabulary_larger_than_the_text_can_give(
    complaint: Complaint, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    message = complaint("tokenizer", "tiny.toml", "--tokenizer.vocabulary", "5000")
    assert "tokenizer.vocabulary" in message
    assert "5,000" in message
    corpus = contents(here / "runs" / "tiny" / "corpus")
    assert main(["tokenizer", "tiny.toml"]) == 0
    # The corpus that was made is not made again.
    assert "corpus      taken over" in (stderr := capsys.readouterr().err) or "corpus      kept" in stderr
    assert contents(here / "runs" / "tiny" / "corpus") == corpus


def test_context_longer_than_the_positions(here: Path, complaint: Complaint) -> None:
    message = complaint("run", "tiny.toml", "--tokens.context", "128")
    assert "tokens.context" in message
    assert "model.positions" in message


def test_context_shorter_than_two_tokens(here: Path, complaint: Complaint) -> None:
    assert "tokens.context" in complaint("run", "tiny.toml", "--tokens.context", "1")


def test_budget_unreachable(here: Path, complaint: Complaint) -> None:
    message = complaint("corpus", "tiny.toml", "--corpus.budget", "10 MB")
    assert "corpus.budget" in message
    assert "sentences" in message


# The test sets


def write_pairs(path: Path, good: str = "The cat sleeps.", bad: str = "The cat sleep.", uid: str = "agreement") -> None:
    values = [
        {"sentence_good": good, "sentence_bad": bad, "UID": uid, "pairID": "0"},
        {"sentence_good": "The dogs sing.", "sentence_bad": "The dogs sings.", "UID": uid, "pairID": "1"},
    ]
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


PAIRS = ("--evaluation.suites", '["pairs.jsonl.firstwords"]')


def test_context_shorter_than_a_pair(done: Path, here: Path, complaint: Complaint) -> None:
    write_pairs(here / "pairs.jsonl", good="The cat " + "and the cat " * 40 + "sleep.")
    before = contents(done)
    message = complaint("evaluate", "tiny.toml", *PAIRS)
    assert "model.positions" in message
    assert "agreement" in message
    after = contents(done)
    assert {path: after[path] for path in before if path != "recipe.toml"} == {
        path: before[path] for path in before if path != "recipe.toml"
    }


def test_a_pair_that_is_too_long_is_found_before_the_training(here: Path, complaint: Complaint) -> None:
    write_pairs(here / "pairs.jsonl", good="The cat " + "and the cat " * 40 + "sleep.")
    assert "agreement" in complaint("run", "tiny.toml", *PAIRS)
    assert not (here / "runs" / "tiny" / "training").exists()


def test_test_set_that_is_not_there_is_found_before_anything_is_made(here: Path, complaint: Complaint) -> None:
    assert "blimpp" in complaint("run", "tiny.toml", "--evaluation.suites", '["blimpp.firstwords"]')
    assert not (here / "runs" / "tiny" / "corpus").exists()


def test_test_set_that_is_gone_is_missed_before_a_training_goes_on(done: Path, complaint: Complaint) -> None:
    (done / "done" / "training.json").unlink()
    before = contents(done / "training")
    assert "blimp" in complaint("run", "tiny.toml", "--evaluation.suites", '["blimp.firstwords"]', "--offline")
    assert contents(done / "training") == before


def test_a_pair_that_is_too_long_is_found_before_a_training_goes_on(
    done: Path, here: Path, complaint: Complaint
) -> None:
    (done / "done" / "training.json").unlink()
    write_pairs(here / "pairs.jsonl", good="The cat " + "and the cat " * 40 + "sleep.")
    before = contents(done / "training")
    assert "agreement" in complaint("run", "tiny.toml", *PAIRS)
    assert contents(done / "training") == before


def test_test_set_that_changed_is_read_again_before_a_training_goes_on(
    done: Path, here: Path, complaint: Complaint
) -> None:
    (here / "blimp").mkdir()
    for stem in suites()["blimp"].sha256:
        write_pairs(here / "blimp" / f"{stem}.jsonl", uid=stem)
    words = ("run", "tiny.toml", "--evaluation.suites", '["blimp.firstwords"]', "--data", str(here))
    (done / "done" / "training.json").unlink()
    assert main(words) == 0
    assert (done / "done" / "tests.json").exists()
    for mark in ("training", "evaluation"):
        (done / "done" / f"{mark}.json").unlink()
    (here / "blimp" / "passive_1.jsonl").write_text("no pair\n")
    before = contents(done / "training")
    assert "passive_1.jsonl" in complaint(*words)
    assert contents(done / "training") == before


def test_protocol_that_is_not_there(here: Path, complaint: Complaint) -> None:
    write_pairs(here / "pairs.jsonl")
    assert "firstword" in complaint("run", "tiny.toml", "--evaluation.suites", '["pairs.jsonl.firstword"]')


def test_broken_line_of_a_test_set(here: Path, complaint: Complaint) -> None:
    write_pairs(here / "pairs.jsonl")
    with (here / "pairs.jsonl").open("a") as file:
        file.write('{"sentence_good": "Alone."}\n')
    message = complaint("run", "tiny.toml", *PAIRS)
    assert "pairs.jsonl" in message
    assert "3" in message


# The disk


def in_small_world(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script as root of a mount namespace of its own; skip where the system does not allow that."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    if sys.platform != "linux" or shutil.which("unshare") is None:
        pytest.skip("needs Linux mount namespaces (unshare)")
    if subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not allow unshare and mount, so a full disk cannot be made")
    return subprocess.run([*unshare, "sh", "-c", script], capture_output=True, text=True, check=False)


def test_no_space_left(done: Path) -> None:
    # The corpus and tokenizer fit the small disk, the checkpoints do not; with more space the same command goes on.
    shutil.rmtree(done / "training")
    (done / "done" / "training.json").unlink()
    command = f"{sys.executable} -m firstwords train tiny.toml"
    ran = in_small_world(
        f"""
        mkdir full && mount -t tmpfs -o size=200k none full && cp -r runs/tiny full/ || exit 98
        {command} --workspace full; echo $? > code
        (cd full/tiny && sha256sum corpus/* tokenizer/* tokens/* done/*) > kept
        (cd runs/tiny && sha256sum corpus/* tokenizer/* tokens/* done/*) > before
        mount -o remount,size=50m full && {command} --workspace full 2> second || exit 99
        """
    )
    assert ran.returncode == 0, ran.stderr
    check_message(int(Path("code").read_text()), ran.stderr)
    assert "No space left on device" in ran.stderr
    assert Path("kept").read_text() == Path("before").read_text()
    assert "tokens      kept" in Path("second").read_text()


def test_read_only_folder(done: Path) -> None:
    ran = in_small_world(
        f"""
        mount --bind runs runs && mount -o remount,ro,bind runs || exit 98
        {sys.executable} -m firstwords train tiny.toml --seed 2
        """
    )
    check_message(ran.returncode, ran.stderr)
    assert "Read-only file system" in ran.stderr
    assert "runs" in ran.stderr


def test_a_file_where_the_workspace_should_be(here: Path, complaint: Complaint) -> None:
    (here / "runs").write_text("I am no folder")
    assert "runs" in complaint("corpus", "tiny.toml")


def test_a_file_where_the_run_should_be(here: Path, complaint: Complaint) -> None:
    (here / "runs").mkdir()
    (here / "runs" / "tiny").write_text("I am no folder")
    assert "tiny" in complaint("corpus", "tiny.toml")


# Files of the run


def unfinish(run: Path, *stages: str) -> None:
    """Take the marks away that a killed process would not have left."""
    for stage in stages:
        (run / "done" / f"{stage}.json").unlink()


def test_truncated_token_file(done: Path, complaint: Complaint) -> None:
    unfinish(done, "training")
    shutil.rmtree(done / "training")
    tokens = done / "tokens" / "train.bin"
    whole = tokens.read_bytes()
    tokens.write_bytes(whole[: len(whole) // 2])
    message = complaint("train", "tiny.toml")
    assert "train.bin" in message
    # The advice is right: without the folder it is made anew.
    shutil.rmtree(done / "tokens")
    assert main(["train", "tiny.toml"]) == 0
    assert tokens.read_bytes() == whole


def test_token_file_with_a_flipped_byte(done: Path, complaint: Complaint) -> None:
    unfinish(done, "training")
    shutil.rmtree(done / "training")
    flip_a_byte(done / "tokens" / "train.bin")
    assert "train.bin" in complaint("train", "tiny.toml")


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def test_checkpoint_with_flipped_bytes(done: Path, complaint: Complaint) -> None:
    flip_a_byte(done / "training" / "checkpoints" / "last" / "model.safetensors")
    before = contents(done)
    message = complaint("generate", "tiny", "The cat")
    assert "model.safetensors" in message
    assert "checksum" in message
    assert contents(done) == before


def test_training_state_with_flipped_bytes(done: Path, complaint: Complaint) -> None:
    losses = (done / "training" / "losses.csv").read_bytes()
    weights = contents(done / "training" / "checkpoints" / "last")["model.safetensors"]
    unfinish(done, "training")
    newest = sorted((done / "training" / "state").iterdir())[-1]
    flip_a_byte(newest / "optimizer.safetensors")
    message = complaint("train", "tiny.toml")
    assert newest.name in message
    # The advice is right: without that state it goes on from the one before, to the same end.
    shutil.rmtree(newest)
    assert main(["train", "tiny.toml"]) == 0
    assert contents(done / "training" / "checkpoints" / "last")["model.safetensors"] == weights
    assert (done / "training" / "losses.csv").read_bytes() == losses


def test_checkpoint_that_is_not_there(done: Path, complaint: Complaint) -> None:
    message = complaint("generate", "tiny", "The cat", "--checkpoint", "lost")
    assert "did you mean 'last'?" in message


@pytest.mark.parametrize("temperature", ["-0.5", "nan", "inf"])
def test_temperature_that_is_none(done: Path, complaint: Complaint, temperature: str) -> None:
    assert "--temperature" in complaint("generate", "tiny", "The cat", "--temperature", temperature)


def test_damaged_tokenizer(done: Path, complaint: Complaint) -> None:
    (done / "tokenizer" / "tokenizer.json").write_text("{}")
    assert str(Path("runs") / "tiny" / "tokenizer") in complaint("generate", "tiny", "The cat")


# Other runs


def test_run_folder_of_another_recipe(done: Path, complaint: Complaint) -> None:
    before = contents(done)
    message = complaint("train", "tiny.toml", "--name", "tiny", "--model.layers", "2")
    assert "model.layers is 1 there and 2 here" in message
    assert contents(done) == before


def test_run_folder_of_other_text(done: Path, here: Path, complaint: Complaint) -> None:
    (here / "sentences.txt").write_text(SENTENCES + "One more line.\n")
    before = contents(done)
    assert "texts" in complaint("train", "tiny.toml", "--name", "tiny")
    assert contents(done) == before


def test_without_a_name_another_recipe_gets_a_number(done: Path, here: Path) -> None:
    before = contents(done)
    assert main(["corpus", "tiny.toml", "--seed", "2"]) == 0
    assert (here / "runs" / "tiny-2" / "corpus" / "train.txt").is_file()
    assert contents(done) == before


HOLD_THE_LOCK = """
import sys
from pathlib import Path
from firstwords.run_folder import RunFolder
with RunFolder(Path("runs/tiny")).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_run_that_another_process_writes(done: Path, complaint: Complaint) -> None:
    before = contents(done)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        message = complaint("train", "tiny.toml")
        other.communicate()
    assert f"process {other.pid}" in message
    assert contents(done) == before
    assert main(["train", "tiny.toml"]) == 0  # the lock ends with the process that held it


def test_no_such_run(here: Path, complaint: Complaint) -> None:
    assert "there is no run 'tiny'" in complaint("show", "tiny")


@pytest.mark.parametrize("name", ["../evil", "sub/run", "evaluated", "", ".hidden"])
def test_a_name_that_no_run_can_have(name: str, here: Path, complaint: Complaint) -> None:
    assert "cannot be the name of a run" in complaint("corpus", "tiny.toml", "--name", name)
    assert not (here / "runs").exists() and not (here.parent / "evil").exists()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("--training.epochs", "inf"),
        ("--training.peak-lr", "nan"),
        ("--corpus.sources.sentences.weight", "inf"),
        ("--tokenizer.bos", ""),
        ("--corpus.sources.sentences.sha256", "xyz"),
    ],
)
@pytest.mark.usefixtures("here")
def test_values_that_no_training_can_have(setting: str, value: str, complaint: Complaint) -> None:
    assert setting.removeprefix("--") in complaint("plan", "tiny.toml", setting, value)


@pytest.mark.usefixtures("here")
def test_a_test_set_that_is_none_is_refused_by_the_plan_too(complaint: Complaint) -> None:
    message = complaint("plan", "tiny.toml", "--evaluation.suites", '["blmp.firstwords"]')
    assert "did you mean 'blimp'?" in message


@pytest.mark.parametrize("damaged", ["corpus/train.txt", "tokens/train.bin", "corpus/dev.txt"])
def test_what_another_run_has_damaged_is_not_taken_over(damaged: str, done: Path, here: Path) -> None:
    path = done / damaged
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert main(["train", "tiny.toml", "--name", "other", "--training.max-steps", "2"]) == 0
    made = here / "runs" / "other" / damaged
    assert made.stat().st_size == path.stat().st_size and made.read_bytes() != path.read_bytes()
