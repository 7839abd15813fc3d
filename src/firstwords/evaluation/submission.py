"""The prediction file that the BabyLM Challenge takes, made from results on disk, every size checked.

Shape: {task: {part: {"predictions": [{"id": "part_0", "pred": ...}, ...]}}, ..., "fast_eval_results": {task: [one for
each checkpoint: {part: accuracy}]}}. Source: collate_preds.py of github.com/babylm/evaluation-pipeline-2025, and of
strict/ in github.com/babylm-org/babylm-eval for 2026; they say what each year asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from firstwords.errors import FirstwordsError, did_you_mean
from firstwords.evaluation import submission_parts as parts
from firstwords.evaluation.babylm_counts import aoa_count, fast_counts, full_counts
from firstwords.evaluation.submission_parts import StoredResult
from firstwords.evaluation.tasks.task import Lookup, NotFound
from firstwords.run_folder import atomic_write_text

TRACKS: dict[str, tuple[int, ...]] = {
    "strict-small": (*range(1, 10), *range(10, 101, 10)),
    "strict": (*range(1, 10), *range(10, 100, 10), *range(100, 1001, 100)),
}
"""Words seen, in millions, at the checkpoints that a track asks for: 19 and 28 of them."""

YEARS = (2025, 2026)


@dataclass(frozen=True, slots=True)
class Entry:
    """One task of a submission.

    key: in the file. task, fast: names of our tasks for the final model and for checkpoints (None: not asked for).
    form: how results become predictions. protocols: under which they count, the first there is.
    """

    key: str
    task: str
    fast: str | None
    form: Literal["sentences", "completions", "items", "shares", "reading"]
    protocols: tuple[str, ...]


_PAIRS, _TASK, _TASK_2026 = ("babylm-2025", "pll"), ("babylm-2025",), ("babylm-2026",)

ENTRIES: dict[int, tuple[Entry, ...]] = {
    2025: (
        Entry("blimp", "blimp-filtered", "blimp-fast", "sentences", _PAIRS),
        Entry("blimp_supplement", "supplement", "supplement-fast", "sentences", _PAIRS),
        Entry("ewok", "ewok", "ewok-fast", "completions", _PAIRS),
        Entry("entity_tracking", "entity-tracking", "entity-tracking-fast", "items", _TASK),
        Entry("wug_adj", "wug-adj-nominalization", "wug-adj-nominalization", "shares", _TASK),
        Entry("wug_past", "wug-past-tense", "wug-past-tense", "shares", _TASK),
        Entry("comps", "comps", None, "sentences", _PAIRS),
        Entry("reading", "reading-times", "reading-times", "reading", _TASK),
    ),
    2026: (
        Entry("blimp", "blimp-filtered", "blimp-fast", "sentences", _PAIRS),
        Entry("blimp_supplement", "supplement", "supplement-fast", "sentences", _PAIRS),
        Entry("ewok", "ewok-2026", "ewok-2026-fast", "sentences", _PAIRS),
        Entry("entity_tracking_filtered", "entity-tracking", "entity-tracking-fast", "items", _TASK_2026),
        Entry("comps", "comps", None, "sentences", _PAIRS),
        Entry("global_piqa_parallel", "global-piqa-parallel", "global-piqa-parallel", "items", _TASK_2026),
        Entry("global_piqa_nonparallel", "global-piqa-nonparallel", "global-piqa-nonparallel", "items", _TASK_2026),
        Entry("reading", "reading-times", "reading-times", "reading", _TASK),
    ),
}
"""What each year asks for, besides fine-tuning and the age of acquisition."""

_GLUE, _AOA, _OF_PAIRS = "glue", "age-of-acquisition", ("sentences", "completions")


@dataclass(frozen=True, slots=True)
class State:
    """How far one task of a submission is. lacks: what is missing or wrong, one sentence each; nothing if complete."""

    key: str
    predictions: int
    checkpoints: int | None
    """Of how many checkpoints there are results; None where none are asked for."""
    lacks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission as far as there are results for it. asked: the checkpoints that it must have, millions of words."""

    year: int
    track: str
    content: Mapping[str, Any]
    states: tuple[State, ...]
    asked: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def lacks(self) -> list[str]:
        """All that is missing or wrong."""
        return [f"{state.key}: {lack}" for state in self.states for lack in state.lacks]


