"""Test sets of minimal pairs: BLiMP and its kin, the built-in grammar's, and a user's own."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from firstwords.errors import FirstwordsError, did_you_mean
from firstwords.evaluation import pair_files
from firstwords.evaluation.pair_files import Row

GRAMMAR_PAIRS_PER_PARADIGM = 200

_PHENOMENON_OF_TERM = {"s-selection": "argument_structure"}
_FIELD_OF = {"syntax/semantics": "syntax_semantics"}
"""BLiMP's data has 13 terms and two spellings of a field; its paper has 12 phenomena and 4 fields."""


@dataclass(frozen=True, slots=True)
class MinimalPair:
    """Two sentences that differ in as little as makes one of them ungrammatical.

    good_given, bad_given: how many characters at the beginning of each are read and not scored (a prompt).
    groups: names and values of a user's grouping columns.
    """

    uid: str
    """The paradigm."""
    pair_id: str
    """Names the pair within its paradigm."""
    good: str
    bad: str
    phenomenon: str
    field: str
    good_given: int = 0
    bad_given: int = 0
    groups: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Suite:
    """A test set and where it is from. `make_suite` fills in the checksum.

    sha256: of the pairs themselves, so that it is the same for the same pairs, in whatever files they were.
    notes: what a reader of a result on it must know. labels: checksum of how the pairs of one's own files are grouped.
    """

    name: str
    pairs: tuple[MinimalPair, ...]
    origin: str
    sha256: str
    license: str | None
    notes: tuple[str, ...] = ()
    labels: str = ""

    @property
    def identity(self) -> str:
        """Checksum of all that a result depends on: the pairs, and how they are grouped."""
        return f"{self.sha256}:{self.labels}" if self.labels else self.sha256

    def sentences(self) -> Iterator[str]:
        """Both sentences of each pair, in order."""
        return (sentence for pair in self.pairs for sentence in (pair.good, pair.bad))


@dataclass(frozen=True, slots=True)
class PairColumns:
    """What a file of pairs calls its columns (or the keys of its JSON lines).

    by: grouping columns; the first of them names the paradigm. pair_id: of the names of pairs within a paradigm; where
    not given it is pairID or pair_id; where a file has neither, JSON is numbered by lines and a table by rows, from 0.
    """

    good: str = "sentence_good"
    bad: str = "sentence_bad"
    by: tuple[str, ...] = ()
    pair_id: str | None = None


BLIMP_COLUMNS = PairColumns()


def make_suite(
    name: str, pairs: Iterable[MinimalPair], origin: str, license: str | None, notes: Sequence[str] = ()
) -> Suite:
    """A suite with the checksum of its pairs."""
    pairs = tuple(pairs)
    digest = hashlib.sha256()
    for pair in pairs:
        given = [pair.good_given, pair.bad_given] if pair.good_given or pair.bad_given else []
        digest.update(json.dumps([pair.uid, pair.pair_id, pair.good, pair.bad, *given]).encode())
    return Suite(name, pairs, origin, digest.hexdigest(), license, tuple(notes))


def load_suite(
    name: str,
    data_folders: Sequence[Path],
    cache: Path,
    offline: bool = False,
    say: Callable[[str], None] | None = None,
    *,
    good: str = BLIMP_COLUMNS.good,
    bad: str = BLIMP_COLUMNS.bad,
    by: Sequence[str] = (),
    pair_id: str | None = None,
) -> Suite:
    """A suite by name, or from the path of a .jsonl, .csv or .tsv file, or of a folder of such files.

    data_folders: where named test sets are looked for, before those that can be had are downloaded into `cache`.
    good, bad, by, pair_id: of files of one's own; see PairColumns.
    Raises FirstwordsError for an unknown name, a missing paradigm file, and a line that is no pair (with its number).
    """
    from firstwords.evaluation.tasks import find_task, task_names
    from firstwords.evaluation.tasks.task import Lookup, PairsTask

    if name in task_names():
        task = find_task(name)
        if not isinstance(task, PairsTask):
            raise FirstwordsError(
                f"the test set '{name}' is none of minimal pairs: {task.measures}",
                where=", ".join(pair_task_names()),
                do=f"take it with `firstwords evaluate MODEL --suite {name}`, or name one of these",
            )
        return task.load(Lookup(data_folders, cache, offline, say))
    path = Path(name)
    if path.exists():
        return own_suite(path, PairColumns(good, bad, tuple(by), pair_id))
    named = path.suffix.lower() in pair_files.ENDINGS or len(path.parts) > 1
    raise FirstwordsError(
        f"there is no file or folder '{name}'" if named else f"there is no test set '{name}'",
        where=str(path.absolute()) if named else "test sets: " + ", ".join(pair_task_names()),
        do=did_you_mean(name, pair_task_names())
        or "name a test set, or the path of a .jsonl, .csv or .tsv file of minimal pairs, or of a folder of such files",
    )


