"""From a file to its documents, in pieces, so that memory stays small however large the file is.

Plain text, gzip, zip (each text in it, sorted) and JSONL. Text stays bytes until a document is cut out of it, because
searching and cutting bytes is several times as fast; what is cut never depends on where the pieces were read apart.
"""

from __future__ import annotations

import codecs
import gzip
import itertools
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from firstwords.errors import FirstwordsError

TEXT_SUFFIXES = (".txt", ".text", ".train", ".dev", ".test", ".jsonl", ".ndjson")
"""What counts as text in a folder or an archive; a file that is named itself may be called anything."""

_PIECE_BYTES = 1 << 20
_LONGEST_DOCUMENT_BYTES = 1 << 20
"""A document without an end is cut at whole lines when it gets larger: budgets are met to within a document."""
_LONGEST_WITHOUT_HEADING_BYTES = 1 << 19
"""Text that goes on for longer without any heading has none: its documents are bordered otherwise."""
_LONGEST_FILE_BYTES = 1 << 24
"""The same where a file is to be one document: room for any single book."""
_LONGEST_RECORD_BYTES = 1 << 26

_BLANK_LINES = re.compile(rb"\n(?:[ \t]*\n)+")
_BLANK_LINES_IN_TEXT = re.compile(_BLANK_LINES.pattern.decode())
_BEFORE_HEADING = re.compile(rb"\n(?== = = [^=\n][^\n]*= = =[ \t]*\n)")


def is_text_name(name: str) -> bool:
    """Whether a file of that name, found in a folder or an archive, is taken as text."""
    return not name.startswith(".") and name.lower().removesuffix(".gz").endswith(TEXT_SUFFIXES)


def documents(path: Path, borders: str, document_bytes: int, text_key: str) -> Iterator[tuple[str, str]]:
    """The documents of one file, each with its place, as in `simple_wiki.train:120` (its first line).

    borders: blank-lines, headings (a line `= = = Title = = =` begins a document and stays in it), lines (whole lines
    gathered to `document_bytes`, blank ones left out) or files. A line of JSONL is always one document, the string
    under `text_key`. Line ends become "\\n"; blank lines around a document are no part of it.
    Raises FirstwordsError, naming file and line, for text that is none.
    """
    empty = True
    for name, stream in _texts(path):
        blocks = _unix_lines(_text_blocks(stream, name))
        if _is_jsonl(name):
            found = _records(blocks, text_key, name)
        else:
            found = _plain_documents(blocks, borders, document_bytes, name)
        for text, line in found:
            empty = False
            yield text, f"{name}:{line}"
    if empty:
        raise FirstwordsError(f"{path.name} has no text", where=str(path), do="give a file with text, or leave it out")


def raw_blocks(path: Path) -> Iterator[bytes]:
    """The bytes of one file as they are, unpacked, in pieces of any size; checked to be text, cut wherever it ends."""
    for name, stream in _texts(path):
        if _is_jsonl(name):
            raise FirstwordsError(
                f"{name} is JSONL, which has no raw bytes of text", where=str(path), do='use mix = "documents" for it'
            )
        decoder, line = codecs.getincrementaldecoder("utf-8")(), 1
        for block in _text_blocks(stream, name):
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                raise _invalid_utf8(error, name, line) from None
            line += block.count(b"\n")
            yield block


def _plain_documents(
    blocks: Iterator[bytes], borders: str, document_bytes: int, name: str
) -> Iterator[tuple[str, int]]:
    border, limit_bytes = {
        "blank-lines": (_BLANK_LINES, _LONGEST_DOCUMENT_BYTES),
        "headings": (_BEFORE_HEADING, _LONGEST_DOCUMENT_BYTES),
        "lines": (None, document_bytes),
        "files": (None, _LONGEST_FILE_BYTES),
    }[borders]
    headed = False
    for cut, first_line in _cut(blocks, border, limit_bytes):
        raw = cut.lstrip(b"\n")
        line = first_line + len(cut) - len(raw)
        headed = headed or raw.startswith(b"= = =")
        if borders == "headings" and not headed and len(raw) > _LONGEST_WITHOUT_HEADING_BYTES:
            raise FirstwordsError(
                f"{name} goes on for {len(raw):,} bytes without a heading (= = = Title = = =)",
                where=f"{name}:{line}",
                do='set documents = "blank-lines" or "lines" for this source',
            )
        text = _decoded(raw.rstrip(), name, line)
        if borders == "lines":
            text = _BLANK_LINES_IN_TEXT.sub("\n", text)
        if text and not text.isspace():
            yield text, line


