"""The model under test, whatever it is: a `Subject` reads lines of token ids and says how likely their tokens are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from firstwords.errors import FirstwordsError
from firstwords.evaluation.reader import Line, Reader

if TYPE_CHECKING:
    import torch

Progress = Callable[[int, int], None]
"""Told how many texts are scored, and of how many."""


class Subject(Protocol):
    """A causal or masked language model with its tokenizer, in float32, ready to score.

    facts: what it is, as results tell it (name, origin, class, parameters). positions: the longest line that it reads;
    None where there is no bound.
    """

    name: str
    facts: Mapping[str, object]
    reader: Reader
    positions: int | None
    masked: bool
    dtype: str
    device: str

    def log_probs(
        self, lines: Sequence[Line], *, within_word: bool = False, progress: Progress | None = None
    ) -> list[np.ndarray]:
        """Log-probability of every scored token of each line: nats, float32, one array of `line.scored` a line.

        A causal model is asked for log p(token | tokens before it). A masked model is asked for log p(token | all other
        tokens), the token itself masked (Salazar et al. 2020), and with `within_word` the later tokens of the same word
        masked too (Kauf & Ivanova 2023). Lines are no longer than `positions`; use `line_log_probs`, which checks.
        """
        ...

    def encoder(self) -> torch.nn.Module:
        """A copy that can be trained further: rows of token ids (a list of lists) -> one float32 state a row, (B, D).

        It is the state after the last token of a causal model, and at the first of a masked one. Its `width` is D.
        """
        ...


class TooLong(FirstwordsError):
    """A line is longer than the model reads; a collection of tasks leaves such a task out and says so."""


def line_log_probs(
    subject: Subject,
    lines: Sequence[Line],
    *,
    within_word: bool = False,
    describe: Callable[[int], str] = "line {}".format,
    progress: Progress | None = None,
) -> list[np.ndarray]:
    """`Subject.log_probs`, and no number that must not be believed.

    describe: names a line by its number in error messages.
    Raises FirstwordsError for a line that is longer than the model's positions, and with exit code 3 for a
    log-probability that is not finite.
    """
    check_line_lengths(lines, subject.positions, masked=subject.masked, describe=describe)
    found = subject.log_probs(lines, within_word=within_word, progress=progress)
    wrong = [number for number, log_probs in enumerate(found) if not np.isfinite(log_probs).all()]
    if wrong:
        raise FirstwordsError(
            f"the model gives a score that is not finite, for {len(wrong):,} of {len(lines):,} sentences",
            where=describe(wrong[0]),
            do="no accuracy can be told from this model: its weights are damaged or its training diverged",
            exit_code=3,
        )
    return found


def line_scores(
    subject: Subject,
    lines: Sequence[Line],
    *,
    mean: bool = False,
    within_word: bool = False,
    describe: Callable[[int], str] = "line {}".format,
    progress: Progress | None = None,
) -> np.ndarray:
    """Sum (or mean) of each line's log-probabilities: nats, summed in float64, one number a line.

    Raises what `line_log_probs` raises.
    """
    found = line_log_probs(subject, lines, within_word=within_word, describe=describe, progress=progress)
    sums = np.array([log_probs.sum(dtype=np.float64) for log_probs in found])
    return sums / [len(log_probs) for log_probs in found] if mean else sums


def check_line_lengths(
    lines: Sequence[Line], positions: int | None, *, masked: bool, describe: Callable[[int], str]
) -> None:
    """Raises TooLong, naming the line, where one is longer than a model of so many positions reads."""
    for number, line in enumerate(lines if positions is not None else ()):
        # A causal model only predicts the last token, so that it takes no position.
        taken = len(line.ids) if masked else line.stop - 1
        if positions is not None and taken > positions:
            raise TooLong(
                f"a sentence takes {taken} positions, and the model has {positions}: its context is too short",
                where=describe(number),
                do="leave that sentence out of the test set, or train with more model.positions",
            )
