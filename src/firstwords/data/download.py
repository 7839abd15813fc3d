"""Downloads that can be trusted: checked, resumed after a break, never half written under the final name.

While it comes, a file is `.<name>.part` beside its destination, with `.<name>.validator` saying which version of the
server's file it is a part of. Only a whole file with the right checksum gets the final name.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from firstwords.errors import FirstwordsError

if TYPE_CHECKING:
    import httpx

Say = Callable[[str], None]
"""Takes one line of progress meant for a person."""

_BLOCK_BYTES = 1 << 18
_RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to insist on a server that fails."""

    tries: int = 4
    delay_seconds: float = 1.0
    """Pause before the second try; doubled before each further one."""
    silence_seconds: float = 30.0
    """A server that says nothing for so long has broken off."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """What the bytes of a file must hash to. kind: sha256, md5 or git-blob (SHA-1 as git computes it)."""

    kind: str
    hexdigest: str

    def matches(self, path: Path) -> bool:
        """Whether the file is there and has this checksum."""
        return path.is_file() and checksum_of(path, self.kind) == self.hexdigest.lower()


def checksum_of(path: Path, kind: str) -> str:
    """Hexadecimal checksum of a file, read in pieces; `kind` as in Checksum."""
    algorithm = hashlib.new("sha1" if kind == "git-blob" else kind, usedforsecurity=False)
    if kind == "git-blob":
        algorithm.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            algorithm.update(block)
    return algorithm.hexdigest()


def cache_folder() -> Path:
    """Where downloads are kept: $FIRSTWORDS_CACHE, else ~/.cache/firstwords."""
    return Path(os.environ.get("FIRSTWORDS_CACHE") or "~/.cache/firstwords").expanduser()


def size_text(size_bytes: int) -> str:
    """`719 kB`, `4.9 MB`: a size for a person."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= factor:
            number = size_bytes / factor
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
    return f"{size_bytes} bytes"


def download(
    url: str,
    destination: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    size_bytes: int | None = None,
    title: str | None = None,
    license: str | None = None,
    say: Say | None = None,
    offline: bool = False,
    patience: Patience | None = None,
    headers: Mapping[str, str] | None = None,
    hub_checksum: bool = False,
) -> Path:
    """`destination`, downloaded from `url` unless it is there with the right checksum.

    The license and the size are said before the bytes come. hub_checksum: where no checksum is given, take the one
    that the Hugging Face Hub names in its answer. A file that nothing vouches for is refused, and the error names the
    checksum of what came. Two processes never download the same file: the second waits and finds it done.
    Raises FirstwordsError for a server that keeps failing, wrong bytes, no space, or a missing file when offline.
    """
    checksum = Checksum("sha256", sha256) if sha256 else Checksum("md5", md5) if md5 else None
    if destination.is_file() and (checksum is None or checksum.matches(destination)):
        return destination
    title = title or destination.name
    if offline:
        state = "is damaged in the cache" if destination.is_file() else "is not in the cache"
        raise FirstwordsError(
            f"{title} {state}, and nothing may be downloaded while offline",
            where=str(destination),
            do=f"allow the download of {url} once, or give a folder that has it with --data",
        )
    transfer = _Transfer(
        url, destination, checksum, size_bytes, title, license, say or (lambda line: None), headers or {}, hub_checksum
    )
    with _disk_errors(destination), _lock(destination, transfer.say):
        if destination.is_file() and (checksum is None or checksum.matches(destination)):
            return destination  # another process brought it while this one waited
        if destination.is_file():
            transfer.say(f"{title} is damaged in the cache and is downloaded again")
        transfer.run(patience or Patience())
    return destination


def hub_download(
    address: str,
    cache: Path,
    *,
    sha256: str | None = None,
    title: str | None = None,
    license: str | None = None,
    say: Say | None = None,
    offline: bool = False,
    patience: Patience | None = None,
) -> Path:
    """A file of a data set on the Hugging Face Hub: `hub:owner/repo/path` or `hub:owner/repo@revision/path`.

    It is checked against the checksum that the Hub itself holds (sha256 of large files, git's of small ones) unless
    `sha256` is given. $HF_ENDPOINT and a stored token are honoured. Otherwise as `download`.
    """
    match = re.fullmatch(r"hub:([^/@]+/[^/@]+)(?:@([^/]+))?/(.+)", address)
    if not match:
        raise FirstwordsError(
            f"'{address}' is no address on the Hub",
            where=address,
            do="write hub:owner/repo/file or hub:owner/repo@revision/file",
        )
    from huggingface_hub import get_token, hf_hub_url

    token = get_token()
    repo, revision, path = match[1], match[2] or "main", match[3]
    return download(
        hf_hub_url(repo, path, repo_type="dataset", revision=revision, endpoint=os.environ.get("HF_ENDPOINT")),
        cache.joinpath("hub", *repo.split("/"), revision, *path.split("/")),
        sha256=sha256,
        title=title or f"{repo}: {path}",
        license=license,
        say=say,
        offline=offline,
        patience=patience,
        headers={"Authorization": f"Bearer {token}"} if token else {},
        hub_checksum=True,
    )


