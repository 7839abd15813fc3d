"""The tasks by name; each is one file of this folder, loaded when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from firstwords.errors import FirstwordsError, did_you_mean

if TYPE_CHECKING:
    from firstwords.evaluation.tasks.collection import Collection
    from firstwords.evaluation.tasks.task import PairsTask, Task

_TASKS = {
    "blimp": "blimp.BLIMP",
    "blimp-fast": "blimp.FAST",
    "blimp-filtered": "blimp.FILTERED",
    "supplement": "supplement.SUPPLEMENT",
    "supplement-fast": "supplement.FAST",
    "comps": "comps.COMPS",
    "ewok": "ewok.EWOK",
    "ewok-fast": "ewok.FAST",
    "ewok-2026": "ewok.OF_2026",
    "ewok-2026-fast": "ewok.FAST_OF_2026",
    "zorro": "zorro.ZORRO",
    "grammar": "grammar.GRAMMAR",
    "entity-tracking": "entity_tracking.FULL",
    "entity-tracking-fast": "entity_tracking.FAST",
    "wug-adj-nominalization": "wug.ADJECTIVES",
    "wug-past-tense": "wug.PAST_TENSE",
    "reading-times": "reading_times.TASK",
    "age-of-acquisition": "age_of_acquisition.TASK",
    "syntaxgym": "syntaxgym.TASK",
    "natural-stories": "natural_stories.TASK",
    "glue-boolq": "glue.BOOLQ",
    "glue-mnli": "glue.MNLI",
    "glue-mrpc": "glue.MRPC",
    "glue-multirc": "glue.MULTIRC",
    "glue-qqp": "glue.QQP",
    "glue-rte": "glue.RTE",
    "glue-wsc": "glue.WSC",
    "global-piqa-parallel": "global_piqa.PARALLEL",
    "global-piqa-nonparallel": "global_piqa.NONPARALLEL",
}
"""Where each task is: file and object."""

_COLLECTIONS = {
    "babylm-2025": "babylm_2025.COLLECTION",
    "babylm-2026": "babylm_2026.COLLECTION",
    "glue": "glue.COLLECTION",
}


def task_names() -> list[str]:
    """The names of all tasks."""
    return list(_TASKS)


def collection_names() -> list[str]:
    """The names of all collections of tasks."""
    return list(_COLLECTIONS)


def find_task(name: str) -> Task | PairsTask:
    """The task of that name. Raises FirstwordsError, with the nearest name, where there is none."""
    if name not in _TASKS:
        raise _unknown("test set", name, [*_TASKS, *_COLLECTIONS])
    task: Task | PairsTask = _object(_TASKS[name])
    return task


def find_collection(name: str) -> Collection:
    """The collection of that name. Raises FirstwordsError, with the nearest name, where there is none."""
    if name not in _COLLECTIONS:
        raise _unknown("collection of test sets", name, list(_COLLECTIONS))
    collection: Collection = _object(_COLLECTIONS[name])
    return collection


def _object(place: str) -> Any:
    module, name = place.split(".")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def _unknown(kind: str, name: str, known: list[str]) -> FirstwordsError:
    return FirstwordsError(
        f"there is no {kind} '{name}'",
        where="test sets: " + ", ".join(known),
        do=did_you_mean(name, known) or "name one of them; `firstwords evaluate --list` describes them",
    )
