"""Entity tracking: what does a box contain after things were put in, taken out and moved? Five options a question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstwords.errors import FirstwordsError
from firstwords.evaluation.babylm_counts import count_notes, fast_counts, full_counts
from firstwords.evaluation.pair_files import Row, json_rows, malformed
from firstwords.evaluation.pairs import complete_files
from firstwords.evaluation.subject import Progress, Subject
from firstwords.evaluation.tasks.choices import (
    ChoiceProtocol,
    Question,
    accuracy,
    answers,
    checksum,
    floors,
    mean_of,
    rows_of,
)
from firstwords.evaluation.tasks.task import Lookup, NotFound, TaskData, TaskResult

_SPLITS = ("ambiref", "move_contents", "regular")
_FAST_SPLITS = ("regular",)

_PROTOCOLS = {
    "firstwords": ChoiceProtocol("bos", first_wins=False),
    "babylm-2025": ChoiceProtocol("tokenizer", first_wins=True),
    "babylm-2026": ChoiceProtocol("tokenizer", first_wins=False),
}
_WHAT = (
    "Boxes and what was done with their contents are given, up to 'Box n contains'; five options go on from there. "
    "Overall is the mean over splits of the mean over numbers of operations of the accuracy."
)
_INTERVALS = (
    "Parts have Wilson's 95% interval; means combine those of their parts (Zou & Donner 2008), as were other questions "
    "drawn, each independent of the others."
)


@dataclass(frozen=True, slots=True)
class EntityTracking:
    """The full or the fast set."""

    name: str
    title: str
    splits: tuple[str, ...]
    license: str = "as BabyLM distributes it"
    citation: str = "Kim & Schuster 2023, Entity Tracking in Language Models, ACL; with options by BabyLM 2025"
    measures: str = "which of five descriptions of a box's contents is right: accuracy by number of operations"
    masked: bool = True

    @property
    def protocols(self) -> Mapping[str, str]:
        """The ways in which it can be measured."""
        return {
            "firstwords": "after BOS; equal best scores share the point",
            "babylm-2025": "as BabyLM's pipeline of 2025: BOS only where the tokenizer adds it; a tie is right",
            "babylm-2026": "as that of 2026: without the questions that have an option of 'nothing'; a tie shares",
        }

    def load(self, lookup: Lookup) -> TaskData:
        """The questions, in the order of their files. Raises NotFound, and FirstwordsError for a malformed line."""
        fast = self.splits == _FAST_SPLITS
        folder = _folder(self.name, lookup, fast)
        files = complete_files(self.name, folder, self.splits)
        questions = tuple(question for path in files for question in _questions(path))
        if not questions:
            raise FirstwordsError("the files have no question", where=str(folder), do="replace them")
        return TaskData(questions, str(folder), checksum(questions))

    def evaluate(self, subject: Subject, data: TaskData, protocol: str, progress: Progress | None = None) -> TaskResult:
        """Accuracy of each split and number of operations; see Task."""
        rules = _PROTOCOLS[protocol]
        questions: Sequence[Question] = data.items
        official = (full_counts if self.splits == _SPLITS else fast_counts)("entity_tracking")
        statement = rules.statement(_WHAT, masked=subject.masked)
        if protocol == "babylm-2026":
            questions = self._without_nothing(data)
            official = {
                part: count for part, count in full_counts("entity_tracking_filtered").items() if part in official
            }
            statement += " Questions with an option of 'nothing' are left out."
        found = answers(subject, questions, rules, protocol, progress)
        parts = {
            part: accuracy([answer for answer in found if answer.question.part == part])
            for part in sorted({question.part for question in questions})
        }
        splits = {
            split: mean_of([measure for part, measure in parts.items() if part.startswith(f"{split}_")])
            for split in self.splits
        }
        return TaskResult(
            metric="accuracy",
            statement=statement,
            overall=mean_of(list(splits.values())),
            parts=splits | parts,
            rows=rows_of(found),
            notes=count_notes((question.part for question in questions), official),
            more={
                "intervals": _INTERVALS,
                "floors": floors(questions),
                "ties": sum(answer.tie for answer in found),
            },
        )

    def _without_nothing(self, data: TaskData) -> list[Question]:
        """Questions without an option of 'nothing'. Raises FirstwordsError where a split has none left."""
        left = [question for question in data.items if not any("nothing" in one for one in question.options)]
        for split in self.splits:
            if not any(question.part.startswith(f"{split}_") for question in left):
                raise FirstwordsError(
                    f"every question of {split} has an option of 'nothing', and babylm-2026 leaves those out",
                    where=data.origin,
                    do="take the protocol firstwords or babylm-2025, or give the test set whole",
                )
        return left


def _folder(name: str, lookup: Lookup, fast: bool) -> Path:
    get = "take the folder entity_tracking of evaluation_data/full_eval from osf.io/ryjfm, and name it with --data"
    full = ("entity_tracking/", "entity-tracking/")
    try:
        names = ("entity_tracking_fast/", "entity-tracking-fast/") if fast else full
        return lookup.find(names, what=f"entity tracking ('{name}')", get=get)
    except NotFound:
        # The fast set is the split `regular` of the full set.
        if not fast:
            raise
        return lookup.find(full, what=f"entity tracking ('{name}')", get=get)


def _questions(path: Path) -> Iterator[Question]:
    for row in json_rows(path):
        options = _options(row)
        operations = row.number_of("numops")
        yield Question(f"{path.stem}_{operations:.0f}_ops", row.text("input_prefix"), options, 0, row.place)


def _options(row: Row) -> tuple[str, ...]:
    options: Any = row.values.get("options")
    if not isinstance(options, list) or len(options) < 2 or not all(isinstance(one, str) and one for one in options):
        raise malformed("the line has no list of options under 'options'", row.place)
    return tuple(options)


FULL = EntityTracking("entity-tracking", "entity tracking", _SPLITS)
FAST = EntityTracking(
    "entity-tracking-fast", "entity tracking, the fast set of BabyLM (the split 'regular')", _FAST_SPLITS
)
