"""Learning curves: what each checkpoint of a run knows, and from how many words on it knows a phenomenon for sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from firstwords.evaluation.statistics import Interval, first_reliably_above_chance
from firstwords.report.results import Accuracy, checkpoint_of, read_results, result_names
from firstwords.run_folder import RunFolder, words_of

_CHANCE = 0.5


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracies over words seen; `reliable_from`: the words from which on the interval stays above chance."""

    accuracies: dict[int, Accuracy]
    reliable_from: int | None


@dataclass(frozen=True, slots=True)
class LearningCurves:
    """The curves of one suite under one protocol: overall and by phenomenon.

    left_out: words seen by the checkpoints that were measured on other pairs.
    """

    name: str
    overall: Curve
    phenomena: dict[str, Curve]
    left_out: tuple[int, ...] = ()

    @property
    def note(self) -> str:
        """Which checkpoints are left out, and why; empty where none is."""
        if not self.left_out:
            return ""
        words = ", ".join(map(_short, self.left_out))
        return f"without the checkpoints at {words} words, which were measured on other pairs: evaluate them again"


def learning_curves(run: RunFolder, name: str) -> LearningCurves | None:
    """The curves of `<suite>.<protocol>` over the run's checkpoints; None where no checkpoint has a result.

    Where the pairs have changed since, those of the last checkpoint count, and results on others are left out.
    """
    checkpoints = {of for of, plain in map(checkpoint_of, result_names(run)) if plain == name and of is not None}
    counted = sorted((of for of in checkpoints if of.startswith("words-")), key=words_of)
    found = {}
    for checkpoint in counted:
        evaluations, _ = read_results(run, checkpoint)
        if name in evaluations:
            found[words_of(checkpoint)] = evaluations[name]
    if not found:
        return None
    last = found[max(found)]
    left_out = tuple(words for words, one in found.items() if one.sha256 != last.sha256)
    found = {words: one for words, one in found.items() if one.sha256 == last.sha256}
    return LearningCurves(
        name,
        _curve({words: one.overall for words, one in found.items()}),
        {
            phenomenon: _curve({words: one.phenomena[phenomenon] for words, one in found.items()})
            for phenomenon in last.phenomena
        },
        left_out,
    )


def _curve(accuracies: dict[int, Accuracy]) -> Curve:
    intervals = [Interval(one.share, one.low, one.high) for one in accuracies.values()]
    return Curve(accuracies, first_reliably_above_chance(list(accuracies), intervals, _CHANCE))


@dataclass(frozen=True, slots=True)
class CurveTable:
    """Curves as a terminal shows them. note: what is to be said below; empty where nothing is."""

    rows: list[list[str]]
    note: str


def curve_tables(run: RunFolder, names: Sequence[str]) -> dict[str, CurveTable]:
    """For each `<suite>.<protocol>` with checkpoints: a row a phenomenon, a column a checkpoint, and where it is known.

    Long curves are thinned to columns that fit a screen, the first and the last among them.
    """
    tables = {}
    for name in names:
        curves = learning_curves(run, name)
        if curves is None:
            continue
        words = _thinned(list(curves.overall.accuracies))
        rows = [["", *map(_short, words), "above chance from"]]
        for label, curve in {**curves.phenomena, "overall": curves.overall}.items():
            cells = [f"{100 * curve.accuracies[count].share:.1f}" for count in words]
            known = "never" if curve.reliable_from is None else f"{_short(curve.reliable_from)} words"
            rows.append([label.replace("_", " "), *cells, known])
        tables[name] = CurveTable(rows, curves.note)
    return tables


_MOST_COLUMNS = 7


def _thinned(words: list[int]) -> list[int]:
    if len(words) <= _MOST_COLUMNS:
        return words
    places = {round(column * (len(words) - 1) / (_MOST_COLUMNS - 1)) for column in range(_MOST_COLUMNS)}
    return [words[place] for place in sorted(places)]


def _short(words: int) -> str:
    return f"{words // 1_000_000}M" if words % 1_000_000 == 0 else f"{words:,}"
