"""Memory of a training, beside what `plan` predicts: `python benchmarks/memory.py [--data DIR]`.

Each case makes some steps in a process of its own, as benchmarks/training.py does. `measured_mb` is the most that the
process held less what it held before (Python and PyTorch), with --device cuda the most that PyTorch reserved there;
`predicted_mb` what model.cost says of it. --data names the folder with cards/, whose lines some cases train on; without
it they are left out. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import training
from firstwords.recipe import Recipe
from firstwords.training.devices import choose_device
from firstwords.training.memory import predicted_bytes

FLOAT32 = {"training.precision": "fp32"}
CASES: tuple[tuple[str, str, dict[str, str], int], ...] = (
    ("model-a", "lines", {}, 4_096),
    ("model-b", "lines", {}, 4_096),
    ("model-a", "packed", {}, 4_096),
    ("model-a", "packed", {"tokens.context": "64", "training.batch-size": "128"}, 4_096),
    ("model-a", "packed", {"training.gradient-checkpointing": "true"}, 4_096),
    ("model-b", "packed", {}, 1_024),
    ("model-b", "packed", {}, 2_048),
    ("model-b", "packed", {}, 4_096),
    ("model-a", "lines", FLOAT32, 4_096),
    ("model-b", "lines", FLOAT32, 4_096),
    ("model-a", "packed", FLOAT32, 2_048),
    ("model-a", "packed", FLOAT32, 4_096),
    ("model-a", "packed", FLOAT32 | {"training.gradient-checkpointing": "true"}, 4_096),
    ("model-b", "packed", FLOAT32, 1_024),
    ("model-b", "packed", FLOAT32, 4_096),
)
"""Recipe, rows, changes, and the most tokens that pass the model at once; a step's lines are fewer."""
MORE_OF_LINES = 10
"""Times as many steps: until kernels for most of their sizes are there."""
LARGER = {"model.hidden": "768", "model.layers": "12", "model.heads": "12"}
CUDA_CASES: tuple[tuple[str, str, dict[str, str], int], ...] = (
    ("model-a", "lines", {}, 32_768),
    ("model-b", "lines", {}, 32_768),
    ("model-a", "packed", {}, 32_768),
    ("model-b", "packed", {}, 32_768),
    ("model-b", "packed", LARGER, 32_768),
    ("model-b", "packed", {"training.gradient-checkpointing": "true"}, 32_768),
)
"""The same on a GPU, in packed steps of 64 rows."""


def main() -> None:
    """One case after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with cards/")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    given = parser.parse_args()
    on_gpu = given.device == "cuda"
    bare = 0.0 if on_gpu else bare_process_mb()
    found = []
    for name, rows, changes, micro_tokens in CUDA_CASES if on_gpu else CASES:
        if rows == "lines" and given.data is None:
            continue
        settings = changes | {"training.micro-tokens": str(micro_tokens)}
        steps = given.steps * (MORE_OF_LINES if rows == "lines" else 1)
        words = ["--model", name, "--rows", rows, "--steps", str(steps), "--device", given.device]
        words += ["--batch", "64"] if on_gpu and rows == "packed" else []
        words += ["--data", str(given.data)] if rows == "lines" else []
        words += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        turns = argparse.Namespace(peers=["firstwords"], rounds=1, steps=steps, preload=None)
        peak = training.measure(words, turns)["firstwords"]["peak_memory_mib"]
        case: dict[str, Any] = {"recipe": name, "rows": rows, "settings": settings}
        made = training.parser().parse_args(words)
        recipe = training.recipe_of(made)
        step_tokens = most_tokens(made, recipe, 2 * steps)
        predicted = predicted_mb(recipe, micro_tokens, step_tokens)
        measured = peak * 2**20 / 1e6 - bare
        case |= {
            "tokens": min(micro_tokens, step_tokens),
            "measured_mb": round(measured),
            "predicted_mb": round(predicted),
        }
        found.append(case | {"predicted_over_measured": round(predicted / measured, 2)})
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    print(json.dumps({"bare_process_mb": round(bare), "cases": found}, indent=1))


def most_tokens(made: argparse.Namespace, recipe: Recipe, steps: int) -> int:
    """Tokens of the largest of the first steps."""
    count = recipe.training.batch_size * recipe.training.accumulation
    if made.rows == "packed":
        return count * recipe.tokens.context
    lengths = [len(ids) for ids in training.examples(made, recipe)]
    return max(sum(lengths[step * count : (step + 1) * count]) for step in range(steps))


def predicted_mb(recipe: Recipe, micro_tokens: int, step_tokens: int) -> float:
    """What `plan` would say of such a training, without the process."""
    needed = predicted_bytes(
        *(recipe, recipe.tokenizer.vocabulary + 2, choose_device(recipe.training), micro_tokens),
        step_tokens=step_tokens,
        checkpointing=recipe.training.gradient_checkpointing is True,
    )
    return needed / 1e6


def bare_process_mb() -> float:
    """What a process holds that has imported the same and made no model."""
    code = "import resource, firstwords, torch, transformers, firstwords.training.loop as _; "
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    done: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    return int(done.stdout) * 1024 / 1e6


if __name__ == "__main__":
    main()
