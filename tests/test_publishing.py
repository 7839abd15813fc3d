"""A model folder goes out whole: copied without loss of what others have, pushed so that the very bytes arrive."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from gguf import GGUFReader
from huggingface_hub.utils import disable_progress_bars

from firstwords import pipeline
from firstwords.errors import FirstwordsError
from firstwords.model.hub import load_folder
from firstwords.publishing import (
    MANIFEST,
    ModelFiles,
    add_gguf,
    check_destination,
    check_login,
    copy_to,
    hub_repository,
    push,
)
from firstwords.recipe import Recipe
from firstwords.run_folder import RunFolder
from tests.local_hub import TOKEN, LocalHub, Repository, local_hub
from tests.report.conftest import TINY

# huggingface_hub sends bytes to storage in a way that its HTTP library would like to be written otherwise.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that is trained and exported, in a workspace of its own."""
    workspace = tmp_path_factory.mktemp("publishing")
    recipe = Recipe.parse(TINY.encode(), "tiny.toml").override({"training.max-steps": "3", "evaluation.suites": "[]"})
    return pipeline.run(recipe, workspace=workspace, offline=True)


@pytest.fixture
def run(finished: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of it that a test may change."""
    shutil.copytree(finished.path, tmp_path / "runs" / "tiny")
    return RunFolder(tmp_path / "runs" / "tiny")


@pytest.fixture
def model(run: RunFolder) -> ModelFiles:
    return ModelFiles.of(run)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def without_manifest(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(folder).items() if name != MANIFEST}


# ---- to a folder ----


def test_a_copy_is_the_model_folder_and_stands_alone(model: ModelFiles, tmp_path: Path) -> None:
    copy_to(model, tmp_path / "new" / "copy")
    assert without_manifest(tmp_path / "new" / "copy") == contents(model.folder)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["copy"], "nothing half made is left"
    (tmp_path / "new" / "copy" / "README.md").write_text("mine")
    assert (model.folder / "README.md").read_text() != "mine", "no link back into the run"
    shutil.rmtree(model.folder)
    load_folder(tmp_path / "new" / "copy")


def test_an_earlier_copy_of_the_same_model_is_replaced(run: RunFolder, model: ModelFiles, tmp_path: Path) -> None:
    copy_to(model, tmp_path / "copy")
    (model.folder / "README.md").write_text("---\nlicense: mit\n---\n\nA new card.\n")
    (model.folder / "losses.csv").unlink()
    copy_to(ModelFiles.of(run), tmp_path / "copy")
    assert without_manifest(tmp_path / "copy") == contents(model.folder), "files that are no longer made are gone"


def test_what_others_put_or_changed_there_is_not_lost(model: ModelFiles, tmp_path: Path) -> None:
    copy_to(model, tmp_path / "copy")
    (tmp_path / "copy" / "notes.txt").write_text("my notes")
    before = contents(tmp_path / "copy")
    with pytest.raises(FirstwordsError, match=r"'notes\.txt', which no export wrote"):
        copy_to(model, tmp_path / "copy")
    (tmp_path / "copy" / "notes.txt").unlink()
    (tmp_path / "copy" / "README.md").write_text("my better card")
    with pytest.raises(FirstwordsError, match=r"'README\.md' was changed after it was exported"):
        copy_to(model, tmp_path / "copy")
    before = before | {"README.md": b"my better card"}
    del before["notes.txt"]
    assert contents(tmp_path / "copy") == before


def test_a_folder_of_others_is_written_only_by_force_and_keeps_their_files(model: ModelFiles, tmp_path: Path) -> None:
    (tmp_path / "clone" / ".git").mkdir(parents=True)
    (tmp_path / "clone" / "README.md").write_text("old")
    with pytest.raises(FirstwordsError, match=r"'\.git', which no export wrote"):
        copy_to(model, tmp_path / "clone")
    copy_to(model, tmp_path / "clone", force=True)
    assert (tmp_path / "clone" / ".git").is_dir()
    assert (tmp_path / "clone" / "README.md").read_bytes() == (model.folder / "README.md").read_bytes()


def test_another_model_is_not_replaced(model: ModelFiles, tmp_path: Path) -> None:
    copy_to(model, tmp_path / "copy")
    manifest = json.loads((tmp_path / "copy" / MANIFEST).read_text())
    (tmp_path / "copy" / MANIFEST).write_text(json.dumps(manifest | {"run": "big", "model": "other weights"}))
    with pytest.raises(FirstwordsError, match="another model, of the run 'big'"):
        copy_to(model, tmp_path / "copy")


@pytest.mark.parametrize("manifest", ["[]", "{", '{"files": 3}', "\udce9"])
def test_a_manifest_that_is_none_gives_no_right_to_replace(model: ModelFiles, tmp_path: Path, manifest: str) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / MANIFEST).write_text(manifest, errors="surrogateescape")
    with pytest.raises(FirstwordsError, match="the folder is not free"):
        check_destination(tmp_path / "copy", model)


def test_an_empty_folder_is_taken_even_where_one_stands_in_it(
    model: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for _ in range(2):
        copy_to(model, Path())
        assert without_manifest(Path.cwd()) == contents(model.folder), "the folder that the shell is in is still there"


def test_files_and_the_runs_own_folder_are_no_destination(model: ModelFiles, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FirstwordsError, match="it is a file"):
        copy_to(model, tmp_path / "file", force=True)
    before = contents(model.folder)
    (tmp_path / "link").symlink_to(model.folder)
    for folder in (model.folder, tmp_path / "link"):
        with pytest.raises(FirstwordsError, match="the run's own model folder"):
            copy_to(model, folder, force=True)
    assert contents(model.folder) == before


def test_a_copy_that_breaks_off_leaves_the_one_of_before(
    model: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_to(model, tmp_path / "copy")
    before, real = contents(tmp_path / "copy"), shutil.copyfile

    def breaks(source: Path, target: Path) -> None:
        if source.name == "tokenizer.json":
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(shutil, "copyfile", breaks)
    with pytest.raises(OSError, match="No space left"):
        copy_to(model, tmp_path / "copy")
    assert contents(tmp_path / "copy") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "runs"]


def test_a_run_without_a_model_folder_has_nothing_to_publish(tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match="has no model folder yet"):
        ModelFiles.of(RunFolder(tmp_path / "none"))


def test_the_gguf_file_goes_out_with_the_folder(run: RunFolder, tmp_path: Path) -> None:
    written = add_gguf(run, "f16")
    assert written.path == run.stage("export") / "tiny.gguf"
    reader = GGUFReader(written.path)
    assert reader.get_field("general.name").contents() == "tiny"
    assert reader.get_field("general.license").contents() == "apache-2.0"
    assert str(reader.get_field("general.description").contents()).startswith("A model of the tests Made with firstw")
    copy_to(ModelFiles.of(run), tmp_path / "copy")
    assert (tmp_path / "copy" / "tiny.gguf").read_bytes() == written.path.read_bytes()


# ---- to the Hub ----


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # hf_xet, which large files go by, speaks to a storage service of its own, and holds the interpreter while it waits
    # for an answer: this server, in the same process, could not give it. Without it they go by Git LFS.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    disable_progress_bars()
    with local_hub() as server:
        yield server


def test_the_bytes_that_arrive_are_those_of_the_folder(run: RunFolder, hub: LocalHub) -> None:
    add_gguf(run, "f32")
    model = ModelFiles.of(run)
    pushed = push(model, "me/tiny", endpoint=hub.url)
    arrived = hub.repositories["me/tiny"]
    assert arrived.files == contents(model.folder)
    assert {"model.safetensors", "tiny.gguf"} <= arrived.large, "large files by Git LFS"
    assert "README.md" not in arrived.large, "small ones in the commit itself"
    assert [commit["summary"] for commit in arrived.commits] == ["tiny, exported by firstwords 0.1.0"]
    assert arrived.private
    assert pushed.private
    assert pushed.url == f"{hub.url}/me/tiny"
    assert dict(pushed.files) == {name: len(content) for name, content in arrived.files.items()}


def test_with_hf_xet_small_folders_arrive_in_the_commit(
    model: ModelFiles, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", False)
    hub.large_from_bytes = 10**9
    push(model, "me/tiny", endpoint=hub.url)
    assert hub.repositories["me/tiny"].files == contents(model.folder)


def test_a_second_push_sends_what_changed(run: RunFolder, hub: LocalHub) -> None:
    push(ModelFiles.of(run), "me/tiny", endpoint=hub.url)
    (run.stage("export") / "losses.csv").write_text("step\n1\n")
    hub.requests.clear()
    push(ModelFiles.of(run), "me/tiny", endpoint=hub.url)
    assert hub.repositories["me/tiny"].files == contents(run.stage("export"))
    assert len(hub.repositories["me/tiny"].commits) == 2
    assert not [route for route in hub.requests if route.startswith("PUT /storage/")], "the weights are there already"
    push(ModelFiles.of(run), "me/tiny", endpoint=hub.url)
    assert len(hub.repositories["me/tiny"].commits) == 2, "no empty commit"


def test_who_sees_a_repository_is_never_widened_unasked(model: ModelFiles, hub: LocalHub) -> None:
    assert not push(model, "me/open", public=True, endpoint=hub.url).private
    assert not hub.repositories["me/open"].private
    hub.repositories["me/known"] = Repository(private=False)
    with pytest.raises(FirstwordsError, match="everybody can see the repository me/known"):
        push(model, "me/known", endpoint=hub.url)
    assert hub.repositories["me/known"].files == {}
    hub.repositories["me/hidden"] = Repository(private=True)
    assert push(model, "me/hidden", public=True, endpoint=hub.url).private, "it stays as it is, and that is told"


def test_hidden_files_and_folders_stay_at_home(model: ModelFiles, hub: LocalHub) -> None:
    (model.folder / ".env").write_text("SECRET=1")
    (model.folder / "cache").mkdir()
    (model.folder / "cache" / "state.bin").write_text("x")
    push(model, "me/tiny", endpoint=hub.url)
    assert hub.repositories["me/tiny"].files.keys() == model.sizes_bytes.keys()
    assert ".env" not in model.sizes_bytes


def test_a_file_that_the_hub_leaves_out_is_named(model: ModelFiles, hub: LocalHub) -> None:
    hub.ignored = {"losses.csv"}
    with pytest.raises(FirstwordsError, match=r"'losses\.csv' is not there") as caught:
        push(model, "me/tiny", endpoint=hub.url)
    assert caught.value.exit_code == 3


def test_a_card_that_the_hub_would_refuse_is_not_pushed(model: ModelFiles, hub: LocalHub) -> None:
    (model.folder / "README.md").write_text("---\nlicense: [1]\n---\n\nA card.\n")
    with pytest.raises(FirstwordsError, match=r'Invalid metadata in README.*"license" must be a string'):
        push(model, "me/tiny", endpoint=hub.url)
    assert hub.repositories["me/tiny"].files == {}


@pytest.mark.parametrize(
    ("route", "status", "says", "do"),
    [
        ("POST /api/repos/create", 401, r"does not accept the token \(HTTP 401: because\)", "hf auth login"),
        ("POST /api/repos/create", 403, r"may not write there \(HTTP 403: because\)", "settings/tokens"),
        ("POST /api/repos/create", 500, r"fault of its own \(HTTP 500: because\)", "again later"),
        ("GET /api/models/", 403, "may not write there", "settings/tokens"),
        ("POST /api/models/me/tiny/preupload", 403, "may not write there", "settings/tokens"),
        ("POST /me/tiny.git/", 403, "may not write there", "settings/tokens"),
        ("PUT /storage/", 413, "too large", "GGUF"),
        ("POST /api/models/me/tiny/commit", 400, r"the Hub refused \(HTTP 400: because\)", "what it says"),
        ("POST /api/models/me/tiny/commit", 403, "may not write there", "settings/tokens"),
    ],
)
def test_a_refusal_is_one_clear_message(
    model: ModelFiles, hub: LocalHub, route: str, status: int, says: str, do: str
) -> None:
    hub.refusals = {route: (status, "because")}
    with pytest.raises(FirstwordsError, match=says) as caught:
        push(model, "me/tiny", endpoint=hub.url)
    assert do in (caught.value.do or "")
    assert caught.value.where == f"{hub.url}/me/tiny"
    assert TOKEN not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_wrong_token_and_a_wrong_owner_are_told_apart(
    model: ModelFiles, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FirstwordsError, match=r"may not write there.*namespace 'others'"):
        push(model, "others/tiny", endpoint=hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(FirstwordsError, match="does not accept the token"):
        push(model, "me/tiny", endpoint=hub.url)
    assert hub.repositories == {}


def test_nobody_there_is_told(model: ModelFiles, hub: LocalHub) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(FirstwordsError, match="the push failed: ConnectError") as caught:
        push(model, "me/tiny", endpoint=f"http://127.0.0.1:{port}")
    assert "check the network" in (caught.value.do or "")


def test_without_a_token_nothing_is_sent(
    model: ModelFiles, hub: LocalHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(FirstwordsError, match="there is no token") as caught:
        push(model, "me/tiny", endpoint=hub.url)
    assert "hf auth login" in (caught.value.do or "")
    assert hub.requests == []
    (tmp_path / "token").write_text(TOKEN)
    assert check_login() == TOKEN, "what `hf auth login` keeps"


@pytest.mark.parametrize(
    ("destination", "found"),
    [("hub:me/tiny", "me/tiny"), ("out/folder", None), ("./hub", None), ("hub:Me-1/a_b.c", "Me-1/a_b.c")],
)
def test_a_repository_is_told_from_a_folder(destination: str, found: str | None) -> None:
    assert hub_repository(destination) == found


@pytest.mark.parametrize(
    "destination", ["hub", "hub:", "hub:tiny", "hub:a/b/c", "hub:../x", "hub:me/a b", "hub:/x", "hub:x/"]
)
def test_a_name_without_an_owner_is_refused(destination: str) -> None:
    with pytest.raises(FirstwordsError, match="names no repository of the Hub") as caught:
        hub_repository(destination)
    assert "hub:owner/name" in (caught.value.do or "")