def pair_task_names() -> list[str]:
    """Names of the test sets of minimal pairs."""
    from firstwords.evaluation.tasks import find_task, task_names
    from firstwords.evaluation.tasks.task import PairsTask

    return [name for name in task_names() if isinstance(find_task(name), PairsTask)]


def own_suite(path: Path, columns: PairColumns = BLIMP_COLUMNS) -> Suite:
    """A user's own pairs, from a file or all such files of a folder. Its name is that of the file or folder.

    Names of test sets that firstwords knows are not taken: such a suite's name ends in digits of its checksum.
    """
    from firstwords.evaluation.tasks import task_names

    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in pair_files.ENDINGS)
        if not files:
            raise FirstwordsError(
                "the folder has no .jsonl file, nor one of .csv or .tsv",
                where=str(path.absolute()),
                do="give one that has minimal pairs",
            )
        name = path.resolve().name
    else:
        files, name = [path], path.stem
    # The name becomes that of a file, and dots stand between its parts.
    name = re.sub(r"[^\w-]+", "-", name).strip("-") or "pairs"
    suite = make_suite(name, _told_apart(list(read_pairs(files, columns))), str(path), None)
    labels = [[pair.phenomenon, pair.field, pair.groups] for pair in suite.pairs]
    suite = replace(suite, labels=hashlib.sha256(json.dumps(labels).encode()).hexdigest())
    taken = {*task_names(), *([name] if _NAME_OF_A_CHECKPOINT.fullmatch(name) else [])}
    return unshared_name(suite, dict.fromkeys(taken, ""))


_NAME_OF_A_CHECKPOINT = re.compile(r"words-\d+M?|best|last|ema|untrained")
"""Results of such checkpoints begin with their names."""


def _told_apart(pairs: Sequence[MinimalPair]) -> Iterator[MinimalPair]:
    """The pairs; a paradigm of several phenomena or fields is a phenomenon of its own, rather than of one of them."""
    terms: dict[str, set[tuple[str, str]]] = {}
    for pair in pairs:
        terms.setdefault(pair.uid, set()).add((pair.phenomenon, pair.field))
    for pair in pairs:
        yield pair if len(terms[pair.uid]) == 1 else replace(pair, phenomenon=pair.uid, field="all")


def unshared_name(suite: Suite, taken: Mapping[str, str]) -> Suite:
    """A suite under a name that no other pairs have: its own, or that with eight digits of its checksum.

    taken: names that are in use, with the checksum of the pairs that have it. The same pairs keep their name.
    """
    if taken.get(suite.name, suite.sha256) == suite.sha256:
        return suite
    return replace(suite, name=f"{suite.name}-{suite.sha256[:8]}")


def grammar_suite(seed: int = 1) -> Suite:
    """Pairs of the built-in grammar.

    They are of combinations of words that no text of it has, whatever its seed. So all models are asked the same pairs,
    and can be compared.
    """
    from firstwords.corpus.grammar import ARTIFICIAL_NOTICE, minimal_pairs

    made: dict[str, int] = {}
    pairs = []
    for pair in minimal_pairs(seed, GRAMMAR_PAIRS_PER_PARADIGM):
        number = made[pair.uid] = made.get(pair.uid, -1) + 1
        pairs.append(MinimalPair(pair.uid, str(number), pair.good, pair.bad, pair.phenomenon, "grammar"))
    return make_suite("grammar", pairs, f"the built-in grammar, seed {seed}", None, [ARTIFICIAL_NOTICE])