class _BrokenOff(Exception):
    """The server failed in a way that another try may mend."""


@dataclass(slots=True)
class _Transfer:
    """One file on its way from a server; knows the part that is here and how to get the rest."""

    url: str
    destination: Path
    checksum: Checksum | None
    size_bytes: int | None
    title: str
    license: str | None
    say: Say
    headers: Mapping[str, str]
    hub_checksum: bool
    announced: bool = False

    @property
    def part(self) -> Path:
        return self.destination.with_name(f".{self.destination.name}.part")

    @property
    def validator_file(self) -> Path:
        return self.destination.with_name(f".{self.destination.name}.validator")

    def run(self, patience: Patience) -> None:
        """Bring the file to its destination, or raise FirstwordsError."""
        import httpx

        if self.checksum and self.checksum.matches(self.part):
            return self._finish()
        with httpx.Client(follow_redirects=True, timeout=patience.silence_seconds) as client:
            for attempt in range(1, patience.tries + 1):
                resumed = self._held_bytes() > 0
                try:
                    self._request(client)
                    if self._whole():
                        return self._finish()
                    sent = checksum_of(self.part, "sha256") if self.part.is_file() else "nothing came"
                    self._drop_part()
                    # A wrong file made of two pieces may be no fault of the server's: the next try starts anew.
                    if not resumed:
                        raise self._wrong_bytes(sent)
                    reason = "what was resumed did not fit together"
                except (httpx.UnsupportedProtocol, httpx.TooManyRedirects, httpx.InvalidURL) as error:
                    raise self._failed(str(error)) from None
                except (httpx.TransportError, _BrokenOff) as error:
                    # A server that announces too many bytes seems to break off although all of them came.
                    if self.checksum and self.checksum.matches(self.part):
                        return self._finish()
                    reason = str(error) or type(error).__name__
                if attempt < patience.tries:
                    pause_seconds = patience.delay_seconds * 2 ** (attempt - 1)
                    self.say(f"{self.title}: {reason}; trying again in {pause_seconds:g} s")
                    time.sleep(pause_seconds)
        raise self._failed(f"{reason} (in {patience.tries} tries)")

    def _request(self, client: httpx.Client) -> None:
        """One request: append to the part what the server sends, or begin it anew."""
        held_bytes = self._held_bytes()
        validator = self.validator_file.read_text() if self.validator_file.is_file() else ""
        headers = {**self.headers, "Accept-Encoding": "identity"}
        if held_bytes:
            headers["Range"] = f"bytes={held_bytes}-"
            if validator:
                headers["If-Range"] = validator
        with client.stream("GET", self.url, headers=headers) as response:
            if response.status_code == 416:
                if response.headers.get("Content-Range") == f"bytes */{held_bytes}":
                    return  # nothing is missing
                self._drop_part()
                raise _BrokenOff("the server has no rest of the part that is here")
            if response.status_code in _RETRIED_STATUSES:
                raise _BrokenOff(f"the server answered {response.status_code} {response.reason_phrase}")
            if response.status_code not in {200, 206}:
                raise self._failed(f"the server answered {response.status_code} {response.reason_phrase}")
            if response.status_code == 206 and not _range_starts_at(response, held_bytes):
                self._drop_part()
                raise _BrokenOff("the server sent another part than it was asked for")
            begin_bytes = held_bytes if response.status_code == 206 else 0
            if self.hub_checksum and self.checksum is None:
                self.checksum = _hub_checksum(response)
            self._announce(response, begin_bytes)
            if not begin_bytes:
                self.validator_file.write_text(_validator(response))
            self._receive(response, begin_bytes)

    def _receive(self, response: httpx.Response, begin_bytes: int) -> None:
        here_bytes, said_at = begin_bytes, time.monotonic()
        with self.part.open("ab" if begin_bytes else "wb") as file:
            for block in response.iter_raw():  # as it comes: a break must lose nothing
                file.write(block)
                here_bytes += len(block)
                if self.size_bytes is not None and here_bytes > self.size_bytes:
                    return  # too much: the check of the whole says so; an endless answer must not fill the disk
                if time.monotonic() - said_at > 10:
                    said_at = time.monotonic()
                    self.say(f"{self.title}: {size_text(here_bytes)} are here")

    def _held_bytes(self) -> int:
        """Bytes of an earlier try that can be built upon; 0 where nothing would tell that they are of another file."""
        if not self.part.is_file() or not (self.checksum or self.hub_checksum or self.validator_file.is_file()):
            return 0
        return self.part.stat().st_size

    def _announce(self, response: httpx.Response, begin_bytes: int) -> None:
        if self.announced:
            return
        self.announced = True
        length = response.headers.get("Content-Length", "")
        size_bytes = self.size_bytes or (begin_bytes + int(length) if length.isdecimal() else None)
        size = size_text(size_bytes) if size_bytes else "of unknown size"
        resumed = f", {size_text(begin_bytes)} of it are here already" if begin_bytes else ""
        self.say(f"downloading {self.title} ({size}{resumed}) from {self.url}; license: {self.license or 'not stated'}")

    def _whole(self) -> bool:
        if self.size_bytes is not None and self.part.stat().st_size != self.size_bytes:
            return False
        if self.checksum is None:
            raise self._unvouched()
        return self.checksum.matches(self.part)

    def _finish(self) -> None:
        with self.part.open("rb") as file:
            os.fsync(file.fileno())
        self.part.replace(self.destination)
        self.validator_file.unlink(missing_ok=True)

    def _drop_part(self) -> None:
        self.part.unlink(missing_ok=True)
        self.validator_file.unlink(missing_ok=True)

    def _failed(self, reason: str) -> FirstwordsError:
        kept = (
            f"; {size_text(self._held_bytes())} are kept, the next try goes on from there" if self._held_bytes() else ""
        )
        closed = self.hub_checksum and ("401" in reason or "403" in reason)
        gated = " (a gated or private data set needs `hf auth login` first)" if closed else ""
        return FirstwordsError(
            f"{self.title} could not be downloaded: {reason}{kept}",
            where=self.url,
            do=f"check the address and the connection{gated}, or give a folder that has the file with --data",
        )

    def _wrong_bytes(self, sent: str) -> FirstwordsError:
        kind = self.checksum.kind if self.checksum else "size"
        return FirstwordsError(
            f"{self.title}: the server sent other bytes than the file's {kind} promises; they were removed"
            f" (their sha256: {sent})",
            where=self.url,
            do="try again later; if it stays so, the file at that address has changed: get the right one elsewhere and "
            "give its folder with --data",
        )

    def _unvouched(self) -> FirstwordsError:
        digest = checksum_of(self.part, "sha256")
        return FirstwordsError(
            f"nothing vouches for {self.title}: neither the recipe nor the server names its checksum",
            where=self.url,
            do=f'compare with what its publisher says, then write sha256 = "{digest}" into the source\'s settings; '
            f"the {size_text(self.part.stat().st_size)} that came are kept and not downloaded again",
        )


