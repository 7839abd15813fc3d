"""The files of a corpus while it is made: the spool of cleaned documents, the list of dropped ones, the text itself."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from array import array
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

_EXCERPT_CHARACTERS = 200
_WRITE_BUFFER_BYTES = 1 << 20


class DocumentSpool:
    """The cleaned documents of one source: their text in a file that has no name, 32 bytes each in memory.

    `sizes_bytes[i]`, `words[i]` and `digests[i]` (64 bits) belong to document i.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=_WRITE_BUFFER_BYTES)  # noqa: SIM115 (closed in close)
        self._starts = array("Q")
        self._end = 0
        self.sizes_bytes = array("Q")
        self.words = array("Q")
        self.digests = array("Q")

    def __len__(self) -> int:
        return len(self._starts)

    def append(self, text: bytes, words: int, digest: int) -> int:
        """Store a document; gives its number."""
        self._file.write(text)
        self._starts.append(self._end)
        self._end += len(text)
        self.sizes_bytes.append(len(text))
        self.words.append(words)
        self.digests.append(digest)
        return len(self._starts) - 1

    def flush(self) -> None:
        """Must come between the last `append` and the first `text`."""
        self._file.flush()

    def text(self, number: int) -> bytes:
        """The document's UTF-8."""
        return os.pread(self._file.fileno(), self.sizes_bytes[number], self._starts[number])

    def close(self) -> None:
        """The file vanishes."""
        self._file.close()


class SeenTexts:
    """A set of 64-bit digests in 13 to 27 bytes each; Python's own needs more than 80 for millions of documents."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 << 10))
        self._mask = len(self._slots) - 1
        self._count = 0

    def is_new(self, digest: int) -> bool:
        """True the first time that it is asked about `digest`, and from then on False."""
        if self._count * 5 > len(self._slots) * 3:
            self._grow()
        return self._insert(digest or 1)  # 0 marks a free slot

    def _insert(self, digest: int) -> bool:
        slot = digest & self._mask
        while self._slots[slot]:
            if self._slots[slot] == digest:
                return False
            slot = (slot + 1) & self._mask
        self._slots[slot] = digest
        self._count += 1
        return True

    def _grow(self) -> None:
        old = self._slots
        self._slots = array("Q", bytes(16 * len(old)))
        self._mask = len(self._slots) - 1
        self._count = 0
        for digest in old:
            if digest:
                self._insert(digest)


class DropLog:
    """dropped.jsonl: every dropped document and line with source, place, rule, reason and the text's beginning."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def add(self, what: str, source: str, place: str, rule: str | None, reason: str, text: str) -> None:
        """Record one dropped piece; `what` is "documents" or "lines"; a line's place is that of its document."""
        self._counts[source, what, reason] += 1
        record = {
            "what": what.removesuffix("s"),
            "source": source,
            "place": place,
            "rule": rule,
            "reason": reason,
            "text": text[:_EXCERPT_CHARACTERS],
        }
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def counts(self, source: str) -> dict[str, dict[str, int]]:
        """{"documents": {reason: how many}, "lines": {...}} of one source."""
        counts: dict[str, dict[str, int]] = {"documents": {}, "lines": {}}
        for (name, what, reason), count in sorted(self._counts.items()):
            if name == source:
                counts[what][reason] = count
        return counts

    def close(self) -> None:
        """Write what is left in memory."""
        self._file.close()


class TextWriter:
    """train.txt or dev.txt with its index: int64 (documents, 3) of start byte, end byte and source number."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = (folder / f"{name}.txt").open("wb", buffering=_WRITE_BUFFER_BYTES)
        self._index_path = folder / f"{name}.index.npy"
        self._index = array("q")
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            np.save(self._index_path, np.array(self._index, dtype=np.int64).reshape(-1, 3))

    @property
    def documents(self) -> int:
        """How many were written."""
        return len(self._index) // 3

    @property
    def sha256(self) -> str:
        """Of all that was written."""
        return self._hash.hexdigest()

    def add(self, text: bytes, source: int, separator: bytes = b"") -> None:
        """Write one document (or chunk) and what separates it from the next, which is no part of it."""
        self._index.extend((self.size_bytes, self.size_bytes + len(text), source))
        piece = text + separator
        self._file.write(piece)
        self._hash.update(piece)
        self.size_bytes += len(piece)


def count_words(path: Path) -> int:
    """Whitespace-separated words of a text; half a character, where a chunk was cut, counts as a letter."""
    with path.open("rb") as file:
        return sum(len(line.decode("utf-8", "replace").split()) for line in file)
