"""The test sets of a run, looked at before anything is trained: what is missing or too long is found now, not after
hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from firstwords.assessment import Asked, TestSets
from firstwords.run_folder import RunFolder, fingerprint_of

_MARK = "tests"
"""Of test sets that were read, and whose sentences fit the model."""


@dataclass(frozen=True, slots=True)
class TestsAhead:
    """What a run is to be measured on, and what its sentences must fit.

    tokenizer: the fingerprint of the run's. positions: of the model.
    """

    run: RunFolder
    tests: TestSets
    asked: Sequence[Asked]
    tokenizer: str
    positions: int

    def were_read(self) -> bool:
        """Whether an earlier start has looked at the very test sets that are there now: reading them takes seconds."""
        mark = self.run.mark(_MARK)
        return mark is not None and mark.fingerprint == self._fingerprint()

    def read(self) -> None:
        """Read them, and refuse what is not there or does not fit its protocol."""
        for asked in self.asked:
            self.tests.check(asked)

    def check_lengths(self) -> None:
        """Refuse a sentence that is too long for the model, once there is the run's tokenizer."""
        from firstwords.evaluation.judging import check_lengths
        from firstwords.evaluation.protocols import find_protocol
        from firstwords.evaluation.reader import Reader
        from firstwords.tokens.tokenizer import Vocabulary

        reader = Reader.of(Vocabulary.load(self.run.stage("tokenizer")))
        for asked in self.asked:
            suite = self.tests.pairs(asked.test)
            if suite is not None:
                check_lengths(suite, find_protocol(asked.protocol), reader, self.positions)
        fingerprint = self._fingerprint()
        if fingerprint is not None:
            self.run.set_done(_MARK, fingerprint, 0.0, {})

    def _fingerprint(self) -> str | None:
        """What tells whether test sets are those that were looked at; None where that takes reading them."""
        stamps = [self.tests.stamp(asked) for asked in self.asked]
        if None in stamps:
            return None
        return fingerprint_of(stamps, list(map(str, self.asked)), self.tokenizer, self.positions)
