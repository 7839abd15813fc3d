"""Two runs on the same minimal pairs, as `firstwords compare` holds them against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from firstwords.report.comparison import Comparison, compare
from firstwords.report.judgements import read_result
from firstwords.report.results import result_names
from firstwords.run_folder import RunFolder
from firstwords.web.refusal import Refusal
from firstwords.web.workspace import shortened

MOST_RUNS = 8


@dataclass(frozen=True, slots=True)
class Common:
    """A suite and protocol under which all of some runs were judged."""

    suite: str
    protocol: str

    @property
    def name(self) -> str:
        """As results are called."""
        return f"{self.suite}.{self.protocol}"


def common_results(runs: Sequence[RunFolder]) -> list[Common]:
    """What all of these runs have a result of."""
    found = [_results(run) for run in runs]
    return [common for common in (found[0] if found else ()) if all(common in other for other in found)]


def compared(a: RunFolder, b: RunFolder, name: str) -> Comparison:
    """B against A on one common result. Raises Refusal where they have none of that name, and what `compare` raises."""
    chosen = next((common for common in common_results([a, b]) if common.name == name), None)
    if chosen is None:
        raise Refusal(
            404,
            f"{a.name} and {b.name} have no result '{shortened(name)}' in common",
            do="evaluate both on the same test set: `firstwords evaluate RUN --suite blimp`",
        )
    sides = [[read_result(_results(run)[chosen], run.name)] for run in (a, b)]
    return compare(*sides)


def _results(run: RunFolder) -> dict[Common, Path]:
    """A run's results on minimal pairs, of the model that stands for it."""
    found = {}
    for name in result_names(run):
        values = run.result(name)
        # The name of another checkpoint's result, or of the untrained control's, begins with that.
        if {"suite", "protocol"} <= values.keys() and name == f"{values['suite']}.{values['protocol']}":
            found[Common(values["suite"], values["protocol"])] = run.stage("evaluation") / f"{name}.json"
    return found
