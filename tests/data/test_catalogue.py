"""What can be downloaded by name, and that it is what its publishers gave."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from firstwords.data import catalogue
from firstwords.data.download import Patience
from firstwords.errors import FirstwordsError

QUICK = Patience(tries=2, delay_seconds=0.01, silence_seconds=5.0)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the web address at which its files are served."""
    folder = tmp_path / "site"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(timeout=5)


def test_every_entry_says_what_it_is_and_under_which_license() -> None:
    for entry in (*catalogue.sources().values(), *catalogue.suites().values()):
        assert entry.title
        assert entry.license
        assert entry.citation
    for source in catalogue.sources().values():
        pinned = "@" in source.address and source.address.startswith("hub:")
        assert pinned or source.archive_md5 or source.archive_sha256


def test_the_six_sources_of_babylm_are_there_in_three_editions() -> None:
    names = {"bnc_spoken", "childes", "gutenberg", "open_subtitles", "simple_wiki", "switchboard"}
    for edition in ("", "babylm-2026/", "babylm-2025-100M/"):
        assert {edition + name for name in names} <= catalogue.sources().keys()
    hub = catalogue.source("babylm-2026/childes").address
    assert hub.startswith("hub:BabyLM-community/BabyLM-2026-Strict-Small@")
    assert hub.endswith("/childes.train.txt")


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(FirstwordsError, match="did you mean 'childes'"):
        catalogue.source("childs")
    with pytest.raises(FirstwordsError, match="did you mean 'blimp'"):
        catalogue.suite("blim")


def test_the_official_file_at_hand_is_the_one_in_the_catalogue(shared_data: Path) -> None:
    official = (shared_data / "text" / "switchboard.train").read_bytes()
    assert hashlib.md5(official).hexdigest() == catalogue.source("switchboard").md5
    assert len(official) == catalogue.source("switchboard").size_bytes


def test_blimp_at_hand_is_the_one_in_the_catalogue(shared_data: Path) -> None:
    suite = catalogue.suite("blimp")
    files = {path.stem: path.read_bytes() for path in (shared_data / "blimp").iterdir()}
    assert {name: hashlib.sha256(file).hexdigest() for name, file in files.items()} == suite.sha256
    assert len(suite.sha256) == 67
    assert sum(map(len, files.values())) == suite.size_bytes


def test_a_suite_is_found_under_data_by_either_spelling(tmp_path: Path) -> None:
    (tmp_path / "data" / "fast" / "blimp_fast").mkdir(parents=True)
    for name in ("blimp-fast", "blimp_fast"):
        found = catalogue.fetch_suite(name, [tmp_path / "data"], tmp_path / "cache", offline=True)
        assert found == tmp_path / "data" / "fast" / "blimp_fast"
    (tmp_path / "data" / "my_pairs").mkdir()
    assert catalogue.fetch_suite("my-pairs", [tmp_path / "data"], tmp_path).name == "my_pairs"


def test_the_fast_set_cut_from_blimp_is_the_published_one_to_the_byte(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "blimp").symlink_to(shared_data / "blimp")
    cut = catalogue.fetch_suite("blimp-fast", [tmp_path / "data"], tmp_path / "cache", offline=True)
    assert cut == tmp_path / "cache" / "suites" / "blimp_fast"
    published = shared_data / "babylm-2025" / "fast" / "blimp_fast"
    assert sorted(path.name for path in cut.iterdir()) == sorted(path.name for path in published.iterdir())
    assert all(path.read_bytes() == (published / path.name).read_bytes() for path in cut.iterdir())


def test_a_suite_that_is_not_what_it_should_be_is_not_cut(tmp_path: Path) -> None:
    (tmp_path / "blimp").mkdir()
    (tmp_path / "blimp" / "adjunct_island.jsonl").write_text('{"pairID": "1"}\n')
    with pytest.raises(FirstwordsError, match="adjunct_island"):
        catalogue.fetch_suite("blimp-fast", [tmp_path], tmp_path / "cache", offline=True)


def test_a_suite_is_downloaded_checked_and_used_offline(
    site: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = site
    files = {"one": b'{"a": 1}\n', "two": b'{"a": 2}\n'}
    for name, content in files.items():
        (folder / f"{name}.jsonl").write_bytes(content)
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    tiny = replace(catalogue.suite("blimp"), name="tiny", address=url, sha256=sha256, size_bytes=18)
    monkeypatch.setitem(catalogue.suites(), "tiny", tiny)
    said: list[str] = []
    fetched = catalogue.fetch_suite("tiny", [], tmp_path / "cache", say=said.append, patience=QUICK)
    assert {path.stem: path.read_bytes() for path in fetched.glob("*.jsonl")} == files
    assert len(said) == 1
    assert "CC BY 4.0" in said[0]
    (folder / "one.jsonl").unlink()
    assert catalogue.fetch_suite("tiny", [], tmp_path / "cache", offline=True) == fetched
    (fetched / "two.jsonl").write_bytes(b'{"a": 3}\n')
    with pytest.raises(FirstwordsError, match=r"two\.jsonl is damaged"):
        catalogue.fetch_suite("tiny", [], tmp_path / "cache", offline=True)


def packed(folder: Path, text: bytes) -> catalogue.CatalogueSource:
    """A catalogue entry whose archive, as train_10M.zip does, has the text in a folder of its own."""
    with zipfile.ZipFile(folder / "train_10M.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train_10M/childes.train", text)
        archive.writestr("train_10M/bnc_spoken.train", "other")
    return replace(
        catalogue.source("childes"),
        md5=hashlib.md5(b"*MOT: hi .\n").hexdigest(),
        size_bytes=None,
        archive_md5=hashlib.md5((folder / "train_10M.zip").read_bytes()).hexdigest(),
        archive_size_bytes=None,
    )


def test_a_source_is_taken_out_of_its_archive_and_checked(site: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = site
    entry = replace(packed(folder, b"*MOT: hi .\n"), address=f"{url}/train_10M.zip")
    said: list[str] = []
    path = catalogue.fetch_source(entry, tmp_path / "cache", say=said.append, patience=QUICK)
    assert path.read_bytes() == b"*MOT: hi .\n"
    assert path.name == "childes.train"
    assert "CC BY-NC-SA" in said[0]
    assert catalogue.fetch_source(entry, tmp_path / "cache", offline=True) == path
    path.write_bytes(b"*MOT: ho .\n")  # damaged: taken out of the archive again, without a download
    assert catalogue.fetch_source(entry, tmp_path / "cache", offline=True).read_bytes() == b"*MOT: hi .\n"


def test_an_archive_with_another_text_is_refused(site: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = site
    entry = replace(packed(folder, b"*MOT: bye .\n"), address=f"{url}/train_10M.zip")
    with pytest.raises(FirstwordsError, match="not the published text"):
        catalogue.fetch_source(entry, tmp_path / "cache", patience=QUICK)
    assert not list((tmp_path / "cache").rglob("*.train"))
    with pytest.raises(FirstwordsError, match=r"no readable nothing\.train"):
        catalogue.fetch_source(replace(entry, member="nothing.train"), tmp_path / "cache", patience=QUICK)


def test_offline_without_a_cache_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match=r"train_10M\.zip.*offline"):
        catalogue.fetch_source(catalogue.source("childes"), tmp_path, offline=True)