def _cut(blocks: Iterator[bytes], border: re.Pattern[bytes] | None, limit_bytes: int) -> Iterator[tuple[bytes, int]]:
    """Pieces between borders and of at most `limit_bytes`, each with the number of the line it begins in."""
    rest, line = b"", 1
    for block in itertools.chain(blocks, (None,)):
        # The line end at the very end lets the last line be recognized as a heading.
        text = rest + (b"\n" if block is None else block)
        spans = [match.span() for match in border.finditer(text)] if border else []
        if block is None:
            spans.append((len(text), len(text)))
        start = 0
        for end, after in spans:
            while end - start > limit_bytes:
                cut_end, cut_after = _cut_point(text, start, end, limit_bytes)
                yield text[start:cut_end], line
                line += text.count(b"\n", start, cut_after)
                start = cut_after
            yield text[start:end], line
            line += text.count(b"\n", start, after)
            start = after
        # Only as much is kept as is needed to cut in the same places as if all of the text were here.
        while len(text) - start > limit_bytes + _LONGEST_DOCUMENT_BYTES:
            cut_end, cut_after = _cut_point(text, start, len(text), limit_bytes)
            yield text[start:cut_end], line
            line += text.count(b"\n", start, cut_after)
            start = cut_after
        rest = text[start:]


def _cut_point(text: bytes, start: int, end: int, limit_bytes: int) -> tuple[int, int]:
    """Where a piece that begins at `start` ends and the next begins: after the last whole line within the limit.

    A longer line stays whole; one beyond all measure is cut at a space, or between two characters.
    """
    last = text.rfind(b"\n", start, start + limit_bytes + 1)
    if last >= 0:
        return last, last + 1
    last = text.find(b"\n", start + limit_bytes, end)
    last = end if last < 0 else last
    longest_bytes = max(limit_bytes, _LONGEST_DOCUMENT_BYTES)
    if last - start <= longest_bytes:
        return last, min(last + 1, end)
    last = text.rfind(b" ", start + 1, start + longest_bytes)
    if last >= 0:
        return last, last + 1
    last = start + longest_bytes
    while text[last] & 0xC0 == 0x80 and last > start + 1:  # inside a character of several bytes
        last -= 1
    return last, last


def _records(blocks: Iterator[bytes], text_key: str, name: str) -> Iterator[tuple[str, int]]:
    rest, line = b"", 0
    for block in itertools.chain(blocks, (None,)):
        *lines, rest = (rest + (b"\n" if block is None else block)).split(b"\n")
        if len(rest) > _LONGEST_RECORD_BYTES:
            raise _bad_record(name, line + 1, "is longer than 64 MiB", "cut the record into several")
        for raw in lines:
            line += 1
            if raw and not raw.isspace():
                text = _record_text(_decoded(raw, name, line), text_key, name, line)
                if text:
                    yield text, line


def _record_text(record_json: str, text_key: str, name: str, line: int) -> str:
    try:
        record = json.loads(record_json)
    except (ValueError, RecursionError) as error:
        raise _bad_record(name, line, f"is not valid JSON ({error})", "write one JSON object a line") from None
    if not isinstance(record, dict):
        raise _bad_record(name, line, "is no JSON object", 'write one object a line, as in {"text": "..."}')
    text = record.get(text_key)
    if not isinstance(text, str):
        problem = "is no text" if text_key in record else "is not there"
        keys = ", ".join(map(str, record)) or "none"
        raise _bad_record(name, line, f"lacks text: the key '{text_key}' {problem}", f"set text-key to one of: {keys}")
    if "\0" in text or not is_encodable(text):
        raise _bad_record(name, line, "holds characters that are no text (NUL or a lone surrogate)", "remove them")
    return text.replace("\r\n", "\n").replace("\r", "\n").strip("\n").rstrip()


