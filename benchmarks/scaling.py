"""What grows how: a training step with width, depth, context and vocabulary, and the handling of a text with its size.

    python benchmarks/scaling.py                                 # all axes, about half an hour on two cores
    python benchmarks/scaling.py --axes context vocabulary

On each axis one setting changes, and all others are those of BASE; a step always has 4,096 tokens in packed rows. Ours
and Hugging Face's Trainer at its best take turns, as in benchmarks/training.py. Of the text, our stages `corpus`,
`tokenizer` and `tokens` (on the built-in grammar) are measured, each size in a process of its own. Told are medians,
the most memory, and `grows`: the exponent between the two largest sizes, 1 where twice the size takes twice the time.
Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import training

PEERS = ["trainer", "firstwords"]
TOKENS = 4_096
BASE = {"hidden": 256, "layers": 4, "context": 256, "vocabulary": 8_000}
AXES: dict[str, list[int]] = {
    "hidden": [128, 256, 512, 1_024],
    "layers": [2, 4, 8, 16],
    "context": [64, 256, 1_024],
    "vocabulary": [2_000, 8_000, 32_000],
    "text": [1, 4, 16],
}
"""Sizes on each axis; those of the text in megabytes."""
TEXT_STAGES = ("corpus", "tokenizer", "tokens")


def main() -> None:
    """Go along the axes; or be the process that handles a text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--axes", nargs="+", default=list(AXES), choices=list(AXES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="optimizer steps a turn")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--text", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.text is not None:
        print(json.dumps(handle_text(given.text)))
        return
    found: dict[str, Any] = {"base": BASE, "tokens_a_step": TOKENS, "rounds": given.rounds, "threads": os.cpu_count()}
    for axis in given.axes:
        measured = {size: at(axis, size, given) for size in AXES[axis]}
        ways = next(iter(measured.values()))
        found[axis] = {
            way: {size: one[way] for size, one in measured.items()}
            | {"grows": {name: exponent(measured, way, name) for name in ("seconds", "memory_mib")}}
            for way in ways
        }
    print(json.dumps(found, indent=1))


def at(axis: str, size: int, given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Seconds and memory of every way at one place of an axis."""
    print(f"{axis} {size:,}", file=sys.stderr, flush=True)
    if axis == "text":
        return texts(size, given)
    words = ["--model", "quickstart", "--steps", str(given.steps), "--device", given.device]
    words += [word for key, value in settings_at(axis, size).items() for word in ("--set", f"{key}={value}")]
    turns = argparse.Namespace(peers=PEERS, rounds=given.rounds, steps=given.steps, preload=None)
    measured = training.measure(words, turns)
    return {
        peer: {"seconds": measured[peer]["seconds_a_step"], "memory_mib": measured[peer]["peak_memory_mib"]}
        for peer in PEERS
    }


def settings_at(axis: str, size: int) -> dict[str, int]:
    """What is set in the recipe for one place of an axis."""
    shape = BASE | {axis: size}
    return {
        "model.hidden": shape["hidden"],
        "model.heads": max(1, shape["hidden"] // 64),
        "model.intermediate": 3 * shape["hidden"],
        "model.layers": shape["layers"],
        "model.positions": shape["context"],
        "tokens.context": shape["context"],
        "tokenizer.vocabulary": shape["vocabulary"],
        "training.batch-size": TOKENS // shape["context"],
    }


def texts(size: int, given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Medians of our own stages on a text of so many megabytes."""
    command = [sys.executable, __file__, "--text", str(size)]
    runs = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(given.rounds)]
    return {
        stage: {
            "seconds": round(statistics.median(run[stage] for run in runs), 3),
            "memory_mib": max(run["memory_mib"] for run in runs),
        }
        for stage in TEXT_STAGES
    }


def handle_text(megabytes: float) -> dict[str, float]:
    """Mix a text of the built-in grammar, learn a tokenizer from it, and encode it."""
    import firstwords

    recipe = firstwords.Recipe.load("quickstart").override({"corpus.budget": f"{megabytes} MB"})
    taken = {}
    with tempfile.TemporaryDirectory() as folder:
        for stage in TEXT_STAGES:
            started = time.perf_counter()
            firstwords.run(recipe, workspace=Path(folder), until=stage)
            taken[stage] = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return taken | {"memory_mib": memory}


def exponent(measured: dict[int, dict[str, dict[str, float]]], way: str, name: str) -> float:
    """How a cost grows between the two largest sizes: log of the costs' ratio over log of the sizes'."""
    (small, before), (large, after) = list(measured.items())[-2:]
    return round(math.log(after[way][name] / before[way][name]) / math.log(large / small), 2)


if __name__ == "__main__":
    main()