def catalogue_suite(
    name: str, data_folders: Sequence[Path], cache: Path, offline: bool, say: Callable[[str], None] | None
) -> Suite:
    """A suite of the catalogue: found under --data, else downloaded."""
    from firstwords.data.catalogue import fetch_suite, suite
    from firstwords.run_folder import sha256_of

    entry = suite(name)
    folder = fetch_suite(name, data_folders, cache, offline, say)
    stems = sorted(entry.sha256 or entry.pair_ids)
    files = dict(zip(stems, complete_files(name, folder, stems), strict=True))
    changed = [paradigm for paradigm, sha256 in entry.sha256.items() if sha256_of(files[paradigm]) != sha256]
    notes = [f"{len(changed)} files are not as published: {', '.join(changed)}"] if changed else []
    return make_suite(name, read_pairs(files.values()), str(folder), entry.license, notes)


def complete_files(name: str, folder: Path, stems: Sequence[str], ending: str = ".jsonl") -> list[Path]:
    """The files of a test set's paradigms, in the order of `stems`. Raises FirstwordsError that names the missing."""
    files = [folder / f"{stem}{ending}" for stem in stems]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        listed = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise FirstwordsError(
            f"{name} lacks {len(missing)} of its {len(files)} paradigms: {listed}",
            where=str(folder),
            do="complete that folder, or leave it out of --data",
        )
    return files


def read_pairs(files: Iterable[Path], columns: PairColumns = BLIMP_COLUMNS) -> Iterator[MinimalPair]:
    """Pairs of files, each pair of a paradigm under an id of its own."""
    first_at: dict[tuple[str, str], str] = {}
    for path in files:
        empty = True
        table = path.suffix.lower() in pair_files.TABLE_ENDINGS
        for number, row in enumerate(pair_files.rows(path)):
            if empty and table:
                _check_columns(row, path, columns)
            pair = _pair(row, path.stem, number if table else row.number - 1, columns)
            earlier = first_at.setdefault((pair.uid, pair.pair_id), row.place)
            if earlier != row.place:
                raise _malformed(f"the pair {pair.pair_id} of {pair.uid} was there before, at {earlier}", row.place)
            empty = False
            yield pair
        if empty:
            blank = not pair_files.read_text(path).strip()
            what = "the file of minimal pairs is empty" if blank else "the file has a header and no pairs"
            raise FirstwordsError(what, where=str(path), do="replace it")


def _check_columns(row: Row, path: Path, columns: PairColumns) -> None:
    asked = {"--good": columns.good, "--bad": columns.bad} | {f"--by {name}": name for name in columns.by}
    if columns.pair_id is not None:
        asked["--pair-id"] = columns.pair_id
    for option, name in asked.items():
        if name not in row.values:
            raise FirstwordsError(
                f"the file has no column '{name}'; it has: {', '.join(row.values)}",
                where=f"{path}:1",
                do=did_you_mean(name, row.values) or f"name the column with {option.split()[0]}",
            )


def _pair(row: Row, stem: str, number: int, columns: PairColumns) -> MinimalPair:
    values = row.values
    for key in (columns.good, columns.bad):
        if not isinstance(values.get(key), str) or not values[key].strip():
            raise _malformed(f"the line has no sentence under '{key}'", row.place)
    groups = tuple((column, _cell(row, column) or "(none)") for column in columns.by)
    uid = _cell(row, columns.by[0]) if columns.by else _or_default(values.get("UID"), stem)
    if not uid:
        raise _malformed(f"the line has nothing under '{columns.by[0]}', which names its paradigm", row.place)
    numbered = _or_default(values.get("pairID"), _or_default(values.get("pair_id"), number))
    term, field = _or_default(values.get("linguistics_term"), uid), _or_default(values.get("field"), "all")
    return MinimalPair(
        uid=uid,
        pair_id=str(numbered if columns.pair_id is None else _cell(row, columns.pair_id)),
        good=values[columns.good],
        bad=values[columns.bad],
        phenomenon=_PHENOMENON_OF_TERM.get(term, term),
        field=_FIELD_OF.get(field, field),
        groups=groups,
    )


def _or_default(value: object, default: object) -> str:
    """What a cell says; of an empty one, as spreadsheets and data frames write it, the default."""
    return str(default if value is None or value == "" else value)


def _cell(row: Row, column: str) -> str:
    if column not in row.values:
        near = did_you_mean(column, row.values)
        raise FirstwordsError(
            f"the line has nothing under '{column}'",
            where=row.place,
            do=near or f"it has: {', '.join(row.values)}",
        )
    value = row.values[column]
    return "" if value is None else str(value).strip()


def _malformed(what: str, place: str) -> FirstwordsError:
    return FirstwordsError(what, where=place, do="correct that line: a good and a bad sentence, and an id of its own")
