"""From a text to a memory-mapped file of token ids with the places where examples begin.

A token file is `<name>.bin` (ids, the smallest integer type that fits), `<name>.offsets.npy` (int64, one more than
there are examples: example i is ids[offsets[i]:offsets[i + 1]]) and `<name>.json` (counts and checksums).
An example is a document, or a line (or piece of one) where tokens.examples = "lines".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from firstwords.errors import FirstwordsError
from firstwords.run_folder import atomic_write_json, sha256_of
from firstwords.settings import TokenSettings
from firstwords.tokens.tokenizer import Vocabulary, batched, read_lines

_TEXTS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """Counts of a token file, kept beside it as JSON."""

    dtype: str
    tokens: int
    examples: int
    longest_example: int
    words: int
    text_bytes: int
    sha256: str


class TokenFile:
    """A text as token ids, memory-mapped; `examples` are its documents or lines."""

    def __init__(self, folder: Path, name: str) -> None:
        """Open `<folder>/<name>.bin`. Raises FirstwordsError where files are missing or cut short."""
        path = folder / f"{name}.bin"
        try:
            self.facts = TokenFacts(**json.loads((folder / f"{name}.json").read_text()))
            self.offsets = np.load(folder / f"{name}.offsets.npy", mmap_mode="r")
            size = path.stat().st_size
        except (OSError, ValueError, TypeError) as error:
            raise _damaged(path, str(error)) from None
        expected = self.facts.tokens * np.dtype(self.facts.dtype).itemsize
        if size != expected or len(self.offsets) != self.facts.examples + 1:
            raise _damaged(path, f"it has {size:,} bytes and should have {expected:,}")
        self.path = path
        self.ids = np.memmap(path, self.facts.dtype, mode="r") if size else np.zeros(0, self.facts.dtype)

    def verify(self) -> None:
        """Compare the file with its checksum. Raises FirstwordsError where they differ."""
        if sha256_of(self.path) != self.facts.sha256:
            raise _damaged(self.path, "its bytes do not match their checksum")

    def example(self, index: int) -> np.ndarray:
        """Token ids of one example."""
        return self.ids[self.offsets[index] : self.offsets[index + 1]]


def _damaged(path: Path, why: str) -> FirstwordsError:
    return FirstwordsError(
        f"the token file cannot be used: {why}",
        where=str(path),
        do=f"delete the folder {path.parent} and run again: it is made anew from the corpus",
    )


def encode_corpus(corpus: Path, settings: TokenSettings, vocabulary: Vocabulary, folder: Path) -> dict[str, TokenFacts]:
    """Encode `train.txt` and `dev.txt` of a corpus folder into token files `train` and `dev` in `folder`."""
    facts = {}
    for name in ("train", "dev"):
        text_file = corpus / f"{name}.txt"
        if settings.examples == "lines":
            examples = _line_examples(text_file, settings, vocabulary)
        else:
            examples = _document_examples(text_file, corpus / f"{name}.index.npy", settings, vocabulary)
        words = sum(len(line.split()) for line in read_lines(text_file))
        facts[name] = _write(examples, vocabulary.size, words, text_file.stat().st_size, folder, name)
    return facts


def _line_examples(text_file: Path, settings: TokenSettings, vocabulary: Vocabulary) -> Iterator[list[int]]:
    """One line, one example, cut into pieces of at most `context` tokens.

    A blank line is an empty example: the loader that made the cards counted it, so it takes a place in a batch.
    """
    for lines in batched(read_lines(text_file), _TEXTS_AT_ONCE):
        for ids in vocabulary.encode(lines):
            marked = _with_marks(ids, settings, vocabulary) if ids else ids
            for start in range(0, max(len(marked), 1), settings.context):
                yield marked[start : start + settings.context]


def _document_examples(
    text_file: Path, index_file: Path, settings: TokenSettings, vocabulary: Vocabulary
) -> Iterator[list[int]]:
    index = np.load(index_file, mmap_mode="r")
    with text_file.open("rb") as file:

        def texts() -> Iterator[str]:
            for start, end, _source in index:
                file.seek(start)
                yield file.read(end - start).decode("utf-8", errors="replace")

        for batch in batched(texts(), _TEXTS_AT_ONCE):
            for ids in vocabulary.encode(batch):
                yield _with_marks(ids, settings, vocabulary)


def _with_marks(ids: list[int], settings: TokenSettings, vocabulary: Vocabulary) -> list[int]:
    before = [vocabulary.bos_id] if settings.add_bos else []
    after = [vocabulary.eos_id] if settings.add_eos else []
    return before + ids + after


def _write(
    examples: Iterator[list[int]], vocabulary_size: int, words: int, text_bytes: int, folder: Path, name: str
) -> TokenFacts:
    dtype = np.uint16 if vocabulary_size <= 2**16 else np.uint32
    offsets = [0]
    longest = 0
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.bin"
    with path.open("wb") as file:
        for batch in batched(examples, _TEXTS_AT_ONCE):
            for ids in batch:
                offsets.append(offsets[-1] + len(ids))
                longest = max(longest, len(ids))
            file.write(np.fromiter((i for ids in batch for i in ids), dtype).tobytes())
    np.save(folder / f"{name}.offsets.npy", np.asarray(offsets, dtype=np.int64))
    facts = TokenFacts(np.dtype(dtype).name, offsets[-1], len(offsets) - 1, longest, words, text_bytes, sha256_of(path))
    if not facts.tokens:
        raise FirstwordsError(f"the {name} text gives no tokens", where=name, do="give a text that is not empty")
    atomic_write_json(folder / f"{name}.json", asdict(facts))
    return facts
