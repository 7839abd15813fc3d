"""Two models on the same minimal pairs: what can be said of the difference.

Data only; `cli/comparing.py` prints it. A side of a comparison is one result, or several that differ in the seed alone.
Letters of shapes: P pairs of one paradigm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from firstwords.errors import FirstwordsError
from firstwords.evaluation import significance, statistics
from firstwords.evaluation.statistics import ClusteredDifference, Difference, Interval, SeedsInterval
from firstwords.report.judgements import Result

SURE = 0.05
"""A p-value up to which a difference is called sure."""

INTERVALS = {
    "overall": "as were other paradigms drawn: studentized bootstrap over paradigms (Davison & Hinkley 1997)",
    "overall.these_paradigms": "as were other pairs of the same paradigms drawn; says nothing of other constructions",
    "fields, phenomena, paradigms": "as were other pairs of the same paradigms drawn",
}
"""What the intervals of a comparison say, by its keys."""


@dataclass(frozen=True, slots=True)
class Side:
    """The model that is compared: the names of its results, one for each seed."""

    label: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A paradigm, or the mean of the paradigms of a phenomenon or field; shares from 0 to 1, B minus A.

    only_a, only_b: pairs that only one of them has right (None with several seeds; a tie that counts 1/2 is neither
    right nor wrong). p: of McNemar's exact test on those, all paradigms together; with several seeds that of the
    difference. p_holm: corrected for as many rows as stand beside this one (all paradigms, all phenomena, all fields).
    references: other models' accuracies, by name.
    """

    name: str
    paradigms: int
    pairs: int
    a: Interval
    b: Interval
    difference: Difference
    only_a: int | None
    only_b: int | None
    p: float
    p_holm: float
    references: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Overall:
    """The protocol's one number, of both sides; shares from 0 to 1, B minus A (INTERVALS says what the intervals say).

    kind: "mean of 67 paradigms", or "67,000 pairs pooled". mcnemar_p: None with several seeds.
    """

    kind: str
    paradigms: int
    pairs: int
    a: SeedsInterval
    b: SeedsInterval
    difference: ClusteredDifference
    these_paradigms: Difference
    only_a: int | None
    only_b: int | None
    mcnemar_p: float | None
    references: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """B against A on one suite under one protocol. alike: whether they judge every pair in the same way."""

    suite: str
    protocol: str
    statement: str
    a: Side
    b: Side
    overall: Overall
    fields: tuple[Row, ...]
    phenomena: tuple[Row, ...]
    paradigms: tuple[Row, ...]
    references: tuple[str, ...]
    alike: bool
    notes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """Whether B is better than A, by how much, and how sure that is."""
        a, b, overall = self.a.label, self.b.label, self.overall
        if self.alike:
            return f"{b} and {a} judge every pair alike."
        other, these = overall.difference, overall.these_paradigms
        which = f"these {overall.paradigms} paradigms" if overall.paradigms > 1 else "this paradigm"
        if other.p <= SURE:
            return (
                f"{_verdict(a, b, other)} (95% interval {_range(other)}, as were other paradigms drawn; {_p(other.p)})."
            )
        if these.p <= SURE:
            return (
                f"On {which}, {_verdict(a, b, these)} (95% interval {_range(these)}, as were other pairs drawn; "
                f"{_p(these.p)}). Of other constructions that cannot be said: as were other paradigms drawn, the "
                f"95% interval of the difference, {_range(other)} points, holds 0 ({_p(other.p)})."
            )
        points = _points(abs(other.estimate), other)
        favoured = "" if float(points) == 0 else f" in favour of {b if other.estimate > 0 else a}"
        return (
            f"{b} and {a} cannot be told apart: the difference is {points} points{favoured}, and its 95% interval, "
            f"{_range(other)} for {b} as were other paradigms drawn, holds 0 ({_p(other.p)})."
        )

    def to_json(self) -> dict[str, Any]:
        """All of it, with the sentence and what the intervals say."""
        return {"sentence": self.sentence} | asdict(self) | {"intervals": INTERVALS}


def _verdict(a: str, b: str, difference: Difference) -> str:
    better = "better" if difference.estimate > 0 else "worse"
    return f"{b} is {better} than {a} by {_points(abs(difference.estimate), difference)} points"


def _range(difference: Difference) -> str:
    """The interval in points; of a sure difference without its sign, the nearer end first."""
    ends = [difference.low, difference.high]
    if difference.p <= SURE:
        ends = sorted(abs(end) for end in ends)
    return " to ".join(_points(end, difference) for end in ends)