def collect_submission(
    results: Path, track: str, lookup: Lookup, *, year: int = 2025, words_seen: int | None = None
) -> Submission:
    """Gather a submission from the results of one model, complete or not.

    results: the folder with `<task>.<protocol>.json` of the final model and `words-0001M.<task>.<protocol>.json` of
    checkpoints. lookup: where the sentences of minimal pairs are, which results do not repeat. words_seen: in training;
    checkpoints beyond are not asked for, as the organisers allow.
    Raises FirstwordsError for an unknown track or year, and for damaged results.
    """
    asked = _asked(track, year, words_seen)
    content: dict[str, Any] = {}
    fast: dict[str, list[Any]] = {}
    states = []
    for entry in ENTRIES[year]:
        predictions, lacks = _predictions(results, entry, lookup, year)
        if predictions is not None or year > 2025:
            content[entry.key] = predictions
        checkpoints = None
        if entry.fast is not None:
            fast[entry.key], more = _fast(results, entry, asked, year)
            checkpoints = sum(found is not None for found in fast[entry.key])
            lacks += more
        made = sum(parts.counts_of(predictions).values()) if predictions else 0
        states.append(State(entry.key, made, checkpoints, tuple(lacks)))
    content[_GLUE], state = _fine_tuned(results)
    states.append(state)
    words, state = _words(results, asked, year)
    content |= words
    states.append(state)
    content["fast_eval_results"] = fast
    notes = []
    if len(asked) < len(TRACKS[track]):
        notes.append(
            f"The model was trained on {words_seen:,} words, so that {len(asked)} of the {len(TRACKS[track])} "
            "checkpoints are asked for: those up to there."
        )
    return Submission(year, track, content, tuple(states), asked, tuple(notes))


def write_submission(submission: Submission, path: Path, *, partial: bool = False) -> Path:
    """Write the file, whole or not at all.

    partial: write what there is; in lists of checkpoints a missing one is null.
    Raises FirstwordsError that names what lacks where the submission is not complete and `partial` is not given.
    """
    lacks = submission.lacks
    if lacks and not partial:
        shown = "".join(f"\n    {lack}" for lack in lacks[:20]) + ("\n    ..." if len(lacks) > 20 else "")
        raise FirstwordsError(
            f"the submission is not complete; {len(lacks)} things lack:{shown}",
            where=f"BabyLM {submission.year}, track {submission.track}",
            do=f"measure them with `firstwords evaluate MODEL --suite babylm-{submission.year} --suite glue`, or write "
            "what there is with --partial",
        )
    atomic_write_text(path, parts.compact_json(submission.content))
    return path


def _asked(track: str, year: int, words_seen: int | None) -> tuple[int, ...]:
    if track not in TRACKS:
        raise FirstwordsError(
            f"there is no track '{track}'",
            where="tracks: " + ", ".join(TRACKS),
            do=did_you_mean(track, TRACKS) or "name one of them with --track",
        )
    if year not in YEARS:
        raise FirstwordsError(
            f"the form of {year} is not known", where="years: 2025, 2026", do="name one of them with --year"
        )
    return tuple(millions for millions in TRACKS[track] if words_seen is None or millions * 1_000_000 <= words_seen)


def _predictions(results: Path, entry: Entry, lookup: Lookup, year: int) -> tuple[parts.Predictions | None, list[str]]:
    """What the final model chose on one task, and what lacks."""
    result = parts.stored_result(results, entry.task, entry.protocols)
    if result is None:
        return None, [f"there is no result {entry.task}.{entry.protocols[0]}"]
    suite: Any = None
    if entry.form in _OF_PAIRS:
        try:
            suite = _task(entry.task).load(lookup)
        except NotFound as error:
            return None, [f"the sentences of {entry.task} are needed again, and {error.what}"]
    with result.undamaged():
        if entry.form in _OF_PAIRS:
            completion = entry.form == "completions"
            found = parts.pair_predictions(result, suite, completion=completion, tie_to_good=year == 2025)
        elif entry.form == "reading":
            found = parts.reading_predictions(result)
        else:
            found = parts.item_predictions(result, ("prob",) if entry.form == "shares" else ())
    return found, _wrong_sizes(entry.key, parts.counts_of(found), full_counts(entry.key))


def _task(name: str) -> Any:
    from firstwords.evaluation.tasks import find_task

    return find_task(name)


