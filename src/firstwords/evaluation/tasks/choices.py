"""Questions with several options: the likeliest option is the answer. Shared by entity tracking and Global PIQA."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from firstwords.evaluation.reader import CONTEXTS, Context
from firstwords.evaluation.statistics import Interval, combined, wilson
from firstwords.evaluation.subject import Progress, Subject, line_scores
from firstwords.evaluation.tasks.task import Measure


@dataclass(frozen=True, slots=True)
class Question:
    """A beginning and its options, each of which goes on from it; `right` is the number of the right one.

    part: what it is counted with. place: its file and line.
    """

    part: str
    given: str
    options: tuple[str, ...]
    right: int
    place: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The scores of a question's options (nats), and which is chosen: the first of the best.

    share: what the answer counts: 1 right, 0 wrong; see `answers` for ties.
    """

    question: Question
    scores: tuple[float, ...]
    chosen: int
    share: float
    tie: bool


@dataclass(frozen=True, slots=True)
class ChoiceProtocol:
    """How options are scored. context: what stands before the question. first_wins: see `answers`."""

    context: Context
    first_wins: bool
    mean: bool = False
    """Whether an option's score is the mean of its tokens' log-probabilities, not their sum."""

    def statement(self, what: str, *, masked: bool) -> str:
        """How it is measured, in words. what: the beginning and the options, as this task calls them."""
        score, others = "mean" if self.mean else "sum", "other tokens" if masked else "tokens before it"
        tie = (
            "of equal scores the option that stands first is chosen"
            if self.first_wins
            else "where the best scores are equal, a question counts as right in the share of the best that is right"
        )
        return (
            f"{what} An option is scored by the {score} of log p(token | all {others}) over its own tokens "
            f"({CONTEXTS['both-sides' if masked else self.context]}), "
            f"float32 log-probabilities summed in float64; a token that begins in what is given and reaches into the "
            f"option is scored. The option with the highest score is chosen; {tie}."
        )


def answers(
    subject: Subject,
    questions: Sequence[Question],
    protocol: ChoiceProtocol,
    name: str,
    progress: Progress | None = None,
) -> list[Answer]:
    """What the model chooses for every question.

    Where several options have the highest score, the first of them is chosen (`first_wins`), or the question counts
    for the share of them that is right. A masked model reads special tokens on both sides, and each scored token is
    masked in its turn. name: of the protocol, for messages. Raises FirstwordsError as `line_scores` does.
    """
    found: list[Answer] = []
    texts = sum(len(question.options) for question in questions)
    done = 0
    # One part at a time: its texts are held once, and the options of a question still share their beginning.
    for part in dict.fromkeys(question.part for question in questions):
        asked = [question for question in questions if question.part == part]
        scores = _scores(subject, asked, protocol, name)
        found += [_answer(question, own, protocol.first_wins) for question, own in zip(asked, scores, strict=True)]
        done += sum(len(question.options) for question in asked)
        if progress:
            progress(done, texts)
    return found


def _scores(
    subject: Subject, asked: Sequence[Question], protocol: ChoiceProtocol, name: str
) -> list[tuple[float, ...]]:
    owners = [question for question in asked for _ in question.options]
    texts = [question.given + option for question in asked for option in question.options]
    context: Context = "both-sides" if subject.masked else protocol.context
    lines = subject.reader.lines(texts, context, given=[len(owner.given) for owner in owners], name=name)
    scores = line_scores(
        subject, lines, mean=protocol.mean, describe=lambda number: f"{owners[number].place}: {texts[number][-80:]!r}"
    )
    borders = np.cumsum([len(question.options) for question in asked])[:-1]
    return [tuple(own.tolist()) for own in np.split(scores, borders)]


def _answer(question: Question, scores: tuple[float, ...], first_wins: bool) -> Answer:
    best = [number for number, score in enumerate(scores) if score == max(scores)]
    wins = best[:1] if first_wins else best
    return Answer(question, scores, best[0], (question.right in wins) / len(wins), len(best) > 1)


def accuracy(found: Sequence[Answer]) -> Measure:
    """Share of right answers with Wilson's 95% interval."""
    right = math.fsum(answer.share for answer in found)
    return Measure(right / len(found), *wilson(right, len(found)), len(found))


def mean_of(parts: Sequence[Measure]) -> Measure:
    """Mean of independent measures, their intervals combined.

    Source: Zou & Donner 2008, Construction of confidence limits about effect measures: a general approach.
    """
    known = [
        Interval(part.value, 0.0 if part.low is None else part.low, 1.0 if part.high is None else part.high)
        for part in parts
    ]
    found = combined(known)
    items = sum(part.items for part in parts)
    return Measure(found.estimate, max(0.0, found.low), min(1.0, found.high), items)


def rows_of(found: Sequence[Answer]) -> list[Mapping[str, Any]]:
    """One row a question, numbered within its part: what was chosen, whether it counts as right, and all scores."""
    numbers: dict[str, int] = {}
    rows: list[Mapping[str, Any]] = []
    for answer in found:
        part = answer.question.part
        number = numbers[part] = numbers.get(part, -1) + 1
        rows.append(
            {
                "uid": part,
                "id": f"{part}_{number}",
                "pred": answer.question.options[answer.chosen],
                "right": answer.share,
                "scores": json.dumps(answer.scores),
            }
        )
    return rows


def floors(questions: Sequence[Question]) -> dict[str, float]:
    """Accuracies that take no knowledge: choosing at random, and always the shortest option (in characters).

    Sums of log-probabilities favour short options, so that a model that knows nothing comes near the second.
    """
    random = math.fsum(1 / len(question.options) for question in questions)
    shortest = math.fsum(_shortest(question) for question in questions)
    return {"random": random / len(questions), "shortest option": shortest / len(questions)}


def _shortest(question: Question) -> float:
    lengths = [len(option) for option in question.options]
    best = [number for number, length in enumerate(lengths) if length == min(lengths)]
    return (question.right in best) / len(best)


def checksum(questions: Sequence[Question]) -> str:
    """SHA-256 of the questions themselves."""
    digest = hashlib.sha256()
    for question in questions:
        digest.update(json.dumps([question.part, question.given, *question.options, question.right]).encode())
    return digest.hexdigest()
