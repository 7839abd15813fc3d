"""What others reach on BLiMP: four language models and people, from its paper (Warstadt et al. 2020, corrected)."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

REFERENCE_SOURCE = (
    "Warstadt et al. 2020, BLiMP: The Benchmark of Linguistic Minimal Pairs for English, TACL 8 (corrected version)"
)
REFERENCE_COLUMNS = {
    "5-gram": "a 5-gram model of English Gigaword",
    "LSTM": "a recurrent model of English Wikipedia",
    "Transformer-XL": "Transformer-XL of WikiText-103",
    "GPT-2 large": "GPT-2 large",
    "people": "single judgements of people",
    "people, majority": "the majority of people, on five pairs of each paradigm",
}
"""Names of the columns, and whose accuracies they are."""

_FILE = "blimp_reference.csv"
_ITEMS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ReferenceParadigm:
    """One paradigm of BLiMP with what others reach on it: shares of pairs judged right, 0 to 1."""

    uid: str
    phenomenon: str
    field: str
    five_gram: float
    lstm: float
    transformer_xl: float
    gpt2_large: float
    people: float
    """Of single judgements."""
    people_majority: float
    """Of the five pairs that people were shown, by their majority."""

    @property
    def accuracies(self) -> dict[str, float]:
        """By the names of REFERENCE_COLUMNS."""
        values = (
            self.five_gram,
            self.lstm,
            self.transformer_xl,
            self.gpt2_large,
            self.people,
            self.people_majority,
        )
        return dict(zip(REFERENCE_COLUMNS, values, strict=True))


@cache
def reference_paradigms() -> tuple[ReferenceParadigm, ...]:
    """All 67 paradigms, by phenomenon and name."""
    text = resources.files("firstwords.evaluation").joinpath(_FILE).read_text("utf-8")
    return tuple(
        ReferenceParadigm(
            uid=row["paradigm"],
            phenomenon=row["phenomenon"],
            field=row["field"],
            five_gram=float(row["five_gram"]),
            lstm=float(row["lstm"]),
            transformer_xl=float(row["transformer_xl"]),
            gpt2_large=float(row["gpt2_large"]),
            people=float(row["people_individual"]),
            people_majority=int(row["people_items_of_5"]) / _ITEMS_SHOWN,
        )
        for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    )


def reference_columns(paradigms: Sequence[str]) -> dict[str, dict[str, float]]:
    """For each of REFERENCE_COLUMNS, accuracy by paradigm, of those paradigms of a suite that are BLiMP's.

    In the order in which the suite has them. Empty, without columns, where none of them is BLiMP's.
    """
    return _columns([(one.uid, [one]) for one in _known(paradigms)])


def reference_phenomena(paradigms: Sequence[str]) -> dict[str, dict[str, float]]:
    """For each column, accuracy by phenomenon: the mean over those of its paradigms that the suite has."""
    by_phenomenon: dict[str, list[ReferenceParadigm]] = {}
    for one in _known(paradigms):
        by_phenomenon.setdefault(one.phenomenon, []).append(one)
    return _columns(list(by_phenomenon.items()))


def reference_overall(paradigms: Sequence[str]) -> dict[str, float]:
    """For each column, the mean over those paradigms of BLiMP that the suite has."""
    known = _known(paradigms)
    return {column: values["all"] for column, values in _columns([("all", known)] if known else []).items()}


def _known(paradigms: Sequence[str]) -> list[ReferenceParadigm]:
    table = {one.uid: one for one in reference_paradigms()}
    return [table[uid] for uid in dict.fromkeys(paradigms) if uid in table]


def _columns(parts: Sequence[tuple[str, Sequence[ReferenceParadigm]]]) -> dict[str, dict[str, float]]:
    """By column and part: the mean over the part's paradigms."""
    if not parts:
        return {}
    return {
        column: {name: math.fsum(one.accuracies[column] for one in members) / len(members) for name, members in parts}
        for column in REFERENCE_COLUMNS
    }
