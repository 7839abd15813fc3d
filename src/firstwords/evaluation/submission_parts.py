"""Results on disk as a BabyLM submission has them: predictions of the final model, accuracies at checkpoints."""

from __future__ import annotations

import csv
import io
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstwords.errors import FirstwordsError
from firstwords.evaluation.pairs import MinimalPair, Suite
from firstwords.run_folder import read_json, undamaged

_AOA_CONTEXTS = 20

Predictions = dict[str, dict[str, list[dict[str, Any]]]]
"""Name of a part -> {"predictions": [{"id": ..., "pred": ...}, ...]}, in the order of the test set."""


@dataclass(frozen=True, slots=True)
class StoredResult:
    """One result of a model: what its JSON file says, and the rows of its CSV file."""

    name: str
    facts: Mapping[str, Any]
    rows: Sequence[Mapping[str, str]]
    place: str

    def undamaged(self) -> AbstractContextManager[None]:
        """What reads the rows; a cell that is missing or no number is told as damage."""
        return undamaged(f"the table of the result '{self.name}'", self.place)

    def number(self, part: str | None = None) -> float:
        """The result's one number, or that of a part."""
        measure = self.facts["overall"] if part is None else self.facts["parts"][part]
        return float(measure["accuracy"] if "accuracy" in measure else measure["value"])


def stored_result(folder: Path, task: str, protocols: Sequence[str], checkpoint: str = "") -> StoredResult | None:
    """The result of a task under the first of `protocols` that there is one of; None where there is none.

    checkpoint: as in `words-0003M`; nothing for the final model.
    Raises FirstwordsError for a result whose files are damaged.
    """
    for protocol in protocols:
        name = f"{checkpoint}.{task}.{protocol}" if checkpoint else f"{task}.{protocol}"
        path = folder / f"{name}.json"
        if path.is_file():
            return _stored(name, path)
    return None


