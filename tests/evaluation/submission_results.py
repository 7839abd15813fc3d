"""Test sets and results of official size, made up, for tests of BabyLM submissions."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from firstwords.evaluation.babylm_counts import fast_counts, full_counts
from firstwords.evaluation.pairs import Suite
from firstwords.evaluation.tasks import find_task
from firstwords.evaluation.tasks.task import Lookup

COMPS_FILES = {
    "base": "comps_base",
    "wugs": "comps_wugs",
    "wugs_dist_before": "comps_wugs_dist-before",
    "wugs_dist_in_between": "comps_wugs_dist-in-between",
}


def write_supplement(folder: Path, key: str = "blimp_supplement", name: str = "supplement_filtered") -> None:
    """The supplement, as large as officially."""
    for part, count in full_counts(key).items():
        rows = ({"sentence_good": f"{part} {n} is.", "sentence_bad": f"{part} {n} are."} for n in range(count))
        _write_lines(folder / name / f"{part}.jsonl", rows)


def write_data(folder: Path) -> None:
    """Minimal pairs in the official forms, as many as officially."""
    write_supplement(folder)
    write_supplement(folder, "blimp", "blimp_filtered")
    for part, count in full_counts("ewok").items():
        rows = (
            {"Domain": part, "Context1": f"c{n}.", "Context2": f"d{n}.", "Target1": f"t{n}.", "Target2": f"u{n}."}
            for n in range(count)
        )
        _write_lines(folder / "ewok_filtered" / f"{part}.jsonl", rows)
    for part, count in full_counts("comps").items():
        rows = (
            {"prefix_acceptable": f"A{n}", "prefix_unacceptable": f"B{n}", "property_phrase": "sings."}
            for n in range(count)
        )
        _write_lines(folder / "comps" / f"{COMPS_FILES[part]}.jsonl", rows)


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


ALL_PAIRS = {"blimp": "blimp-filtered", "blimp_supplement": "supplement", "ewok": "ewok", "comps": "comps"}


def write_results(data: Path, results: Path, checkpoints: Iterable[int], pairs: Mapping[str, str] = ALL_PAIRS) -> None:
    """Results of a final model and of its checkpoints, everything that a submission of 2025 asks for.

    pairs: keys and names of the test sets of minimal pairs that there are results of.
    """
    coin = random.Random(1)
    results.mkdir(parents=True)
    for task in pairs.values():
        suite = find_task(task).load(Lookup([data], Path("nowhere"), offline=True))
        assert isinstance(suite, Suite)
        rows = [(pair.uid, pair.pair_id, 0, 0, coin.choice(("good", "bad"))) for pair in suite.pairs]
        write_pairs(results, f"{task}.babylm-2025", rows, suite.sha256)
    write_items(results, "entity-tracking.babylm-2025", _choices("entity_tracking", coin, full_counts))
    write_items(results, "reading-times.babylm-2025", _reading(), parts={"self-paced": 0.01, "eye-tracking": 0.02})
    for name, count in full_counts("glue").items():
        labels = [{"uid": name, "id": f"{name}_{n}", "gold": 0, "pred": coin.randrange(2)} for n in range(count)]
        write_items(results, f"glue-{name}.babylm-2025", labels)
    for prefix in ("", *(f"words-{millions:04d}M." for millions in checkpoints)):
        for key, task in (("wug_adj", "wug-adj-nominalization"), ("wug_past", "wug-past-tense")):
            write_items(results, f"{prefix}{task}.babylm-2025", _forms(key), value=0.25)
        if not prefix:
            continue
        for key, task in (("blimp", "blimp-fast"), ("blimp_supplement", "supplement-fast"), ("ewok", "ewok-fast")):
            if key not in pairs:
                continue
            rows = [
                (part, str(n), 0, 0, coin.choice(("good", "bad", "tie")))
                for part, count in fast_counts(key).items()
                for n in range(count)
            ]
            write_pairs(results, f"{prefix}{task}.babylm-2025", rows, "0" * 64)
        write_items(
            results, f"{prefix}entity-tracking-fast.babylm-2025", _choices("entity_tracking", coin, fast_counts)
        )
        write_items(results, f"{prefix}age-of-acquisition.babylm-2025", _words())
        write_items(
            results, f"{prefix}reading-times.babylm-2025", _reading(), parts={"self-paced": 0.01, "eye-tracking": 0.02}
        )


def write_pairs(folder: Path, name: str, rows: Iterable[tuple[Any, ...]], sha256: str) -> None:
    """A result of minimal pairs, as `judging.write_evaluation` writes it."""
    lines = "".join(",".join(str(cell) for cell in row) + "\n" for row in rows)
    (folder / f"{name}.pairs.csv").write_text("uid,pair_id,good_score,bad_score,choice\n" + lines)
    (folder / f"{name}.json").write_text(json.dumps({"overall": {"accuracy": 0.5}, "data": {"sha256": sha256}}))


def write_items(
    folder: Path, name: str, rows: list[dict[str, Any]], value: float = 0.5, parts: Mapping[str, float] | None = None
) -> None:
    """A result of another task, as `tasks.task.write_task_result` writes it."""
    lines = "".join(",".join(str(cell) for cell in row.values()) + "\n" for row in rows)
    (folder / f"{name}.items.csv").write_text(",".join(rows[0]) + "\n" + lines)
    facts = {"overall": {"value": value}, "parts": {part: {"value": own} for part, own in (parts or {}).items()}}
    (folder / f"{name}.json").write_text(json.dumps(facts))


def _choices(key: str, coin: random.Random, counts: Any) -> list[dict[str, Any]]:
    return [
        {"uid": part, "id": f"{part}_{n}", "pred": f"option {n}.", "right": coin.randrange(2)}
        for part, count in counts(key).items()
        for n in range(count)
    ]


def _forms(key: str) -> list[dict[str, Any]]:
    (count,) = full_counts(key).values()
    return [{"uid": key, "id": f"{key}_{n}", "pred": "They wugged.", "prob": n / count} for n in range(count)]


def _words() -> list[dict[str, Any]]:
    # 328 words of the official data have 20 contexts; the others have fewer, and are not handed in.
    return [
        {"word": f"word{n}", "contexts": 20 if n < 328 else 7, "tokens": 1, "surprisal_bits": float(n)}
        for n in range(400)
    ]


def _reading() -> list[dict[str, Any]]:
    count = full_counts("reading")["reading"]
    return [
        {"line": n + 2, "surprisal_bits": 1.0 + n, "previous_surprisal_bits": "" if n == 0 else float(n)}
        for n in range(count)
    ]
