"""A model on its test sets: every result that is not there yet, each model loaded once, each sentence scored once.

Serves the pipeline's evaluation stage and `firstwords evaluate` alike.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from firstwords.errors import FirstwordsError, did_you_mean
from firstwords.evaluation.subject import TooLong
from firstwords.evaluation.tasks.task import Lookup, NotFound, PairsTask, Task, TaskData
from firstwords.reporter import Reporter
from firstwords.run_folder import RunFolder, atomic_write_json, fingerprint_of, read_json, words_of

if TYPE_CHECKING:
    from firstwords.evaluation.ngrams import IndexedText
    from firstwords.evaluation.pairs import Suite
    from firstwords.evaluation.subject import Subject


AGES = "age-of-acquisition"


@dataclass(frozen=True, slots=True)
class Asked:
    """One test set under one protocol; and the collection that it was named by, if it was."""

    test: str
    protocol: str
    collection: str | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.test}.{self.protocol}"

    @classmethod
    def parse(cls, named: str) -> Asked:
        """`blimp.firstwords` -> blimp under firstwords."""
        test, dot, protocol = named.rpartition(".")
        if not dot:
            raise FirstwordsError(
                f"'{named}' names no protocol", where="evaluation.suites", do=f"write it as '{named}.firstwords'"
            )
        return cls(test, protocol)


@dataclass(frozen=True, slots=True)
class TestSets:
    """The test sets of one call, each read once. columns: of files of one's own; see `pairs.load_suite`."""

    lookup: Lookup
    columns: Mapping[str, Any] = field(default_factory=dict)
    _pairs: dict[str, Suite] = field(default_factory=dict)
    _tasks: dict[str, tuple[Task, TaskData]] = field(default_factory=dict)

    def pairs(self, name: str) -> Suite | None:
        """A test set of minimal pairs; None where the name is of a task of another kind."""
        self.read(name)
        return self._pairs.get(name)

    def task(self, name: str) -> tuple[Task, TaskData]:
        """A task that is no minimal pairs, and its items."""
        self.read(name)
        return self._tasks[name]

    def read(self, name: str) -> None:
        """Read a test set, if it has not been. Raises NotFound where its files are nowhere."""
        if name in self._pairs or name in self._tasks:
            return
        from firstwords.evaluation.pairs import load_suite, unshared_name
        from firstwords.evaluation.tasks import find_task, task_names

        task = find_task(name) if name in task_names() else None
        if task is not None and not isinstance(task, PairsTask):
            self._tasks[name] = task, task.load(self.lookup)
            return
        where = self.lookup
        suite = load_suite(name, where.folders, where.cache, offline=where.offline, say=where.say, **self.columns)
        taken = {other.name: other.sha256 for other in self._pairs.values()}
        self._pairs[name] = unshared_name(suite, taken)

    def stamp(self, asked: Asked) -> list[Any] | None:
        """Names, sizes and times of the files of a test set of the catalogue, found or downloaded; None for others."""
        from firstwords.data.catalogue import fetch_suite, suites

        if asked.test not in suites():
            return None
        where = self.lookup
        folder = fetch_suite(asked.test, where.folders, where.cache, where.offline, where.say)
        files = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
        return [str(folder.resolve()), [[name, of.st_size, of.st_mtime_ns] for name, of in files]]

    def check(self, asked: Asked) -> None:
        """Read what is asked for and refuse a protocol that does not fit it."""
        from firstwords.evaluation.protocols import find_protocol

        if self.pairs(asked.test) is not None:
            find_protocol(asked.protocol)
            return
        task, _ = self.task(asked.test)
        if asked.protocol not in task.protocols:
            raise FirstwordsError(
                f"the task '{task.name}' has no protocol '{asked.protocol}'",
                where="protocols: " + ", ".join(task.protocols),
                do=did_you_mean(asked.protocol, task.protocols) or "name one of them",
            )

    def result_name(self, asked: Asked) -> str:
        """`<suite>.<protocol>`, as results are called."""
        suite = self.pairs(asked.test)
        return f"{suite.name if suite else asked.test}.{asked.protocol}"

    def sha256(self, name: str) -> str:
        """Checksum of the test set, so that a result is not taken for one of other items."""
        suite = self.pairs(name)
        return suite.identity if suite else self.task(name)[1].sha256


