"""How long until a run has made its first step: `python benchmarks/startup.py --recipe model-b --data DIR`.

Everything counts from the start of the process: imports, compiling, loading the state, the step itself. Four ways take
turns:

  compiled anew   nothing is kept from before: what a first run of a model's shape pays
  second start    the same run stopped after a step and started again; compiled code is kept
  not compiled    training.compile = false
  trainer         Hugging Face's Trainer at its best on the same shape and batch, as in benchmarks/training.py

Corpus, tokenizer and tokens are made once before. Medians over the rounds; JSON on stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import firstwords

WAYS = ("compiled anew", "second start", "not compiled", "trainer")
PATIENCE = 600.0


def main() -> None:
    """Let the ways take turns, print the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(given, Path(folder))
    print(json.dumps(found, indent=1))


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds of every way, in turns."""
    data = [word for path in given.data for word in ("--data", str(path.resolve()))]
    command = [sys.executable, "-m", "firstwords", "run", given.recipe, *data, "--workspace", str(folder)]
    environment = dict(os.environ) | {"FIRSTWORDS_CACHE": str(folder / "cache")}
    recipe = firstwords.Recipe.load(given.recipe)
    name = firstwords.run(recipe, data=given.data, workspace=folder, until="tokens").path.name
    seconds: dict[str, list[float]] = {way: [] for way in given.ways}
    for turn in range(given.rounds):
        for way in given.ways:
            compile_ = [] if way == "trainer" else ["--training.compile", str(way != "not compiled").lower()]
            if way == "trainer":
                taken = trainer(given)
            else:
                if way == "compiled anew":
                    for kept in ("compiled", "kernels"):
                        shutil.rmtree(folder / "cache" / kept, ignore_errors=True)
                if way != "second start":
                    shutil.rmtree(folder / name / "training", ignore_errors=True)
                taken = until_first_step([*command, *compile_], folder / name / "training", environment)
            seconds[way].append(taken)
            print(f"{turn} {way}: {taken:.1f} s", file=sys.stderr, flush=True)
    medians = {
        way: {"seconds": round(statistics.median(taken), 1), "spread": [round(min(taken), 1), round(max(taken), 1)]}
        for way, taken in seconds.items()
    }
    return {"recipe": given.recipe, "rounds": given.rounds, "threads": os.cpu_count()} | medians


def until_first_step(command: list[str], training: Path, environment: dict[str, str]) -> float:
    """Seconds until a run has written the metrics of a step more; it is stopped then, and saves its state."""
    metrics = training / "metrics.jsonl"
    before = lines_of(metrics)
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while lines_of(metrics) <= before:
        if process.poll() is not None or time.monotonic() - started > PATIENCE:
            raise SystemExit(f"no step was made by: {' '.join(command)}")
        time.sleep(0.02)
    taken = time.monotonic() - started
    process.send_signal(signal.SIGTERM)
    process.wait()
    return taken


def lines_of(path: Path) -> int:
    """Lines in a file; 0 where it is not there yet."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def trainer(given: argparse.Namespace) -> float:
    """Seconds until Hugging Face's Trainer has made its first step."""
    script = Path(__file__).with_name("training.py")
    longest = firstwords.Recipe.load(given.recipe).model.positions
    words = [sys.executable, str(script), "--model", given.recipe, "--steps", "1", "--worker", "trainer"]
    words += ["--set", f"tokens.context={min(512, longest)}"]
    started = time.monotonic()
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
    )
    assert process.stdin and process.stdout
    process.stdin.write("go\n")
    if not process.stdout.readline():
        raise SystemExit(f"no step was made by: {' '.join(words)}")
    taken = time.monotonic() - started
    process.stdin.write("stop\n")
    process.stdin.close()
    process.wait()
    return taken


if __name__ == "__main__":
    main()