def _wrong_sizes(key: str, found: Mapping[str, int], official: Mapping[str, int]) -> list[str]:
    if key.startswith("global_piqa"):
        # Each example is a part of its own.
        found = {key: len(found)}
    counts = {part.lower(): count for part, count in found.items()}
    expected = {part.lower(): count for part, count in official.items()}
    return [
        f"{part} has {counts.get(part, 0):,} items, not {expected.get(part, 0):,}"
        for part in sorted(counts.keys() | expected.keys())
        if counts.get(part, 0) != expected.get(part, 0)
    ]


def _fine_tuned(results: Path) -> tuple[parts.Predictions, State]:
    """Labels of all fine-tuning tasks there are, and what lacks."""
    found: parts.Predictions = {}
    missing, lacks = [], []
    for name, count in full_counts(_GLUE).items():
        result = parts.stored_result(results, f"glue-{name}", _TASK)
        if result is None:
            missing.append(f"glue-{name}.{_TASK[0]}")
            continue
        with result.undamaged():
            own = parts.label_predictions(result)
        lacks += _wrong_sizes(_GLUE, parts.counts_of(own), {name: count})
        found |= own
    if missing:
        lacks.append(f"there is no result {', '.join(missing)}")
    return found, State(_GLUE, sum(parts.counts_of(found).values()), None, tuple(lacks))


def _words(results: Path, asked: Sequence[int], year: int) -> tuple[dict[str, Any], State]:
    """Surprisals of words at all checkpoints, for the age of acquisition, and what lacks."""
    if year > 2025:
        lack = f"the words in context are measured in another way in {year}, which firstwords does not do"
        return {"aoa_surprisals": None, "aoa": None}, State("aoa", 0, None, (lack,))
    found: list[dict[str, Any]] = []
    missing, lacks = [], []
    for millions in asked:
        result = parts.stored_result(results, _AOA, _TASK, _checkpoint(millions))
        if result is None:
            missing.append(_checkpoint(millions))
            continue
        with result.undamaged():
            own = parts.aoa_surprisals(result, millions)
        if len(own) != aoa_count(year):
            lacks.append(f"at {_checkpoint(millions)}, there are {len(own):,} items, not {aoa_count(year):,}")
        found += own
    if missing:
        lacks.append(_missing(missing, asked, f"{_AOA}.{_TASK[0]}"))
    steps = {"total_steps": len(asked), "completed_steps": len(asked) - len(missing)}
    metadata = {"model_name": results.absolute().parent.name, "use_bos_only": True, **steps}
    content = {"aoa": {"metadata": metadata, "results": found}} if found else {}
    return content, State("aoa", len(found), len(asked) - len(missing), tuple(lacks))


def _checkpoint(millions: int) -> str:
    return f"words-{millions:04d}M"


def _missing(checkpoints: Sequence[str], asked: Sequence[int], name: str) -> str:
    shown = ", ".join(checkpoints[:4]) + (f" and {len(checkpoints) - 4} more" if len(checkpoints) > 4 else "")
    return f"{len(checkpoints)} of {len(asked)} checkpoints have no {name}: {shown}"


def _fast(results: Path, entry: Entry, asked: Sequence[int], year: int) -> tuple[list[Any], list[str]]:
    """Accuracies of each part at each checkpoint, None where there is no result, and what lacks."""
    found: list[Any] = []
    missing, lacks = [], []
    for millions in asked:
        checkpoint = _checkpoint(millions)
        result = parts.stored_result(results, entry.fast or "", entry.protocols, checkpoint)
        if result is None:
            missing.append(checkpoint)
            found.append(None)
            continue
        with result.undamaged():
            wrong = _wrong_sizes(entry.key, _fast_sizes(result, entry), fast_counts(entry.key))
            lacks += [f"at {checkpoint}, {one}" for one in wrong]
            found.append(_fast_values(result, entry, year))
    if missing:
        lacks.append(_missing(missing, asked, f"{entry.fast}.{entry.protocols[0]}"))
    return found, lacks


def _fast_sizes(result: StoredResult, entry: Entry) -> dict[str, int]:
    return {"reading": len(result.rows)} if entry.form == "reading" else parts.rows_by_part(result)


def _fast_values(result: StoredResult, entry: Entry, year: int) -> dict[str, float]:
    if entry.form == "reading":
        return parts.reading_shares(result)
    if entry.form == "shares" or entry.key.startswith("global_piqa"):
        return {entry.key: result.number()}
    if entry.form == "items":
        return parts.item_accuracies(result)
    return parts.pair_accuracies(result, tie=1.0 if year == 2025 else 0.5)