def expand(
    names: Iterable[str], protocols: Sequence[str], tests: TestSets, *, masked: bool, fast: bool = False
) -> list[Asked]:
    """What is asked for by names of test sets, of results such as `blimp.card`, and of collections.

    protocols: for every test set whose name has none; where none is given, each takes its default.
    fast: take the smaller sets that a collection has for the checkpoints of a learning curve. A collection leaves out,
    and says so, what is nowhere under --data; a test set that is named itself must be there.
    """
    from firstwords.evaluation.tasks import collection_names, find_collection

    found: list[Asked] = []
    for name in names:
        collected = name in collection_names()
        members = find_collection(name).members(fast=fast, masked=masked) if collected else [_named(name)]
        for test, own_protocol in members:
            try:
                tests.read(test)
            except NotFound as error:
                if not collected:
                    raise
                if tests.lookup.say:
                    tests.lookup.say(f"{name} without {test}: {error.what}")
                continue
            given = () if own_protocol and not collected else protocols
            chosen = given or [own_protocol or _default_protocol(tests, test, masked)]
            found += [Asked(test, protocol, name if collected else None) for protocol in chosen]
        if collected and not any(one.collection == name for one in found):
            raise NotFound(
                f"none of the test sets of '{name}' is there",
                where=", ".join(map(str, tests.lookup.folders)) or "--data",
                do="name the folder that holds them with --data",
            )
    for asked in found:
        tests.check(asked)
    return list(dict.fromkeys(found))


def _named(name: str) -> tuple[str, str | None]:
    """Test set and protocol of `blimp.card`; names of test sets and files of one's own, as `blimp.csv`, have none."""
    from firstwords.evaluation.pair_files import ENDINGS
    from firstwords.evaluation.tasks import task_names

    path = Path(name)
    test, _, protocol = name.rpartition(".")
    own = path.exists() or path.suffix.lower() in ENDINGS
    return (test, protocol) if test in task_names() and not own else (name, None)


def _default_protocol(tests: TestSets, test: str, masked: bool) -> str:
    if tests.pairs(test) is not None:
        return "pll" if masked else "firstwords"
    return next(iter(tests.task(test)[0].protocols))


def assess(
    open_model: Callable[[], Subject],
    asked: Sequence[Asked],
    tests: TestSets,
    place: RunFolder,
    *,
    identity: str,
    prefix: str = "",
    training_text: Path | None = None,
    reporter: Reporter,
) -> list[str]:
    """Measure a model on everything that is asked and has no result yet; returns the names of all the results.

    open_model: called once, and only if something is to be measured. place: the run (or the folder of an outside model)
    that keeps the results. identity: what the model is, so that results of other weights are not taken for its own.
    prefix: of the results' names, such as `untrained.` or `words-0001M.`. training_text: of the run, for what
    accuracies must be read with.
    """
    names = {one: prefix + tests.result_name(one) for one in asked}
    fingerprints = {
        one: fingerprint_of("result", one.test, one.protocol, identity, tests.sha256(one.test)) for one in asked
    }
    due = [one for one in asked if not place.has_result(names[one], fingerprints[one])]
    if due:
        place.stage("evaluation").mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=place.stage("evaluation")):
            pass  # what cannot be written is found now, not when all is scored
        subject = open_model()
        for test in dict.fromkeys(one.test for one in due):
            of_test = {one.protocol: (names[one], fingerprints[one]) for one in due if one.test == test}
            try:
                if tests.pairs(test) is None:
                    _measure_task(subject, tests, test, of_test, place, reporter)
                    continue
                found = _judge_pairs(subject, tests, test, of_test, place, reporter)
                if not prefix:
                    reporter.say(f"tokenizer on {test}: {found}")
            except TooLong as error:
                collection = next((one.collection for one in due if one.test == test), None)
                if collection is None:
                    raise
                reporter.say(f"{collection} without {test}: {error.what} ({error.where})")
    if training_text is not None:
        from firstwords.evaluation.ngrams import index_text

        indexed = cache(partial(index_text, training_text))
        for test in dict.fromkeys(one.test for one in asked):
            of_test_names = {one.protocol: names[one] for one in asked if one.test == test}
            write_beside(tests.pairs(test), of_test_names, training_text, indexed, place, overlap=not prefix)
    return [name for one, name in names.items() if place.has_result(name, fingerprints[one])]


def _judge_pairs(
    subject: Subject,
    tests: TestSets,
    test: str,
    wanted: dict[str, tuple[str, str]],
    place: RunFolder,
    reporter: Reporter,
) -> str:
    """One pass for all protocols of one suite; returns what was found of the tokenizer."""
    from firstwords.evaluation.judging import evaluate_suite, write_evaluation

    suite = tests.pairs(test)
    assert suite is not None
    label = " ".join(name for name, _ in wanted.values())
    found = evaluate_suite(subject, suite, list(wanted), progress=partial(reporter.progress, label))
    for result in found:
        name, fingerprint = wanted[result.protocol.name]
        write_evaluation(result, place.stage("evaluation"), name)
        place.set_done(f"evaluation.{name}", fingerprint, result.seconds, {"overall": result.overall.accuracy})
    return found[0].tokenizer.summary()


