"""Downloads, against a real server on this machine that breaks off, lies and sends wrong bytes."""

from __future__ import annotations

import contextlib
import hashlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firstwords.data.download import Patience, cache_folder, checksum_of, download, hub_download
from firstwords.errors import FirstwordsError

BODY = random.Random(1).randbytes(300_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
QUICK = Patience(tries=4, delay_seconds=0.01, silence_seconds=5.0)


class Request(BaseHTTPRequestHandler):
    """Answers each request as the test's next behaviour says; the last behaviour is used again and again."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self)
        self.close_connection = True
        behaviours = self.server.behaviours
        behaviour = behaviours.pop(0) if len(behaviours) > 1 else behaviours[0]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client has had enough
            behaviour(self)

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def asked_range(self) -> int | None:
        asked = self.headers.get("Range")
        return int(asked.removeprefix("bytes=").removesuffix("-")) if asked else None


class Server(ThreadingHTTPServer):
    daemon_threads = True
    behaviours: list[Callable[[Request], None]]
    requests: list[Request]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/text.txt"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Request) as running:
        running.behaviours, running.requests = [whole()], []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join(timeout=5)


def whole(body: bytes = BODY, etag: str = '"v1"', stop: int | None = None) -> Callable[[Request], None]:
    """An honest server, or with `stop` one that breaks off after so many bytes of its answer."""

    def behave(request: Request) -> None:
        start = request.asked_range()
        if start is not None and request.headers.get("If-Range") in (None, etag):
            if start >= len(body):
                request.answer(416, Content_Range=f"bytes */{len(body)}")
                return
            piece, extra = body[start:], {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
            request.answer(206, piece[:stop], length=len(piece), ETag=etag, **extra)
        else:
            request.answer(200, body[:stop], length=len(body), ETag=etag)

    return behave


def plain(status: int, body: bytes = b"", **headers: str) -> Callable[[Request], None]:
    return lambda request: request.answer(status, body, **headers)


def lying(length: int) -> Callable[[Request], None]:
    return lambda request: request.answer(200, BODY, length=length)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_license_and_size_are_said_and_a_file_that_is_there_is_not_asked_for_again(
    server: Server, tmp_path: Path
) -> None:
    said: list[str] = []
    destination = tmp_path / "cache" / "text.txt"
    for _ in range(2):
        download(server.url, destination, sha256=SHA256, license="CC BY 4.0", say=said.append, patience=QUICK)
    assert destination.read_bytes() == BODY
    assert len(said) == 1
    assert all(part in said[0] for part in ("300 kB", "CC BY 4.0", server.url))
    assert len(server.requests) == 1
    assert leftovers(destination.parent) == ["text.txt"]


def test_a_break_is_resumed_where_it_was(server: Server, tmp_path: Path) -> None:
    server.behaviours = [whole(stop=100_000), whole(stop=50_000), whole()]
    download(server.url, tmp_path / "t", sha256=SHA256, patience=QUICK)
    assert (tmp_path / "t").read_bytes() == BODY
    assert [request.headers.get("Range") for request in server.requests] == [None, "bytes=100000-", "bytes=150000-"]
    assert server.requests[1].headers["If-Range"] == '"v1"'
    assert leftovers(tmp_path) == ["t"]


def test_a_server_that_only_breaks_off_is_given_up_and_the_next_call_goes_on(server: Server, tmp_path: Path) -> None:
    server.behaviours = [whole(stop=1_000)]
    with pytest.raises(FirstwordsError, match=r"4 tries.*kept") as raised:
        download(server.url, tmp_path / "t", sha256=SHA256, patience=QUICK)
    assert raised.value.where == server.url
    assert len(server.requests) == 4
    assert not (tmp_path / "t").exists()
    server.behaviours = [whole()]
    download(server.url, tmp_path / "t", sha256=SHA256, patience=QUICK)
    assert server.requests[-1].headers["Range"] == "bytes=4000-"
    assert (tmp_path / "t").read_bytes() == BODY


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(0, len(BODY)), max_size=3), ranges=st.booleans(), named=st.booleans())
def test_wherever_it_breaks_the_bytes_are_right(
    server: Server, tmp_path: Path, stops: list[int], ranges: bool, named: bool
) -> None:
    (tmp_path / "t").unlink(missing_ok=True)
    etag = '"v1"' if named else "W/weak"
    server.behaviours = [whole(etag=etag, stop=stop) for stop in stops] + [
        whole(etag=etag) if ranges else plain(200, BODY)
    ]
    download(server.url, tmp_path / "t", sha256=SHA256, patience=QUICK)
    assert (tmp_path / "t").read_bytes() == BODY


def test_a_server_that_ignores_range_is_read_from_the_start(server: Server, tmp_path: Path) -> None:
    server.behaviours = [whole(stop=100_000), plain(200, BODY)]
    download(server.url, tmp_path / "t", sha256=SHA256, patience=QUICK)
    assert server.requests[1].headers["Range"] == "bytes=100000-"
    assert (tmp_path / "t").read_bytes() == BODY


def test_a_file_that_changed_on_the_server_is_not_mixed_with_its_old_part(server: Server, tmp_path: Path) -> None:
    new = BODY[::-1]
    server.behaviours = [whole(stop=100_000), whole(new, etag='"v2"')]
    download(server.url, tmp_path / "t", sha256=hashlib.sha256(new).hexdigest(), patience=QUICK)
    assert (tmp_path / "t").read_bytes() == new


def test_pieces_that_do_not_fit_are_thrown_away_and_fetched_anew(server: Server, tmp_path: Path) -> None:
    rest = len(BODY) - 100_000
    wrong_rest = plain(206, bytes(rest), Content_Range=f"bytes 100000-{len(BODY) - 1}/{len(BODY)}")
    wrong_place = plain(206, BODY[:rest], Content_Range=f"bytes 0-{rest - 1}/{len(BODY)}")
    for trouble in (wrong_rest, wrong_place):
        (tmp_path / "t").unlink(missing_ok=True)
        server.behaviours = [whole(stop=100_000), trouble, whole()]
        download(server.url, tmp_path / "t", sha256=SHA256, patience=QUICK)
        assert (tmp_path / "t").read_bytes() == BODY


def test_a_length_announced_too_long_does_no_harm(server: Server, tmp_path: Path) -> None:
    server.behaviours = [lying(len(BODY) + 1000)]
    download(server.url, tmp_path / "t", sha256=SHA256, patience=QUICK)
    assert (tmp_path / "t").read_bytes() == BODY


@pytest.mark.parametrize(
    "behaviour", [lying(len(BODY) - 1000), plain(200, BODY[::-1]), plain(200, BODY + b"more"), plain(200, b"<html>")]
)
@pytest.mark.parametrize("known", [{"sha256": SHA256}, {"md5": hashlib.md5(BODY).hexdigest(), "size_bytes": len(BODY)}])
def test_wrong_bytes_are_refused_and_removed(
    server: Server, tmp_path: Path, behaviour: Callable[[Request], None], known: dict
) -> None:
    server.behaviours = [behaviour]
    with pytest.raises(FirstwordsError, match="other bytes"):
        download(server.url, tmp_path / "t", **known, patience=QUICK)
    assert leftovers(tmp_path) == []
    assert len(server.requests) == 1


def test_what_is_cached_stays_until_the_right_file_has_come(server: Server, tmp_path: Path) -> None:
    download(server.url, tmp_path / "t", sha256=SHA256, patience=QUICK)
    with pytest.raises(FirstwordsError, match=SHA256):  # the server still has what it had
        download(server.url, tmp_path / "t", sha256="0" * 64, patience=QUICK)
    assert (tmp_path / "t").read_bytes() == BODY


def test_an_answer_without_end_stops_at_the_known_size(server: Server, tmp_path: Path) -> None:
    sent = []

    def endless(request: Request) -> None:
        request.send_response(200)
        request.end_headers()
        for _ in range(200):  # 50 MB, were nobody to stop it
            request.wfile.write(bytes(250_000))
            sent.append(250_000)

    server.behaviours = [endless]
    with pytest.raises(FirstwordsError, match="other bytes"):
        download(server.url, tmp_path / "t", sha256=SHA256, size_bytes=len(BODY), patience=QUICK)
    assert sum(sent) < 40_000_000


def test_a_missing_file_is_an_error_at_once_and_an_overloaded_server_is_asked_again(
    server: Server, tmp_path: Path
) -> None:
    server.behaviours = [plain(404)]
    with pytest.raises(FirstwordsError, match="404") as raised:
        download(server.url, tmp_path / "t", sha256=SHA256, patience=QUICK)
    assert raised.value.exit_code == 2
    assert len(server.requests) == 1
    server.behaviours = [plain(503), plain(500), whole()]
    download(server.url, tmp_path / "t", sha256=SHA256, patience=QUICK)
    assert len(server.requests) == 4


def test_failing_servers_are_given_up_after_a_few_tries(server: Server, tmp_path: Path) -> None:
    said: list[str] = []
    server.behaviours = [plain(500)]
    with pytest.raises(FirstwordsError, match="500"):
        download(server.url, tmp_path / "t", sha256=SHA256, say=said.append, patience=QUICK)
    assert len(server.requests) == 4
    assert len(said) == 3  # each new try is said
    assert "trying again" in said[0]


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match="could not be downloaded") as raised:
        download("http://127.0.0.1:9/x", tmp_path / "t", sha256=SHA256, patience=QUICK)
    assert "--data" in str(raised.value)


def test_redirects_are_followed_but_not_for_ever(server: Server, tmp_path: Path) -> None:
    server.behaviours = [plain(302, Location="/elsewhere"), whole()]
    download(server.url, tmp_path / "t", sha256=SHA256, patience=QUICK)
    assert (tmp_path / "t").read_bytes() == BODY
    server.behaviours = [plain(302, Location="/again")]
    with pytest.raises(FirstwordsError, match="redirects"):
        download(server.url, tmp_path / "u", sha256=SHA256, patience=QUICK)
    assert len(server.requests) < 60


def test_offline_uses_the_cache_and_asks_nobody(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match="offline"):
        download(server.url, tmp_path / "t", sha256=SHA256, offline=True)
    (tmp_path / "t").write_bytes(BODY)
    assert download(server.url, tmp_path / "t", sha256=SHA256, offline=True) == tmp_path / "t"
    (tmp_path / "t").write_bytes(BODY[:-1])
    with pytest.raises(FirstwordsError, match="damaged"):
        download(server.url, tmp_path / "t", sha256=SHA256, offline=True)
    assert server.requests == []


def test_a_damaged_file_in_the_cache_is_downloaded_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(BODY[:-1] + b"?")
    said: list[str] = []
    download(server.url, tmp_path / "t", sha256=SHA256, say=said.append, patience=QUICK)
    assert (tmp_path / "t").read_bytes() == BODY
    assert "damaged" in said[0]


def test_a_file_that_nothing_vouches_for_is_refused_until_the_recipe_names_its_checksum(
    server: Server, tmp_path: Path
) -> None:
    with pytest.raises(FirstwordsError, match="vouches") as raised:
        download(server.url, tmp_path / "t", patience=QUICK)
    assert SHA256 in str(raised.value)
    assert not (tmp_path / "t").exists()
    download(server.url, tmp_path / "t", sha256=SHA256, patience=QUICK)
    assert (tmp_path / "t").read_bytes() == BODY
    assert len(server.requests) == 1  # what had come was kept


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_one_clear_message(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".t.part").symlink_to("/dev/full")
    with pytest.raises(FirstwordsError, match="no space left") as raised:
        download(server.url, tmp_path / "t", sha256=SHA256, patience=QUICK)
    assert str(tmp_path) in str(raised.value)
    assert "FIRSTWORDS_CACHE" in str(raised.value)


def test_what_came_before_the_disk_was_full_is_kept(server: Server, tmp_path: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))" + SCRIPT
    process = subprocess.run(
        [sys.executable, "-c", limited, server.url, str(tmp_path / "t"), SHA256], capture_output=True, check=False
    )
    assert b"no space left" in process.stderr
    download(server.url, tmp_path / "t", sha256=SHA256, patience=QUICK)
    assert server.requests[-1].headers["Range"] == "bytes=120000-"
    assert (tmp_path / "t").read_bytes() == BODY


def test_a_cache_that_cannot_be_written_is_one_clear_message(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FirstwordsError, match="cannot write"):
        download(server.url, tmp_path / "file" / "t", sha256=SHA256, patience=QUICK)


SCRIPT = """
import sys
from pathlib import Path
from firstwords.data.download import download
download(sys.argv[1], Path(sys.argv[2]), sha256=sys.argv[3])
"""


def slow(request: Request) -> None:
    start = request.asked_range() or 0
    extra = {"Content_Range": f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"} if start else {}
    request.answer(206 if start else 200, BODY[start:200_000], length=len(BODY) - start, ETag='"v1"', **extra)
    request.wfile.flush()
    time.sleep(1.0)
    request.wfile.write(BODY[max(start, 200_000) :])


def start(url: str, destination: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, url, str(destination), SHA256])


def test_two_processes_do_not_download_the_same_file(server: Server, tmp_path: Path) -> None:
    server.behaviours = [slow]
    processes = [start(server.url, tmp_path / "t") for _ in range(2)]
    assert [process.wait(timeout=30) for process in processes] == [0, 0]
    assert (tmp_path / "t").read_bytes() == BODY
    assert len(server.requests) == 1


def test_a_killed_download_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.behaviours = [slow]
    process = start(server.url, tmp_path / "t")
    deadline = time.monotonic() + 20
    while not server.requests and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.4)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    assert not (tmp_path / "t").exists()
    held = (tmp_path / ".t.part").stat().st_size
    server.behaviours = [whole()]
    download(server.url, tmp_path / "t", sha256=SHA256, patience=QUICK)
    assert (tmp_path / "t").read_bytes() == BODY
    assert server.requests[-1].headers.get("Range") == (f"bytes={held}-" if held else None)


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("HF_ENDPOINT", server.url.removesuffix("/text.txt"))
    monkeypatch.setenv("HF_TOKEN", "")
    return server


def test_the_hub_vouches_for_large_files_by_sha256_on_its_redirect(hub: Server, tmp_path: Path) -> None:
    linked = plain(302, Location="/cdn/text", X_Linked_Etag=f'"{SHA256}"', X_Linked_Size=str(len(BODY)))
    hub.behaviours = [linked, whole(etag='"of the store"', stop=1000), linked, whole(etag='"of the store"')]
    path = hub_download("hub:owner/repo@abc123/data/text.txt", tmp_path, patience=QUICK)
    assert path == tmp_path / "hub" / "owner" / "repo" / "abc123" / "data" / "text.txt"
    assert path.read_bytes() == BODY
    assert hub.requests[0].path == "/datasets/owner/repo/resolve/abc123/data/text.txt"
    assert hub.requests[-1].headers["Range"] == "bytes=1000-"


def test_the_hub_vouches_for_small_files_by_the_hash_of_git(hub: Server, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(BODY)
    git = checksum_of(tmp_path / "body", "git-blob")
    hub.behaviours = [whole(etag=f'"{git}"')]
    path = hub_download("hub:owner/repo/text.txt", tmp_path, patience=QUICK)
    assert path.read_bytes() == BODY
    hub.behaviours = [whole(b"other bytes", etag=f'"{git}"')]
    with pytest.raises(FirstwordsError, match="git-blob"):
        hub_download("hub:owner/repo/other.txt", tmp_path, patience=QUICK)


def test_a_hub_file_is_refused_where_nothing_vouches_for_it_or_the_recipe_says_otherwise(
    hub: Server, tmp_path: Path
) -> None:
    with pytest.raises(FirstwordsError, match="vouches"):
        hub_download("hub:owner/repo/text.txt", tmp_path, patience=QUICK)
    with pytest.raises(FirstwordsError, match="other bytes"):
        hub_download("hub:owner/repo/second.txt", tmp_path, sha256="0" * 64, patience=QUICK)
    with pytest.raises(FirstwordsError, match="no address on the Hub"):
        hub_download("hub:owner", tmp_path)


def test_git_hashes_are_those_of_git(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert checksum_of(tmp_path / "empty", "git-blob") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


def test_the_cache_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTWORDS_CACHE", "/some/where")
    assert cache_folder() == Path("/some/where")
    monkeypatch.delenv("FIRSTWORDS_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "firstwords"
