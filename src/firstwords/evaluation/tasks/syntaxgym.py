"""SyntaxGym suites: surprisals of regions of sentences, and formulas that say which must be larger."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from firstwords.errors import FirstwordsError
from firstwords.evaluation.region_formulas import Formula, Place
from firstwords.evaluation.statistics import Interval, combined, wilson
from firstwords.evaluation.subject import Progress, Subject
from firstwords.evaluation.surprisal import Manner, Unit, score_texts
from firstwords.evaluation.tasks.task import Lookup, Measure, TaskData, TaskResult
from firstwords.run_folder import fingerprint_of, sha256_of


@dataclass(frozen=True, slots=True)
class Condition:
    """A sentence in regions. spans: the characters of each region in the text; None where it is empty."""

    text: str
    spans: Mapping[int, tuple[int, int] | None]

    @classmethod
    def of(cls, regions: Mapping[int, str]) -> Condition:
        """Regions joined by single spaces; none before a mark that follows a word, none for an empty region."""
        text, spans = "", dict[int, tuple[int, int] | None]()
        for number, content in regions.items():
            if not content:
                spans[number] = None
                continue
            if text and content[0] not in ".,;:!?":
                text += " "
            spans[number] = (len(text), len(text) + len(content))
            text += content
        return cls(text, spans)


@dataclass(frozen=True, slots=True)
class SyntaxSuite:
    """One suite: what must hold of every item, and the items, each with its sentences by condition."""

    name: str
    predictions: tuple[Formula, ...]
    items: Mapping[str, Mapping[str, Condition]]


class SyntaxGym:
    """All suites of a folder."""

    name = "syntaxgym"
    title = "SyntaxGym: surprisals of regions and their inequalities"
    license = "MIT"
    citation = (
        "Gauthier, Hu, Wilcox, Qian & Levy 2020, SyntaxGym: An Online Platform for Targeted Evaluation of Language "
        "Models; suites of Hu, Gauthier, Qian, Wilcox & Levy 2020"
    )
    measures = "share of items of which all predictions hold, per suite"
    protocols: Mapping[str, str] = {"firstwords": "after BOS; a token counts for the region that has its first letter"}
    masked = False

    def load(self, lookup: Lookup) -> TaskData:
        """Read every .json file of the folder. Raises NotFound, and FirstwordsError naming file, item and fault."""
        folder = lookup.find(
            ["syntaxgym/"],
            what="a folder of SyntaxGym suites",
            get="put suites (https://github.com/cpllab/syntactic-generalization, test_suites/json) in a folder named "
            "syntaxgym and give it with --data",
        )
        files = sorted(folder.glob("*.json"))
        if not files:
            raise FirstwordsError("the folder has no suite, which is a .json file", where=str(folder), do="add one")
        return TaskData(tuple(_suite(path) for path in files), str(folder), fingerprint_of(list(map(sha256_of, files))))

    def evaluate(self, subject: Subject, data: TaskData, protocol: str, progress: Progress | None = None) -> TaskResult:
        """Surprisals of all regions, and which predictions hold."""
        suites: Sequence[SyntaxSuite] = data.items
        manner = Manner.of(subject)
        conditions = [one for suite in suites for item in suite.items.values() for one in item.values()]
        units = iter(_regions(subject, conditions, manner, progress))
        cut = 0
        rows: list[dict[str, Any]] = []
        parts: dict[str, Measure] = {}
        predictions: dict[str, list[dict[str, Any]]] = {}
        for suite in suites:
            held = []
            for number, item in suite.items.items():
                regions = {name: next(units) for name in item}
                cut += sum(not unit.whole for one in regions.values() for unit in one.values() if unit is not None)
                values = _values(regions)
                held.append([formula.holds(values) for formula in suite.predictions])
                bits = {name: [values[region, name] for region in one] for name, one in regions.items()}
                rows.append(
                    {
                        "suite": suite.name,
                        "item": number,
                        "right": int(all(held[-1])),
                        "predictions": " ".join(str(int(one)) for one in held[-1]),
                        "region_bits": json.dumps(bits),
                    }
                )
            right = sum(all(one) for one in held)
            parts[suite.name] = Measure(right / len(held), *wilson(right, len(held)), len(held))
            predictions[suite.name] = [
                {"formula": formula.text.strip(), "accuracy": sum(one) / len(one)}
                for formula, one in zip(suite.predictions, zip(*held, strict=True), strict=True)
            ]
        overall = combined([Interval(one.value, cast(float, one.low), cast(float, one.high)) for one in parts.values()])
        return TaskResult(
            metric="accuracy",
            statement=f"{manner.statement(subject)} {_STATEMENT}",
            overall=Measure(overall.estimate, max(0.0, overall.low), min(1.0, overall.high), len(rows)),
            parts=parts,
            rows=rows,
            notes=[f"{cut:,} regions end within a token, which counts where its first letter is."] if cut else [],
            more={"predictions": predictions, "random": {suite.name: _chance(suite) for suite in suites}},
        )


_STATEMENT = (
    "A region's surprisal is the sum over the tokens whose first letter it has, so that the space before it is its "
    "own; an empty region has 0. Regions are joined by single spaces, and without one before a mark. An item is right "
    "if all predictions of its suite hold; a suite's accuracy is the share of right items with Wilson's 95% interval, "
    "overall is the mean over suites with their intervals combined (Zou & Donner 2008), as were other items of these "
    "suites drawn. `random` is the share of right items where all regions have random surprisals."
)


def _regions(
    subject: Subject, conditions: Sequence[Condition], manner: Manner, progress: Progress | None
) -> list[dict[int, Unit | None]]:
    """The regions of each sentence with their surprisals; None for an empty region."""
    found = []
    texts = [condition.text for condition in conditions]
    for condition, scored in zip(conditions, score_texts(subject, texts, manner, progress=progress), strict=True):
        units = iter(scored.spans([span for span in condition.spans.values() if span is not None]))
        found.append({number: None if span is None else next(units) for number, span in condition.spans.items()})
    return found


def _values(regions: Mapping[str, Mapping[int, Unit | None]]) -> dict[Place, float]:
    """Bits of every region of every condition, and of all regions together under 0."""
    values: dict[Place, float] = {}
    for name, units in regions.items():
        for number, unit in units.items():
            # A region whose first letter is within a token of the region before it has no token of its own.
            values[number, name] = 0.0 if unit is None or unit.bits is None else unit.bits
        values[0, name] = sum(values[number, name] for number in units)
    return values


def _chance(suite: SyntaxSuite, draws: int = 4_000) -> float:
    """The share of random surprisals of all regions of which the predictions hold."""
    first = next(iter(suite.items.values()))
    places = [(number, name) for name, condition in first.items() for number in condition.spans]
    right = 0
    for numbers in np.random.default_rng(1).exponential(size=(draws, len(places))).tolist():
        values = dict(zip(places, numbers, strict=True))
        for name in first:
            values[0, name] = sum(values[number, name] for number in first[name].spans)
        right += all(formula.holds(values) for formula in suite.predictions)
    return right / draws


def _suite(path: Path) -> SyntaxSuite:
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _wrong(f"the file is no valid UTF-8 (byte {error.start + 1})", str(path)) from None
    except json.JSONDecodeError as error:
        raise _wrong(f"the file is no JSON: {error.msg}", f"{path}:{error.lineno}") from None
    metric = _of(_of(values, "meta", dict, str(path)), "metric", object, f"{path}, meta")
    if metric not in ("sum", "all") and not (isinstance(metric, list) and "sum" in metric):
        raise _wrong(f"the metric is {metric!r}; only sums of surprisals are told", f"{path}, meta")
    predictions = [
        _prediction(one, f"{path}, prediction {number}")
        for number, one in enumerate(_of(values, "predictions", list, str(path)), start=1)
    ]
    items: dict[str, Mapping[str, Condition]] = {}
    for place, item in enumerate(_of(values, "items", list, str(path)), start=1):
        name = str(_of(item, "item_number", object, f"{path}, item {place} of the list"))
        where = f"{path}, item {name}"
        if name in items:
            raise _wrong("the item was there before", where)
        items[name] = _item(item, where)
        for formula in predictions:
            _check_places(formula, items[name], where)
    if not predictions or not items:
        raise _wrong("the suite predicts nothing" if items else "the suite has no items", str(path))
    return SyntaxSuite(path.stem, tuple(predictions), items)


def _prediction(value: Any, where: str) -> Formula:
    kind = _of(value, "type", str, where)
    if kind != "formula":
        raise _wrong(f"a prediction of the type '{kind}' is not known", where)
    return Formula.parse(_of(value, "formula", str, where), where)


def _check_places(formula: Formula, item: Mapping[str, Condition], where: str) -> None:
    for region, condition in sorted(formula.places):
        if condition not in item:
            raise _wrong(f"a prediction speaks of the condition '{condition}', which the item lacks", where)
        if region and region not in item[condition].spans:
            raise _wrong(f"a prediction speaks of region {region}, which '{condition}' lacks", where)


def _item(item: Any, where: str) -> dict[str, Condition]:
    conditions: dict[str, Condition] = {}
    for condition in _of(item, "conditions", list, where):
        name = _of(condition, "condition_name", str, where)
        within = f"{where}, condition '{name}'"
        regions: dict[int, str] = {}
        for region in _of(condition, "regions", list, within):
            number = _of(region, "region_number", int, within)
            if number < 1 or number in regions:
                raise _wrong(f"region {number} was there before" if number > 0 else "regions count from 1", within)
            regions[number] = " ".join(_of(region, "content", str, within).split())
        if name in conditions:
            raise _wrong(f"the condition '{name}' was there before", where)
        if not any(regions.values()):
            raise _wrong("all of its regions are empty", within)
        conditions[name] = Condition.of(dict(sorted(regions.items())))
    return conditions


def _of(values: Any, key: str, kind: type, where: str) -> Any:
    """What stands under a key, of the kind that must stand there."""
    names = {dict: "an object", list: "a list", str: "a text", int: "a whole number", object: "a value"}
    if not isinstance(values, dict):
        raise _wrong(f"{names[dict]} must stand where {values!r:.40} stands", where)
    if key not in values or not isinstance(values[key], kind) or (kind is int and isinstance(values[key], bool)):
        raise _wrong(f"{names[kind]} must stand under '{key}'", where)
    return values[key]


def _wrong(what: str, where: str) -> FirstwordsError:
    return FirstwordsError(what, where=where, do="correct the suite; its form is told at docs.syntaxgym.org")


TASK = SyntaxGym()