def _stored(name: str, path: Path) -> StoredResult:
    try:
        facts = read_json(path)
        table = next(
            table for ending in ("pairs", "items") if (table := path.with_name(f"{name}.{ending}.csv")).is_file()
        )
        rows = list(csv.DictReader(io.StringIO(table.read_text("utf-8"), newline="")))
        float(facts["overall"].get("accuracy", facts["overall"].get("value")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, StopIteration):
        raise FirstwordsError(
            f"the result '{name}' is damaged, or its table is missing",
            where=str(path),
            do="delete it and evaluate again",
        ) from None
    return StoredResult(name, facts, rows, str(table))


def pair_predictions(result: StoredResult, suite: Suite, *, completion: bool, tie_to_good: bool) -> Predictions:
    """The chosen sentence of each pair; `completion`: without what was given.

    tie_to_good: of equal scores the good sentence is chosen, as the pipeline of 2025 does; otherwise a coin is thrown,
    as in 2026, the same one each time. Raises FirstwordsError where the result is of other pairs than the suite.
    """
    same = result.facts.get("data", {}).get("sha256") == suite.sha256
    if not same or [(row["uid"], row["pair_id"]) for row in result.rows] != [
        (pair.uid, pair.pair_id) for pair in suite.pairs
    ]:
        raise FirstwordsError(
            f"the result '{result.name}' is of other pairs than those that are there now",
            where=suite.origin,
            do="name the folder that was evaluated with --data, or evaluate again",
        )
    found: Predictions = {}
    for row, pair in zip(result.rows, suite.pairs, strict=True):
        chosen = row["choice"]
        if chosen == "tie":
            heads = tie_to_good or zlib.crc32(f"{pair.uid} {pair.pair_id}".encode()) % 2 == 0
            chosen = "good" if heads else "bad"
        own = found.setdefault(pair.uid, {"predictions": []})["predictions"]
        own.append({"id": f"{pair.uid}_{len(own)}", "pred": chosen_text(pair, chosen, completion=completion)})
    return found


def chosen_text(pair: MinimalPair, chosen: str, *, completion: bool) -> str:
    """The good or the bad sentence; `completion`: without what was given before it. Raises ValueError for another."""
    if chosen not in ("good", "bad"):
        raise ValueError(f"'{chosen}' is no choice")
    text, given = (pair.good, pair.good_given) if chosen == "good" else (pair.bad, pair.bad_given)
    return text[given:] if completion else text


def pair_accuracies(result: StoredResult, *, tie: float) -> dict[str, float]:
    """Share of right pairs of each paradigm. tie: what equal scores count."""
    worth = {"good": 1.0, "bad": 0.0, "tie": tie}
    return _shares((row["uid"], worth[row["choice"]]) for row in result.rows)


def item_predictions(result: StoredResult, extra: Sequence[str] = ()) -> Predictions:
    """The rows of a task whose items have `uid`, `id` and `pred`. extra: columns of numbers that go with them."""
    found: Predictions = {}
    for row in result.rows:
        values = {"id": row["id"], "pred": row["pred"]} | {key: float(row[key]) for key in extra}
        found.setdefault(row["uid"], {"predictions": []})["predictions"].append(values)
    return found


def label_predictions(result: StoredResult) -> Predictions:
    """The rows of a task whose items have `uid`, `id` and the number of a label as `pred`."""
    found: Predictions = {}
    for row in result.rows:
        own = found.setdefault(row["uid"], {"predictions": []})["predictions"]
        own.append({"id": row["id"], "pred": int(row["pred"])})
    return found


def item_accuracies(result: StoredResult) -> dict[str, float]:
    """Share of right items of each part, of a task whose items have `uid` and `right`."""
    return _shares((row["uid"], float(row["right"])) for row in result.rows)


def _shares(judged: Any) -> dict[str, float]:
    parts: dict[str, list[float]] = {}
    for uid, right in judged:
        parts.setdefault(uid, []).append(right)
    return {uid: math.fsum(values) / len(values) for uid, values in parts.items()}


def reading_predictions(result: StoredResult) -> Predictions:
    """Surprisals in nats of each word and of the one before it; null where the data has no word before."""

    def nats(bits: str) -> float | None:
        return float(bits) * math.log(2) if bits else None

    return {
        "reading": {
            "predictions": [
                {"id": number, "pred": nats(row["surprisal_bits"]), "prev_pred": nats(row["previous_surprisal_bits"])}
                for number, row in enumerate(result.rows)
            ]
        }
    }


def aoa_surprisals(result: StoredResult, millions: int) -> list[dict[str, Any]]:
    """Surprisals in nats of the words that have 20 contexts, one for each context, though BOS alone stands before them.

    Source: AoA_word of github.com/babylm/evaluation-pipeline-2025, whose count of words in context is that of these.
    """
    return [
        {
            "step": f"chck_{millions}M",
            "word_count": millions * 1_000_000,
            "target_word": row["word"],
            "context_id": context,
            "context": "BOS_ONLY",
            "surprisal": float(row["surprisal_bits"]) * math.log(2),
        }
        for row in result.rows
        if int(row["contexts"]) >= _AOA_CONTEXTS
        for context in range(int(row["contexts"]))
    ]


def reading_shares(result: StoredResult) -> dict[str, float]:
    """Shares of variance: `spr` self-paced reading, `rt` eye tracking."""
    return {"spr": result.number("self-paced"), "rt": result.number("eye-tracking")}


def counts_of(predictions: Mapping[str, Any]) -> dict[str, int]:
    """How many predictions each part has."""
    return {part: len(found["predictions"]) for part, found in predictions.items()}


def rows_by_part(result: StoredResult) -> dict[str, int]:
    """How many rows of a result each part has."""
    found: dict[str, int] = {}
    for row in result.rows:
        found[row["uid"]] = found.get(row["uid"], 0) + 1
    return found


def compact_json(value: Any) -> str:
    """One line of JSON. Raises FirstwordsError (exit code 3) for a number that is not finite."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError:
        raise FirstwordsError(
            "a result holds a number that is not finite", do="delete the result and evaluate again", exit_code=3
        ) from None
