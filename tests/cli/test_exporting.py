"""`firstwords export` as a user types it: a folder, a GGUF file, the Hub; and what is wrong is told before the work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from firstwords.cli import main
from firstwords.publishing import MANIFEST
from firstwords.run_folder import RunFolder
from tests.local_hub import TOKEN, LocalHub, local_hub
from tests.report.conftest import TINY


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe file, and a workspace whose run was made by exporting that recipe to a folder."""
    place = tmp_path_factory.mktemp("exporting")
    recipe = TINY.replace("epochs = 2", "epochs = 2\nmax-steps = 3").replace('["grammar.firstwords"]', "[]")
    (place / "tiny.toml").write_text(recipe)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["export", "tiny.toml", "--to", "out/first"]) == 0
    return place


@pytest.fixture
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder as the current one, without a token."""
    monkeypatch.chdir(place)
    for name in ("HF_TOKEN", "FIRSTWORDS_WORKSPACE", "FIRSTWORDS_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(place / "no-token"))
    return place


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with local_hub() as server:
        yield server


def run_of(there: Path) -> RunFolder:
    return RunFolder(there / "runs" / "tiny")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST}


def refusal(capsys: pytest.CaptureFixture[str], *words: str, code: int = 2) -> str:
    capsys.readouterr()
    assert main(["export", *words]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def as_a_program(there: Path, hub: LocalHub, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with the Hub's address in the environment, as users set it."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(there / "hf"), "DO_NOT_TRACK": "1"}
    return subprocess.run(
        [sys.executable, "-m", "firstwords", "export", *words],
        cwd=there,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_recipe_without_a_run_is_carried_out_first(there: Path) -> None:
    assert run_of(there).mark("export") is not None
    assert contents(there / "out" / "first") == contents(run_of(there).stage("export"))


def test_a_finished_run_is_copied_as_it_is(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "tiny", "--to", "out/second"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "", "no stage was looked at"
    assert f"copied to  {there / 'out' / 'second'}" in captured.out
    assert contents(there / "out" / "second") == contents(run_of(there).stage("export"))


def test_without_a_destination_it_tells_where_the_folder_is(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "tiny", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["model"] == "runs/tiny/model"
    assert answer["exported"] == {}


def test_a_gguf_file_is_put_into_the_folder_and_what_it_loses_is_told(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "tiny", "--gguf", "f16", "--to", "out/gguf", "--json"]) == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)["exported"]
    assert told["gguf"]["bytes"] == (there / "out" / "gguf" / "tiny.gguf").stat().st_size == told["files"]["tiny.gguf"]
    assert (there / "runs" / "tiny" / "model" / "tiny.gguf").read_bytes()[:4] == b"GGUF"
    (lost,) = told["gguf"]["lost"]
    assert "Unicode NFC" in lost
    assert captured.err == f"warning: {lost}\n"
    (there / "runs" / "tiny" / "model" / "tiny.gguf").unlink()


def test_a_stopped_run_is_finished_by_its_own_recipe(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--name", "other", "--seed", "5", "--model.hidden", "24"]
    assert main(["tokenizer", "tiny.toml", *words]) == 0
    assert main(["export", "other", "--to", "out/other"]) == 0
    assert json.loads((there / "out" / "other" / "config.json").read_text())["hidden_size"] == 24
    assert sorted(path.name for path in (there / "runs").iterdir()) == ["other", "tiny"]
    # What its folder says of it makes it no other run: the card is made anew, and nothing else.
    capsys.readouterr()
    assert main(["export", "other", "--export.compare-with", "tiny", "--to", "out/compared"]) == 0
    states = [line.split()[:2] for line in capsys.readouterr().err.splitlines()]
    assert states[:4] == [[stage, "kept"] for stage in ("corpus", "tokenizer", "tokens", "training")]
    assert states[-1] == ["export", "done"]
    card = (there / "out" / "compared" / "README.md").read_text()
    assert "## Compared with tiny" in card
    assert "no test set and protocol in common" in card
    assert sorted(path.name for path in (there / "runs").iterdir()) == ["other", "tiny"]


def test_settings_ask_for_another_run(there: Path) -> None:
    assert main(["export", "tiny.toml", "--seed", "9", "--to", "out/nine"]) == 0
    assert (there / "runs" / "tiny-2").is_dir()
    assert main(["export", "tiny", "--to", "out/nine"]) == 2, "that folder holds the other model"


def test_a_dry_run_shows_all_and_does_nothing(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(there.rglob("*"))
    assert main(["export", "tiny", "--to", "hub:me/tiny", "--gguf", "f32", "--dry-run"]) == 0
    out = capsys.readouterr().out
    sizes = {name: len(content) for name, content in contents(run_of(there).stage("export")).items()}
    for name, size in sizes.items():
        assert f"{size:,}" in next(line for line in out.splitlines() if line.startswith(f"{name} "))
    assert f"{sum(sizes.values()):,} bytes" in out
    assert "to hub:me/tiny" in out
    assert "is private" in out
    assert "tiny.gguf" in out
    assert main(["export", "tiny", "--to", "out/dry", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == sizes
    assert sorted(there.rglob("*")) == before


def test_the_push_needs_nothing_but_the_environment(there: Path, hub: LocalHub) -> None:
    """With hf_xet as it is installed; files are small enough to go in the commit."""
    hub.large_from_bytes = 10**9
    done = as_a_program(there, hub, "tiny", "--to", "hub:me/tiny")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"pushed to  {hub.url}/me/tiny (private: only you and your organization see it)" in done.stdout
    assert hub.repositories["me/tiny"].files == contents(run_of(there).stage("export"))
    again = as_a_program(there, hub, "tiny", "--to", "hub:me/open", "--public", "--json")
    assert json.loads(again.stdout)["exported"]["private"] is False


def test_a_storage_that_refuses_large_files_is_told_as_the_hubs_refusal(there: Path, hub: LocalHub) -> None:
    """Large files go by hf_xet, which asks for a right to write to the storage first."""
    hub.refusals = {"GET /api/models/me/tiny/xet-write-token": (403, "no")}
    done = as_a_program(there, hub, "tiny", "--to", "hub:me/tiny")
    assert done.returncode == 2
    assert done.stderr.startswith("firstwords: the token may not write there (HTTP 403)\n")
    assert "Traceback" not in done.stderr
    assert hub.repositories["me/tiny"].commits == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--to", "hub"], "'hub' names no repository of the Hub"),
        (["--to", "hub:tiny"], "'hub:tiny' names no repository of the Hub"),
        (["--to", "hub:me/tiny"], "there is no token of the Hugging Face Hub"),
        (["--to", "hub:me/tiny", "--offline"], "nothing can be pushed with --offline"),
        (["--to", "hub:me/tiny", "--force"], "--force is about a folder"),
        (["--to", "elsewhere", "--public"], "--public is about a repository on the Hub"),
        (["--dry-run"], "--dry-run shows what --to would do"),
        (["--to", "elsewhere", "--dry-run"], "the model of 'new.toml' is not made yet"),
        (["--to", "tiny.toml"], "it is a file"),
        (["--to", "."], "the folder is not free"),
        (["--gguf", "q4"], "--gguf is 'q4'"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_made(
    there: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    (there / "new.toml").write_text((there / "tiny.toml").read_text().replace('name = "tiny"', 'name = "new"'))
    assert says in refusal(capsys, "new.toml", *words)
    assert not (there / "runs" / "new").exists()


def test_a_name_of_nothing_is_refused(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no bundled recipe 'tinny'" in refusal(capsys, "tinny", "--to", "out/tinny")
