"""The judgements of single pairs, read from the results that `evaluation.judging.write_evaluation` wrote."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firstwords.errors import FirstwordsError
from firstwords.evaluation.judging import JudgedPair
from firstwords.evaluation.pairs import Suite
from firstwords.evaluation.protocols import Protocol
from firstwords.run_folder import read_json

_COLUMNS = ("uid", "pair_id", "good_score", "bad_score", "choice")


@dataclass(frozen=True, slots=True)
class Result:
    """One model's judgements on one suite under one protocol.

    settings: the protocol's; `tie` and `overall` are needed. outcomes: by paradigm and pair id what the pair counts: 1
    right, 0 wrong, a tie what the protocol says. grouping: for each paradigm its "phenomenon" and "field", where known.
    where: the file that it is from.
    """

    name: str
    suite: str
    protocol: str
    statement: str
    sha256: str
    settings: Mapping[str, Any]
    outcomes: Mapping[str, Mapping[str, float]]
    grouping: Mapping[str, Mapping[str, str]]
    where: str
    notes: tuple[str, ...] = ()


def result_of(name: str, suite: Suite, judged: Sequence[JudgedPair], protocol: Protocol, where: str) -> Result:
    """Judged pairs as a result, such as the predictions that others handed in. where: the file that they are from."""
    counts = {"good": 1.0, "bad": 0.0, "tie": protocol.tie}
    outcomes: dict[str, dict[str, float]] = {}
    for one in judged:
        outcomes.setdefault(one.pair.uid, {})[one.pair.pair_id] = counts[one.choice]
    return Result(
        name=name,
        suite=suite.name,
        protocol=protocol.name,
        statement=protocol.statement,
        sha256=suite.sha256,
        settings=asdict(protocol),
        outcomes=outcomes,
        grouping={pair.uid: {"phenomenon": pair.phenomenon, "field": pair.field} for pair in suite.pairs},
        where=where,
        notes=suite.notes,
    )


def find_results(folder: Path) -> dict[tuple[str, str], Path]:
    """The results on minimal pairs in an `evaluation` folder, by suite and protocol; not those of other checkpoints."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        values = _values(path)
        # The name of another checkpoint's result, or of the untrained control's, begins with that; what is told beside
        # a result, as by which floors it must be above, ends with what it is.
        if {"suite", "protocol"} <= values.keys() and path.stem == f"{values['suite']}.{values['protocol']}":
            found[values["suite"], values["protocol"]] = path
    return found


def key_of(path: Path) -> tuple[str, str]:
    """Suite and protocol of a result. Raises FirstwordsError where the file is none on minimal pairs."""
    values = _values(path)
    if not {"suite", "protocol"} <= values.keys():
        raise _no_result(path, "it names no suite and protocol")
    return values["suite"], values["protocol"]


def read_result(path: Path, name: str) -> Result:
    """A result that `evaluation.judging.write_evaluation` wrote, with the pairs file beside it.

    name: of the model. Raises FirstwordsError where a file is missing or malformed (naming the line), and where the
    pairs are not those that the result was made of.
    """
    values = _values(path)
    try:
        counts = {"good": 1.0, "bad": 0.0, "tie": float(values["settings"]["tie"])}
        paradigms = {uid: (part["accuracy"], part["pairs"]) for uid, part in values["paradigms"].items()}
        facts: dict[str, Any] = {key: values[key] for key in ("suite", "protocol", "statement", "settings")}
        facts |= {"sha256": values["data"]["sha256"], "notes": tuple(values.get("notes", ()))}
        facts["grouping"] = _grouping(values.get("grouping", {}), paradigms)
        facts["settings"] = {**values["settings"], "overall": values["settings"]["overall"]}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _no_result(path, f"it lacks {error}") from None
    pairs = path.with_name(f"{path.stem}.pairs.csv")
    result = Result(name=name, where=str(path), outcomes=_read_pairs(pairs, counts), **facts)
    found = {uid: (float(np.mean(list(of.values()))), len(of)) for uid, of in result.outcomes.items()}
    if found.keys() != paradigms.keys() or any(not np.allclose(found[uid], paradigms[uid]) for uid in found):
        raise FirstwordsError(
            f"the judgements are not those of which {path.name} was made",
            where=str(pairs),
            do=f"evaluate {name} again: one of the two files was changed, or is of another evaluation",
        )
    return result


def _grouping(grouping: Mapping[str, Mapping[str, str]], paradigms: Iterable[str]) -> Mapping[str, Mapping[str, str]]:
    whole = all({"phenomenon", "field"} <= grouping.get(uid, {}).keys() for uid in paradigms)
    return grouping if whole else {}


def _read_pairs(path: Path, counts: Mapping[str, float]) -> dict[str, dict[str, float]]:
    outcomes: dict[str, dict[str, float]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            if tuple(next(rows, ()))[: len(_COLUMNS)] != _COLUMNS:
                raise _malformed(f"the file does not begin with the columns {', '.join(_COLUMNS)}", path, 1)
            for row in rows:
                counted = counts.get(row[4]) if len(row) >= len(_COLUMNS) else None
                if counted is None:
                    raise _malformed("the line is no judged pair", path, rows.line_num)
                of_paradigm = outcomes.setdefault(row[0], {})
                if row[1] in of_paradigm:
                    raise _malformed(f"the pair {row[1]} of {row[0]} was there before", path, rows.line_num)
                of_paradigm[row[1]] = counted
    except FileNotFoundError:
        raise FirstwordsError(
            "the result has no judgements of single pairs beside it, which a comparison needs",
            where=str(path),
            do="evaluate the model again, or put that file back",
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise _malformed(f"the file is no table of pairs: {error}", path, 1) from None
    return outcomes


def _malformed(what: str, path: Path, line: int) -> FirstwordsError:
    return FirstwordsError(what, where=f"{path}:{line}", do="evaluate the model again")


def _no_result(path: Path, why: str) -> FirstwordsError:
    return FirstwordsError(
        f"the file is no result on minimal pairs: {why}",
        where=str(path),
        do="name one that `firstwords evaluate` wrote, such as evaluation/blimp.firstwords.json",
    )


def _values(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path)
    except ValueError as error:
        raise FirstwordsError(f"the file is no JSON: {error}", where=str(path), do="evaluate the model again") from None
    if not isinstance(values, dict):
        raise _no_result(path, "it holds no object")
    return values