def is_encodable(text: str) -> bool:
    """Whether UTF-8 can hold it: halves of surrogate pairs are no characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bad_record(name: str, line: int, problem: str, cure: str) -> FirstwordsError:
    return FirstwordsError(f"line {line} of {name} {problem}", where=f"{name}:{line}", do=cure)


def _texts(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The opened texts in a file, each with the name it goes by in places: itself, or the members of a zip file."""
    if path.suffix.lower() != ".zip":
        with _reading(path.name):
            file = path.open("rb")
        with file:
            yield path.name, _unpacked(file, path.name)
        return
    with _reading(path.name):
        archive = zipfile.ZipFile(path)
    with archive:
        members = sorted(name for name in archive.namelist() if _is_text_member(name))
        if not members:
            raise FirstwordsError(
                f"{path.name} holds no text",
                where=str(path),
                do=f"put files into it that end in {', '.join(TEXT_SUFFIXES)}",
            )
        for member in members:
            name = f"{path.name}/{member}"
            with _reading(name):
                stream = archive.open(member)
            with stream:
                yield name, _unpacked(stream, name)


def _unpacked(stream: IO[bytes], name: str) -> IO[bytes]:
    return gzip.GzipFile(fileobj=stream) if name.lower().endswith(".gz") else stream  # type: ignore[return-value]


def _is_text_member(name: str) -> bool:
    folder, _, last = name.rpartition("/")
    return is_text_name(last) and not any(part.startswith((".", "__MACOSX")) for part in folder.split("/") if part)


def _is_jsonl(name: str) -> bool:
    return name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson"))


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turn what cannot be read or unpacked into the user's error."""
    try:
        yield
    except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise FirstwordsError(
            f"{name} cannot be unpacked: {error}", where=name, do="the archive is broken or encrypted: get it anew"
        ) from None
    except OSError as error:
        raise FirstwordsError(
            f"{name} cannot be read: {error.strerror or error}", where=name, do="check the file and its permissions"
        ) from None


def _text_blocks(stream: IO[bytes], name: str) -> Iterator[bytes]:
    """The stream in pieces. Raises FirstwordsError where they cannot be text."""
    seen_bytes = 0
    while True:
        with _reading(name):
            block = stream.read(_PIECE_BYTES)
        if not block:
            return
        if b"\0" in block:
            wide = seen_bytes == 0 and block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            raise FirstwordsError(
                f"{name} is {'text in UTF-16' if wide else 'a binary file'}, not UTF-8 text",
                where=f"{name}, byte {seen_bytes + block.index(0) + 1}",
                do="save it as UTF-8" if wide else "give the text itself (.txt, .jsonl, or these as .gz or .zip)",
            )
        seen_bytes += len(block)
        yield block


def _unix_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same text with every line end as "\\n" and without a byte order mark."""
    held = b""
    for number, block in enumerate(blocks):
        text = held + (block.removeprefix(codecs.BOM_UTF8) if number == 0 else block)
        # A "\r" at the very end may be the first half of a "\r\n".
        held = b"\r" if text.endswith(b"\r") else b""
        text = text.removesuffix(b"\r")
        yield text.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in text else text
    if held:
        yield b"\n"


def _decoded(raw: bytes, name: str, line: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise _invalid_utf8(error, name, line) from None


def _invalid_utf8(error: UnicodeDecodeError, name: str, first_line: int) -> FirstwordsError:
    line = first_line + error.object.count(b"\n", 0, error.start)
    return FirstwordsError(
        f"{name} is not valid UTF-8: byte 0x{error.object[error.start]:02x} in line {line}",
        where=f"{name}:{line}",
        do="save it as UTF-8, as with  iconv -f WINDOWS-1252 -t UTF-8",
    )
