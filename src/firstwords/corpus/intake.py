"""A source's documents on their way into the corpus: read, cleaned, counted, told from duplicates, spooled, ordered."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from firstwords.corpus.cleaning import Drop, WithoutLines, find_rules
from firstwords.corpus.corpus_files import DocumentSpool, DropLog, SeenTexts
from firstwords.corpus.sources import Document, ResolvedSource, read_documents

SEPARATOR = b"\n\n"
"""Follows every document in train.txt and dev.txt, and counts as bytes of the budget."""
_FRUITLESS_DOCUMENTS = 10_000
"""A source without end is given up after so many documents in a row that were duplicates or dropped."""
_TOO_LARGE_DOCUMENTS = 1_000
"""And after so many in a row that are larger than what is wanted."""


@dataclass(slots=True)
class Tally:
    """How much text: documents, bytes of UTF-8 (separators aside), whitespace-separated words."""

    documents: int = 0
    bytes: int = 0
    words: int = 0

    def add(self, size_bytes: int, words: int, documents: int = 1) -> None:
        """So much more."""
        self.documents += documents
        self.bytes += size_bytes
        self.words += words


class SourceIntake:
    """Cleaned, unique documents of one source, one after the other in the order in which they may be taken.

    order "shuffled" reads the whole source and sorts it by a digest of text and seed, so that neither the order of
    files nor what else a file holds decides; "source" reads no further than is asked for, as is always done with a
    source that has no end. It is a `Supply` for `take_in_turn`.
    """

    def __init__(
        self,
        source: ResolvedSource,
        *,
        seed: int,
        order: Literal["shuffled", "source"],
        unit: Literal["bytes", "words"],
        share: float,
        seen: SeenTexts,
        log: DropLog,
        folder: Path,
    ) -> None:
        self.name = source.name
        self.weight = source.settings.weight
        self.spool = DocumentSpool(folder)
        self.raw = Tally()
        self.read_to_end = False
        self._source = source
        self._rules = find_rules(source.settings.rules, source.name)
        self._lost = {name: Tally() for name in self._rules}  # what each rule took away
        self._seed = seed
        self._in_bytes = unit == "bytes"
        self._share = share
        self._seen = seen
        self._log = log
        self._numbers = self._shuffled() if order == "shuffled" and source.files else self._read()
        self._next: int | None = None
        self._set_aside: list[int] = []

    def next_size(self, largest: float) -> int | None:
        """Size of the next document no larger than `largest`, in the budget's unit; larger ones are set aside."""
        too_large = 0
        # The grammar has no end, and may have no document that is small enough.
        while self._source.files or too_large < _TOO_LARGE_DOCUMENTS:
            if self._next is None:
                self._next = next(self._numbers, None)
            if self._next is None:
                return None
            size = self._size(self._next)
            if size <= largest:
                return size
            self._set_aside.append(self._next)
            self._next = None
            too_large += 1
        return None

    def take(self) -> int:
        """Take the document whose size was given; its number in the spool."""
        assert self._next is not None
        number, self._next = self._next, None
        return number

    def return_set_aside(self) -> None:
        """Documents too large for the last budget come first again."""
        waiting = self._set_aside if self._next is None else [*self._set_aside, self._next]
        self._numbers = chain(waiting, self._numbers)
        self._set_aside, self._next = [], None

    def counts(self) -> dict[str, Any]:
        """For corpus.json: what was read, and what each rule left."""
        left = Tally(**asdict(self.raw))
        after_rules = {}
        for name, lost in self._lost.items():
            left.add(-lost.bytes, -lost.words, documents=-lost.documents)
            after_rules[name] = asdict(left)
        return {"read_to_end": self.read_to_end, "read": asdict(self.raw), "after_rules": after_rules}

    def _size(self, number: int) -> int:
        return self.spool.sizes_bytes[number] + len(SEPARATOR) if self._in_bytes else self.spool.words[number]

    def _shuffled(self) -> Iterator[int]:
        for _ in self._read():
            pass
        # Digests are keyed by the seed: their order is as good as random, and the same wherever the texts stood.
        yield from map(int, np.argsort(np.frombuffer(self.spool.digests, dtype=np.uint64), kind="stable"))

    def _read(self) -> Iterator[int]:
        key = self._seed.to_bytes(8, "little")
        fruitless = 0
        for document in read_documents(self._source, self._seed):
            fruitless += 1
            cleaned = self._cleaned(document)
            if cleaned is not None:
                text, words = cleaned
                digest = int.from_bytes(hashlib.blake2b(text, digest_size=8, key=key).digest(), "little")
                size = len(text) + len(SEPARATOR) if self._in_bytes else words
                if not self._seen.is_new(digest):
                    self._drop(document, None, "duplicate of an earlier document", document.text)
                elif size > self._share:
                    self._drop(document, None, "larger than the share of its source", document.text)
                else:
                    fruitless = 0
                    yield self.spool.append(text, words, digest)
            if fruitless >= _FRUITLESS_DOCUMENTS and not self._source.files:
                break
        self.read_to_end = True

    def _cleaned(self, document: Document) -> tuple[bytes, int] | None:
        """The document's UTF-8 and its words after all rules, None if it is dropped."""
        text = document.text
        size_bytes, words = _size_bytes(text), len(text.split())
        self.raw.add(size_bytes, words)
        for name, rule in self._rules.items():
            result = rule(text)
            if result is text:
                continue
            if isinstance(result, Drop):
                self._lost[name].add(size_bytes, words)
                self._drop(document, name, result.reason, text)
                return None
            if isinstance(result, WithoutLines):
                for line in result.lines:
                    self._log.add("lines", self.name, document.place, name, result.reason, line)
                result = result.text
            text = result
            before_bytes, before_words = size_bytes, words
            size_bytes, words = _size_bytes(text), len(text.split())
            self._lost[name].add(before_bytes - size_bytes, before_words - words, documents=0)
        if not words:
            self._drop(document, None, "nothing is left of it" if document.text.strip() else "empty", document.text)
            return None
        return text.encode(), words

    def _drop(self, document: Document, rule: str | None, reason: str, text: str) -> None:
        self._log.add("documents", self.name, document.place, rule, reason, text)


def _size_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
