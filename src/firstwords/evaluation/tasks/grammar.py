"""Pairs of the built-in grammar: artificial, and there without a download."""

from __future__ import annotations

from firstwords.evaluation.pairs import GRAMMAR_PAIRS_PER_PARADIGM, grammar_suite
from firstwords.evaluation.tasks.task import PairsTask

GRAMMAR = PairsTask(
    name="grammar",
    title="pairs of the built-in grammar",
    license="MIT",
    citation="firstwords",
    measures=f"which of two artificial sentences is grammatical: {GRAMMAR_PAIRS_PER_PARADIGM} pairs of each paradigm",
    read=lambda _: grammar_suite(),
)