def _measure_task(
    subject: Subject,
    tests: TestSets,
    test: str,
    wanted: dict[str, tuple[str, str]],
    place: RunFolder,
    reporter: Reporter,
) -> None:
    from firstwords.evaluation.judging import versions
    from firstwords.evaluation.tasks.task import write_task_result

    task, data = tests.task(test)
    if subject.masked and not task.masked:
        raise FirstwordsError(
            f"the task '{task.name}' is for causal models, and {subject.name} is a masked one",
            where=f"--suite {test}",
            do="leave it out for this model",
        )
    for protocol, (name, fingerprint) in wanted.items():
        started = time.monotonic()
        result = task.evaluate(subject, data, protocol, partial(reporter.progress, name))
        seconds = time.monotonic() - started
        facts = {
            "model": dict(subject.facts),
            "dtype": subject.dtype,
            "device": subject.device,
            "seconds": round(seconds, 3),
            "versions": versions(),
        }
        write_task_result(result, place.stage("evaluation"), name, task=task, protocol=protocol, data=data, facts=facts)
        place.set_done(f"evaluation.{name}", fingerprint, seconds, {"overall": result.overall.value})


def write_beside(
    suite: Suite | None,
    results: Mapping[str, str],
    training_text: Path,
    indexed: Callable[[], IndexedText],
    place: RunFolder,
    *,
    overlap: bool,
) -> None:
    """What a run's accuracies on a suite must be read with, from its training text; kept beside the results.

    `<suite>.<protocol>.floors.json`: what a guess, word frequency and a 5-gram model reach. With `overlap`, for each of
    `results` (their names by protocol) `<suite>.<protocol>.overlap.json`: which sentences stand in the text, and the
    accuracy without them. What is there for the same pairs is not made again, as a run's text never changes. indexed:
    gives the text's index, which takes seconds to make.
    """
    if suite is None or not training_text.is_file():
        return
    folder = place.stage("evaluation")
    floors = {protocol: folder / f"{suite.name}.{protocol}.floors.json" for protocol in results}
    overlaps = {name: folder / f"{name}.overlap.json" for name in results.values()} if overlap else {}
    floors = {protocol: path for protocol, path in floors.items() if not _is_of(path, suite)}
    # Overlaps tell accuracies too, those of the result at their time.
    overlaps = {
        name: path
        for name, path in overlaps.items()
        if not _is_of(path, suite) or _is_older(path, folder / f"{name}.json")
    }
    if not floors and not overlaps:
        return
    from firstwords.evaluation.ngrams import ask

    text = indexed()
    sentences = ask(text, suite.sentences())
    if floors:
        from firstwords.evaluation.floors import floor_scores
        from firstwords.evaluation.protocols import find_protocol

        scores = floor_scores(suite, training_text, text, sentences)
        for protocol, path in floors.items():
            atomic_write_json(path, scores.under(find_protocol(protocol)).to_json())
    if overlaps:
        from firstwords.evaluation.overlap import find_overlap, shares_to_json, with_and_without
        from firstwords.report.judgements import read_result

        found = find_overlap(suite, training_text, text, sentences)
        for name, path in overlaps.items():
            result = read_result(folder / f"{name}.json", place.name)
            shares = with_and_without(result.outcomes, found.touched, result.settings["overall"])
            atomic_write_json(path, found.to_json() | {"accuracy": shares_to_json(shares)})


def _is_older(path: Path, other: Path) -> bool:
    return other.is_file() and path.stat().st_mtime_ns < other.stat().st_mtime_ns


def _is_of(path: Path, suite: Suite) -> bool:
    try:
        return bool(read_json(path)["suite_sha256"] == suite.identity)
    except (OSError, ValueError, KeyError):
        return False


def write_learning_ages(place: RunFolder, tests: TestSets, asked: Sequence[Asked]) -> list[str]:
    """When a run learnt each word, told from all its checkpoints that have surprisals; a line for people each.

    `age-of-acquisition.<protocol>.ages.json`. Nothing where the task is not asked for or checkpoints are too few.
    """
    from firstwords.evaluation.tasks.age_of_acquisition import LEAST_CHECKPOINTS, learning_ages

    told = []
    for one in asked:
        rows: dict[int, list[dict[str, str]]] = {}
        for path in place.stage("evaluation").glob(f"words-*.{AGES}.{one.protocol}.items.csv"):
            with path.open(encoding="utf-8", newline="") as file:
                rows[words_of(path.name.split(".")[0])] = list(csv.DictReader(file))
        if one.test != AGES or len(rows) < LEAST_CHECKPOINTS:
            continue
        found = learning_ages(rows, tests.task(AGES)[1], one.protocol)
        path = place.stage("evaluation") / f"{AGES}.{one.protocol}.ages.json"
        atomic_write_json(path, asdict(found))
        if found.pearson is not None:
            told.append(
                f"{path.stem}: Pearson's r with children {found.pearson.value:.3f}, {found.pearson.items} words"
            )
    return told


def number_of(values: Mapping[str, Any]) -> float:
    """The one number of a result file, of minimal pairs or of another task."""
    overall = values["overall"]
    return float(overall["accuracy"] if "accuracy" in overall else overall["value"])


def shown(values: Mapping[str, Any]) -> str:
    """That number as people read it."""
    number = number_of(values)
    if "metric" in values and values["metric"] != "accuracy":
        return f"{number:.3f} ({values['metric']})"
    return f"{100 * number:.1f}%"