def _points(value: float, difference: Difference) -> str:
    """Percentage points with one decimal, or two where one would round a sure limit to 0."""
    nearest = min(abs(difference.low), abs(difference.high), abs(difference.estimate))
    text = f"{100 * value:.{2 if difference.p <= SURE and nearest < 0.0005 else 1}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p < 0.1 else f"p = {p:.2f}"


def compare(
    a: Sequence[Result], b: Sequence[Result], *, references: Mapping[str, Mapping[str, float]] | None = None
) -> Comparison:
    """B against A, each one result or the results of several seeds.

    references: accuracies (0 to 1) of other models by name and paradigm, to stand beside.
    Raises FirstwordsError where results are of other data or another protocol, where their pairs do not match, and
    where a side has the same result twice.
    """
    first = a[0]
    for side in (a, b):
        _check_seeds(side)
        for result in side:
            _check_same(first, result)
    pair_ids = {uid: tuple(outcomes) for uid, outcomes in first.outcomes.items()}
    table = _Table(_aligned(a, pair_ids), _aligned(b, pair_ids), references or {})
    grouping = next((result.grouping for result in (*a, *b) if result.grouping), {})
    unknown = "These results do not say which phenomenon and field a paradigm belongs to: evaluate again."
    return Comparison(
        suite=first.suite,
        protocol=first.protocol,
        statement=first.statement,
        a=_side(a),
        b=_side(b),
        overall=table.overall(list(pair_ids), pooled=first.settings["overall"] == "pairs"),
        fields=table.rows(_groups(grouping, "field", pair_ids)),
        phenomena=table.rows(_groups(grouping, "phenomenon", pair_ids)),
        paradigms=table.rows({uid: [uid] for uid in pair_ids}),
        references=tuple(references or {}),
        alike=table.alike,
        notes=(*_notes(a, b), *(() if grouping else (unknown,))),
    )


