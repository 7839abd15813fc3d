"""Test sets of minimal pairs: BLiMP and its kin, the built-in grammar's, and a user's own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstwords.errors import FirstwordsError, did_you_mean

SUITES = ("blimp", "blimp-fast", "grammar")
"""Suites that have a name; any other is given as the path of a folder or of a .jsonl file."""

GRAMMAR_PAIRS_PER_PARADIGM = 200

_PHENOMENON_OF_TERM = {"s-selection": "argument_structure"}
_FIELD_OF = {"syntax/semantics": "syntax_semantics"}
"""BLiMP's data has 13 terms and two spellings of a field; its paper has 12 phenomena and 4 fields."""


@dataclass(frozen=True, slots=True)
class MinimalPair:
    """Two sentences that differ in as little as makes one of them ungrammatical."""

    uid: str
    """The paradigm."""
    pair_id: str
    """Names the pair within its paradigm."""
    good: str
    bad: str
    phenomenon: str
    field: str


@dataclass(frozen=True, slots=True)
class Suite:
    """A test set and where it is from.

    sha256: of the pairs themselves, so that it is the same for the same pairs, in whatever files they were.
    notes: what a reader of a result on it must know.
    """

    name: str
    pairs: tuple[MinimalPair, ...]
    origin: str
    sha256: str
    license: str | None
    notes: tuple[str, ...] = ()


def load_suite(
    name: str,
    data_folders: Sequence[Path],
    cache: Path,
    seed: int,
    offline: bool = False,
    say: Callable[[str], None] | None = None,
) -> Suite:
    """A suite by name, or from the path of a folder or a .jsonl file with `sentence_good` and `sentence_bad`.

    data_folders: where `blimp` and `blimp_fast` are looked for before they are downloaded into `cache`.
    seed: of the built-in grammar's pairs.
    Raises FirstwordsError for an unknown name, a missing paradigm file, and a line that is no pair (with its number).
    """
    if name == "grammar":
        return _grammar_suite(seed)
    if name in SUITES:
        return _catalogue_suite(name, data_folders, cache, offline, say)
    path = Path(name)
    if path.is_dir():
        files = sorted(path.glob("*.jsonl"))
        if not files:
            raise FirstwordsError(
                "the folder has no .jsonl file", where=str(path.absolute()), do="give one that has minimal pairs"
            )
        return _suite(path.name, _read_files(files), str(path), None)
    if path.is_file():
        return _suite(path.stem, _read_files([path]), str(path), None)
    raise FirstwordsError(
        f"there is no test set '{name}'",
        where="test sets: " + ", ".join(SUITES),
        do=did_you_mean(name, SUITES) or "name one of them, or the path of a folder or .jsonl file of minimal pairs",
    )


def _suite(name: str, pairs: Iterable[MinimalPair], origin: str, license: str | None, *notes: str) -> Suite:
    pairs = tuple(pairs)
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(json.dumps([pair.uid, pair.pair_id, pair.good, pair.bad]).encode())
    return Suite(name, pairs, origin, digest.hexdigest(), license, notes)


def _grammar_suite(seed: int) -> Suite:
    from firstwords.corpus.grammar import ARTIFICIAL_NOTICE, minimal_pairs

    made: dict[str, int] = {}
    pairs = []
    for pair in minimal_pairs(seed, GRAMMAR_PAIRS_PER_PARADIGM):
        number = made[pair.uid] = made.get(pair.uid, -1) + 1
        pairs.append(MinimalPair(pair.uid, str(number), pair.good, pair.bad, pair.phenomenon, "grammar"))
    return _suite("grammar", pairs, f"the built-in grammar, seed {seed}", None, ARTIFICIAL_NOTICE)


def _catalogue_suite(
    name: str, data_folders: Sequence[Path], cache: Path, offline: bool, say: Callable[[str], None] | None
) -> Suite:
    from firstwords.data.catalogue import fetch_suite, suite
    from firstwords.run_folder import sha256_of

    entry = suite(name)
    folder = fetch_suite(name, data_folders, cache, offline, say)
    files = {paradigm: folder / f"{paradigm}.jsonl" for paradigm in sorted(entry.sha256 or entry.pair_ids)}
    missing = [path.name for path in files.values() if not path.is_file()]
    if missing:
        listed = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise FirstwordsError(
            f"{name} lacks {len(missing)} of its {len(files)} paradigms: {listed}",
            where=str(folder),
            do="complete that folder, or leave it out of --data so that the test set is downloaded",
        )
    changed = [paradigm for paradigm, sha256 in entry.sha256.items() if sha256_of(files[paradigm]) != sha256]
    notes = [f"{len(changed)} files are not as published: {', '.join(changed)}"] if changed else []
    return _suite(name, _read_files(files.values()), str(folder), entry.license, *notes)


def _read_files(files: Iterable[Path]) -> Iterator[MinimalPair]:
    """Pairs of JSONL files, each pair of a paradigm under an id of its own."""
    first_at: dict[tuple[str, str], str] = {}
    for path in files:
        empty = True
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                place = f"{path}:{number}"
                pair = _read_pair(line, path.stem, number, place)
                earlier = first_at.setdefault((pair.uid, pair.pair_id), place)
                if earlier != place:
                    raise _malformed(f"the pair {pair.pair_id} of {pair.uid} was there before, at {earlier}", place)
                empty = False
                yield pair
        if empty:
            raise FirstwordsError("the file of minimal pairs is empty", where=str(path), do="replace it")


def _read_pair(line: bytes, stem: str, number: int, place: str) -> MinimalPair:
    try:
        values: Any = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _malformed(f"the line is no valid UTF-8 (byte {error.start + 1})", place) from None
    except json.JSONDecodeError as error:
        raise _malformed(f"the line is no JSON: {error.msg} at column {error.colno}", place) from None
    if not isinstance(values, dict):
        raise _malformed("the line is no JSON object", place)
    for key in ("sentence_good", "sentence_bad"):
        if not isinstance(values.get(key), str) or not values[key].strip():
            raise _malformed(f"the line has no sentence under '{key}'", place)
    uid = str(values.get("UID", stem))
    term, field = str(values.get("linguistics_term", uid)), str(values.get("field", "all"))
    return MinimalPair(
        uid=uid,
        pair_id=str(values.get("pairID", values.get("pair_id", number - 1))),
        good=values["sentence_good"],
        bad=values["sentence_bad"],
        phenomenon=_PHENOMENON_OF_TERM.get(term, term),
        field=_FIELD_OF.get(field, field),
    )


def _malformed(what: str, place: str) -> FirstwordsError:
    return FirstwordsError(what, where=place, do="correct that line: a JSON object with sentence_good and sentence_bad")
