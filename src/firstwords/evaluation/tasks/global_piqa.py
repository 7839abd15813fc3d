"""Global PIQA, English, as BabyLM 2026 takes it: which way of doing a thing works? Two or four solutions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from firstwords.errors import FirstwordsError
from firstwords.evaluation.babylm_counts import count_notes, full_counts
from firstwords.evaluation.pair_files import Row, json_rows, malformed
from firstwords.evaluation.subject import Progress, Subject
from firstwords.evaluation.tasks.choices import ChoiceProtocol, Question, accuracy, answers, checksum, floors, rows_of
from firstwords.evaluation.tasks.task import Lookup, TaskData, TaskResult

_PROTOCOLS = {
    "firstwords": ChoiceProtocol("bos", first_wins=False, mean=True),
    "babylm-2026": ChoiceProtocol("tokenizer", first_wins=False, mean=True),
}
_WHAT = "A task is given; its solutions go on from there after a space."


@dataclass(frozen=True, slots=True)
class GlobalPiqa:
    """The parallel or the non-parallel set."""

    name: str
    title: str
    license: str = "as its authors state (huggingface.co/datasets/mrlbenchmarks)"
    citation: str = "Chang et al. 2025, Global PIQA: Evaluating Physical Commonsense Reasoning Across 100+ Languages"
    measures: str = "which of two to four solutions of an everyday task works: accuracy"
    masked: bool = True

    @property
    def protocols(self) -> Mapping[str, str]:
        """The ways in which it can be measured."""
        return {
            "firstwords": "mean log-probability of a solution's tokens, after BOS; equal best scores share the point",
            "babylm-2026": "the same, with BOS only where the tokenizer adds it",
        }

    def load(self, lookup: Lookup) -> TaskData:
        """The questions. Raises NotFound, and FirstwordsError for a malformed line."""
        folder = self.name.replace("-", "_")
        path = lookup.find(
            (f"{folder}/eng_latn.jsonl",),
            what=self.title,
            get=f"take the folder {folder} of BabyLM 2026's evaluation data, and name it with --data",
        )
        questions = tuple(_questions(path))
        if not questions:
            raise FirstwordsError("the file has no question", where=str(path), do="replace it")
        return TaskData(questions, str(path), checksum(questions))

    def evaluate(self, subject: Subject, data: TaskData, protocol: str, progress: Progress | None = None) -> TaskResult:
        """Accuracy over all questions; see Task."""
        rules, key = _PROTOCOLS[protocol], self.name.replace("-", "_")
        # All as one part, so that they are scored together; the rows keep the names.
        together = [replace(question, part=key) for question in data.items]
        found = answers(subject, together, rules, protocol, progress)
        named = [replace(answer, question=question) for answer, question in zip(found, data.items, strict=True)]
        return TaskResult(
            metric="accuracy",
            statement=rules.statement(_WHAT, masked=subject.masked),
            overall=accuracy(found),
            parts={},
            rows=rows_of(named),
            notes=count_notes((key for _ in found), full_counts(key)),
            more={
                "floors": floors(together),
                "ties": sum(answer.tie for answer in found),
            },
        )


def _questions(path: Path) -> Iterator[Question]:
    first_at: dict[str, str] = {}
    for row in json_rows(path):
        name = str(row.values.get("example_id", row.number - 1))
        earlier = first_at.setdefault(name, row.place)
        if earlier != row.place:
            raise malformed(f"the example {name} was there before, at {earlier}", row.place)
        options = tuple(" " + solution for solution in _solutions(row))
        right = row.number_of("label")
        if right not in range(len(options)):
            raise malformed(f"the label {right:g} is none of the {len(options)} solutions", row.place)
        yield Question(name, row.text("prompt"), options, int(right), row.place)


def _solutions(row: Row) -> list[str]:
    found: list[str] = []
    while f"solution{len(found)}" in row.values:
        found.append(row.text(f"solution{len(found)}"))
    if len(found) < 2:
        raise malformed("the line has no two solutions (solution0, solution1, ...)", row.place)
    return found


PARALLEL = GlobalPiqa("global-piqa-parallel", "Global PIQA, parallel (English)")
NONPARALLEL = GlobalPiqa("global-piqa-nonparallel", "Global PIQA, non-parallel (English)")