def _validator(response: httpx.Response) -> str:
    """What names this version of the server's file: a strong ETag, else its date, else nothing."""
    etag = str(response.headers.get("ETag", ""))
    return etag if etag.startswith('"') else str(response.headers.get("Last-Modified", ""))


def _range_starts_at(response: httpx.Response, byte: int) -> bool:
    return str(response.headers.get("Content-Range", "")).startswith(f"bytes {byte}-")


def _hub_checksum(response: httpx.Response) -> Checksum | None:
    """The Hub's own checksum of the file: X-Linked-Etag (sha256, stands on the redirect), or the ETag (git's)."""
    for name, length, kind in (("X-Linked-Etag", 64, "sha256"), ("ETag", 64, "sha256"), ("ETag", 40, "git-blob")):
        for answer in (*response.history, response):
            digest = answer.headers.get(name, "").removeprefix("W/").strip('"')
            if re.fullmatch(f"[0-9a-f]{{{length}}}", digest):
                return Checksum(kind, digest)
    return None


@contextmanager
def _lock(destination: Path, say: Say) -> Iterator[None]:
    import filelock

    destination.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(destination.with_name(f".{destination.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        say(f"waiting for another process that downloads {destination.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _disk_errors(destination: Path) -> Iterator[None]:
    """Turn the operating system's refusals into the user's error; a part that was written is kept."""
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        problem = "there is no space left for" if full else f"cannot write ({error.strerror or error})"
        raise FirstwordsError(
            f"{problem} {destination.name}",
            where=str(destination.parent),
            do=("make room there" if full else "make that folder writable")
            + ", or keep downloads elsewhere with $FIRSTWORDS_CACHE; what has come so far is kept",
        ) from None


def file_name_of(url: str) -> str:
    """The last part of a web address, to name its file by."""
    return urlsplit(url).path.rstrip("/").rpartition("/")[2] or "download"
