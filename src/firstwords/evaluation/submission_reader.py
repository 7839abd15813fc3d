"""Predictions that others handed in, as judged pairs: which sentence of each pair their model chose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstwords.errors import FirstwordsError, did_you_mean
from firstwords.evaluation.judging import JudgedPair
from firstwords.evaluation.pair_files import read_text
from firstwords.evaluation.pairs import MinimalPair, Suite
from firstwords.evaluation.submission import ENTRIES, YEARS, Entry
from firstwords.evaluation.tasks.task import Lookup, NotFound

_MARKS_OF_2026 = ("entity_tracking_filtered", "aoa_surprisals", "global_piqa_parallel", "global_piqa_nonparallel")
"""Keys that a file has from 2026 on."""


@dataclass(frozen=True, slots=True)
class OthersPredictions:
    """What another model chose.

    judged: by the name of a test set of minimal pairs; the chosen sentence has the score 1 and the other 0, and both 1
    where they are the same text. left_out: keys of the file whose test set is not at hand, with the reason.
    """

    path: Path
    year: int
    suites: Mapping[str, Suite]
    judged: Mapping[str, tuple[JudgedPair, ...]]
    left_out: Mapping[str, str]


def read_submission(path: Path, lookup: Lookup, *, year: int | None = None) -> OthersPredictions:
    """Read the minimal pairs of a submission file.

    lookup: where their test sets are. year: of the challenge; told from the file's keys where not given.
    Raises FirstwordsError for a file that is no submission, and for predictions that do not fit the test set: another
    number of them, another order, or a sentence that is neither of the two.
    """
    content = _content(path)
    year = year or (2026 if any(key in content for key in _MARKS_OF_2026) else 2025)
    if year not in YEARS:
        raise FirstwordsError(f"the form of {year} is not known", where="years: 2025, 2026", do="name one of them")
    suites: dict[str, Suite] = {}
    judged: dict[str, tuple[JudgedPair, ...]] = {}
    left_out: dict[str, str] = {}
    for entry in ENTRIES[year]:
        if entry.form not in ("sentences", "completions") or content.get(entry.key) is None:
            continue
        try:
            suites[entry.task] = _suite(entry, lookup)
        except NotFound as error:
            left_out[entry.key] = error.what
            continue
        judged[entry.task] = _judged(content[entry.key], suites[entry.task], f"{path}: {entry.key}")
    if not judged and not left_out:
        raise FirstwordsError(
            "the file has no predictions for minimal pairs",
            where=f"{path}; it has: {', '.join(content) or 'nothing'}",
            do="give a submission of the BabyLM Challenge 2025 or 2026",
        )
    return OthersPredictions(path, year, suites, judged, left_out)


def _suite(entry: Entry, lookup: Lookup) -> Suite:
    from firstwords.evaluation.tasks import find_task

    suite: Any = find_task(entry.task).load(lookup)
    assert isinstance(suite, Suite)
    return suite


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except OSError as error:
        raise _wrong(f"the file cannot be read: {error.strerror or error}", str(path)) from None
    except json.JSONDecodeError as error:
        raise _wrong(f"the file is no JSON: {error.msg} at column {error.colno}", f"{path}:{error.lineno}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets
        raise _wrong(f"the file cannot be read: {error}", str(path)) from None
    if not isinstance(content, dict):
        raise _wrong("the file is no JSON object", str(path))
    return content


def _judged(found: Any, suite: Suite, place: str) -> tuple[JudgedPair, ...]:
    if not isinstance(found, dict):
        raise _wrong("there is no object with the parts of the test set", place)
    of_part: dict[str, list[MinimalPair]] = {}
    for pair in suite.pairs:
        of_part.setdefault(pair.uid, []).append(pair)
    strange = sorted(set(found) - set(of_part))
    if strange:
        near = did_you_mean(strange[0], of_part)
        raise _wrong(f"'{strange[0]}' is no part of {suite.name}" + (f"; {near}" if near else ""), place)
    missing = sorted(set(of_part) - set(found))
    if missing:
        raise _wrong(f"{len(missing)} parts of {suite.name} are missing: {', '.join(missing[:5])}", place)
    chosen = {uid: _choices(found[uid], pairs, f"{place}: {uid}") for uid, pairs in of_part.items()}
    waiting = {uid: iter(own) for uid, own in chosen.items()}
    return tuple(next(waiting[pair.uid]) for pair in suite.pairs)


def _choices(found: Any, pairs: list[MinimalPair], place: str) -> list[JudgedPair]:
    predictions = found.get("predictions") if isinstance(found, dict) else None
    if not isinstance(predictions, list):
        raise _wrong("there is no list of predictions", place)
    if len(predictions) != len(pairs):
        raise _wrong(f"there are {len(predictions):,} predictions for {len(pairs):,} pairs", place)
    return [
        _choice(prediction, pair, number, f"{place}: prediction {number}")
        for number, (prediction, pair) in enumerate(zip(predictions, pairs, strict=True))
    ]


def _choice(prediction: Any, pair: MinimalPair, number: int, place: str) -> JudgedPair:
    text = prediction.get("pred") if isinstance(prediction, dict) else None
    if not isinstance(text, str):
        raise _wrong("there is no chosen sentence under 'pred'", place)
    name = prediction.get("id", f"{pair.uid}_{number}")
    if str(name).lower() != f"{pair.uid}_{number}".lower():
        raise _wrong(f"its id is '{name}', not '{pair.uid}_{number}': the predictions are in another order", place)
    # Files of one year have the whole sentence, those of another what goes on from the context.
    good, bad = text.strip() in _forms(pair, "good"), text.strip() in _forms(pair, "bad")
    if not (good or bad):
        raise _wrong(f"{text!r} is neither {pair.good!r} nor {pair.bad!r}", place)
    return JudgedPair(pair, float(good), float(bad))


def _forms(pair: MinimalPair, which: str) -> tuple[str, ...]:
    text, given = (pair.good, pair.good_given) if which == "good" else (pair.bad, pair.bad_given)
    completion = text[given:].strip()
    # The same completion of both sentences tells nothing: COMPS, and EWoK of 2026.
    same = pair.good[pair.good_given :].strip() == pair.bad[pair.bad_given :].strip()
    return (text.strip(),) if same else (text.strip(), completion)


def _wrong(what: str, place: str) -> FirstwordsError:
    return FirstwordsError(
        what, where=place, do="give a submission file of the BabyLM Challenge, made on the same test set"
    )