def _groups(
    grouping: Mapping[str, Mapping[str, str]], level: str, pair_ids: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for uid in pair_ids if grouping else ():
        found.setdefault(grouping[uid][level], []).append(uid)
    return found


class _Table:
    """The outcomes of both sides by paradigm, each a list of arrays (P,), one for each seed."""

    def __init__(
        self,
        a: Mapping[str, list[np.ndarray]],
        b: Mapping[str, list[np.ndarray]],
        references: Mapping[str, Mapping[str, float]],
    ) -> None:
        self._a, self._b, self._references = a, b, references
        self._one_seed = all(len(seeds) == 1 for side in (a, b) for seeds in side.values())
        every = [np.concatenate([*a[uid], *b[uid]]).reshape(-1, len(a[uid][0])) for uid in a]
        self.alike = all(bool((one == one[0]).all()) for one in every)

    def rows(self, groups: Mapping[str, list[str]]) -> tuple[Row, ...]:
        """One row a group, their p-values corrected as one family."""
        rows = [self._row(name, uids) for name, uids in groups.items()]
        corrected = significance.holm([row.p for row in rows])
        return tuple(replace(row, p_holm=p) for row, p in zip(rows, corrected, strict=True))

    def _row(self, name: str, uids: list[str]) -> Row:
        a, b = self._sides(uids)
        difference, alone = statistics.paired_within_clusters(a, b), self._alone(uids)
        p = significance.mcnemar_exact(*alone) if alone else difference.p
        return Row(
            name=name,
            paradigms=len(uids),
            pairs=self._pairs(uids),
            a=_plain(statistics.interval_within_clusters(a)),
            b=_plain(statistics.interval_within_clusters(b)),
            difference=difference,
            only_a=alone[0] if alone else None,
            only_b=alone[1] if alone else None,
            p=p,
            p_holm=p,
            references=self._means(uids),
        )

    def overall(self, uids: list[str], *, pooled: bool) -> Overall:
        """The protocol's one number."""
        a, b = self._sides(uids)
        alone = self._alone(uids)
        pairs = self._pairs(uids)
        paradigms = f"mean of {len(uids)} paradigms" if len(uids) > 1 else "one paradigm"
        return Overall(
            kind=f"{pairs:,} pairs pooled" if pooled else paradigms,
            paradigms=len(uids),
            pairs=pairs,
            a=statistics.hierarchical_interval(a, pooled=pooled),
            b=statistics.hierarchical_interval(b, pooled=pooled),
            difference=statistics.paired_hierarchical(a, b, pooled=pooled),
            these_paradigms=statistics.paired_within_clusters(a, b, pooled=pooled),
            only_a=alone[0] if alone else None,
            only_b=alone[1] if alone else None,
            mcnemar_p=significance.mcnemar_exact(*alone) if alone else None,
            references=self._means(uids),
        )

    def _sides(self, uids: list[str]) -> tuple[statistics.Side, statistics.Side]:
        a, b = (list(zip(*(side[uid] for uid in uids), strict=True)) for side in (self._a, self._b))
        return a, b

    def _pairs(self, uids: list[str]) -> int:
        return sum(len(self._a[uid][0]) for uid in uids)

    def _alone(self, uids: list[str]) -> tuple[int, int] | None:
        if not self._one_seed:
            return None
        counts = [significance.discordant(self._a[uid][0], self._b[uid][0]) for uid in uids]
        return sum(only_a for only_a, _ in counts), sum(only_b for _, only_b in counts)

    def _means(self, uids: list[str]) -> dict[str, float]:
        return {
            name: float(np.mean([accuracies[uid] for uid in uids]))
            for name, accuracies in self._references.items()
            if all(uid in accuracies for uid in uids)
        }


def _plain(interval: Interval) -> Interval:
    return Interval(interval.estimate, interval.low, interval.high)


def _side(results: Sequence[Result]) -> Side:
    names = tuple(result.name for result in results)
    return Side(names[0] if len(names) == 1 else f"{names[0]} ({len(names)} seeds)", names)


def _aligned(side: Sequence[Result], pair_ids: Mapping[str, Sequence[str]]) -> dict[str, list[np.ndarray]]:
    return {
        uid: [np.array([result.outcomes[uid][pair_id] for pair_id in ids]) for result in side]
        for uid, ids in pair_ids.items()
    }


def _notes(a: Sequence[Result], b: Sequence[Result]) -> list[str]:
    results = list({result.where: result for result in (*a, *b)}.values())
    of_all = [note for note in results[0].notes if all(note in result.notes for result in results)]
    own = [f"{result.name}: {note}" for result in results for note in result.notes if note not in of_all]
    own += [
        f"{one.name} and {other.name} judge every pair alike: a copy is no second seed."
        for side in (a, b)
        for one, other in combinations(side, 2)
        if one.outcomes == other.outcomes
    ]
    if len(a) == len(b) == 1:
        seeds = (
            "One seed each: this is about these two models. Other seeds of the same recipes may differ as much; give "
            "several with commas."
        )
    elif 1 in (len(a), len(b)):
        alone, several = (a, b) if len(a) == 1 else (b, a)
        seeds = f"{alone[0].name} has one seed: other seeds of it are taken to differ as those of {several[0].name} do."
    else:
        return of_all + own
    return [*of_all, *own, seeds]


def _check_seeds(side: Sequence[Result]) -> None:
    seen: dict[str, Result] = {}
    for result in side:
        if result.where in seen:
            raise FirstwordsError(
                f"'{result.name}' is given twice on one side: a model counted twice is no second seed",
                where=result.where,
                do="name each seed once",
            )
        seen[result.where] = result


def _check_same(first: Result, other: Result) -> None:
    both = f"{first.where} and {other.where}"
    if first.protocol != other.protocol:
        raise FirstwordsError(
            f"{first.name} was judged under the protocol '{first.protocol}', {other.name} under '{other.protocol}'",
            where=both,
            do="compare results of one protocol (--protocol)",
        )
    if first.sha256 != other.sha256:
        raise FirstwordsError(
            f"{first.name} and {other.name} were judged on different data: the checksums of their pairs differ",
            where=f"{first.where} ({first.sha256[:12]}) and {other.where} ({other.sha256[:12]})",
            do="evaluate both on the same test set",
        )
    # A protocol that means another thing today than when the older result was made.
    known = (first.settings.keys() & other.settings.keys()) - {"source"}
    changed = sorted(key for key in known if first.settings[key] != other.settings[key])
    if changed:
        raise FirstwordsError(
            f"'{first.protocol}' did not mean the same when {first.name} and {other.name} were judged: "
            + ", ".join(f"{key} {first.settings[key]} and {other.settings[key]}" for key in changed),
            where=both,
            do="evaluate both with the same version of firstwords",
        )
    if {uid: set(found) for uid, found in first.outcomes.items()} != {uid: set(x) for uid, x in other.outcomes.items()}:
        raise FirstwordsError(
            f"the pairs of {first.name} and {other.name} do not match, though their data is the same",
            where=both,
            do="one of the two files is not whole: evaluate that model again",
        )
