"""Whether the fast path learns what float32 learns: `python benchmarks/precision.py [--recipe model-a --data DIR]`.

Two paths train for some steps with each of some seeds: float32 as it is written, and bfloat16 compiled. A seed is the
same weights and batches for both. Told are, for the mean train loss of every 20 steps and for the dev loss at the end,
the largest difference between the paths of one seed, and the spread between seeds of the float32 path (its standard
deviation): the first is to be within the second. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

import firstwords
from firstwords.training.trackers import read_metrics

PATHS = {
    "float32": {"training.precision": "fp32", "training.compile": "false"},
    "fast": {"training.precision": "bf16", "training.compile": "true"},
}
MEAN_OVER = 20


def main() -> None:
    """Train every path with every seed, and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    train: dict[str, list[np.ndarray]] = {path: [] for path in PATHS}
    dev: dict[str, list[float]] = {path: [] for path in PATHS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1, given.seeds + 1):
            for path, settings in PATHS.items():
                changes = {"training.max-steps": str(given.steps), "seed": str(seed)} | settings
                recipe = firstwords.Recipe.load(given.recipe).override(changes)
                run = firstwords.run(
                    recipe, data=given.data, workspace=Path(folder), name=f"{path}-{seed}", until="training"
                )
                lines = read_metrics(run.path / "training" / "metrics.jsonl")
                losses = np.array([line["train_loss"] for line in lines if "train_loss" in line])
                train[path].append(losses[: len(losses) // MEAN_OVER * MEAN_OVER].reshape(-1, MEAN_OVER).mean(axis=1))
                dev[path].append([line["dev_loss"] for line in lines if "dev_loss" in line][-1])
                print(f"seed {seed}, {path}: dev loss {dev[path][-1]:.4f}", file=sys.stderr, flush=True)
    found = {
        "recipe": given.recipe,
        "steps": given.steps,
        "seeds": given.seeds,
        "train loss": compared(np.array(train["float32"]), np.array(train["fast"])),
        "dev loss": compared(np.array(dev["float32"])[:, None], np.array(dev["fast"])[:, None]),
    }
    print(json.dumps(found, indent=1))


def compared(slow_SK: np.ndarray, fast_SK: np.ndarray) -> dict[str, float]:
    """Differences of the paths and spread of the seeds. S seeds, K places of the curve."""
    difference_SK = np.abs(fast_SK - slow_SK)
    spread_K = slow_SK.std(axis=0, ddof=1)
    return {
        "largest difference of the paths": round(float(difference_SK.max()), 4),
        "mean difference of the paths": round(float(difference_SK.mean()), 4),
        "mean standard deviation of the seeds": round(float(spread_K.mean()), 4),
        "places where the mean difference is within the seeds' deviation": round(
            float((difference_SK.mean(axis=0) <= spread_K).mean()), 3
        ),
    }


if __name__ == "__main__":
    main()
