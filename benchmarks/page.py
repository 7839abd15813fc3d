"""How long a pair of sentences takes from the playground's request to its answer, for a model of Model B's shape.

    python benchmarks/page.py --data DIR                 # 200 pairs of BLiMP, three rounds
    python benchmarks/page.py --data DIR --pairs 20 --rounds 1 --threads 1

DIR holds blimp/ and cards/b/tokenizer.json. A workspace with one run is made: Model B's settings and tokenizer, random
weights (66M parameters). `firstwords serve` runs as a process of its own, and a client asks it over one connection, one
pair at a time, as a person does who changes a word: both sentences, the surprisal of every word, the words of both
aligned. Every pair is another, so that nothing is remembered. Loading the model is told apart: it happens once.
Told are median, 95th percentile, least and most of all pairs, and the medians of the rounds. Prints JSON, and a line in
words to stderr. Run it on a quiet machine: other work is in the numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

RUN = "model-b"


def make_workspace(data: Path, workspace: Path) -> int:
    """One run with Model B's shape and random weights; its parameters."""
    from firstwords.model.llama import Llama
    from firstwords.recipe import Recipe
    from firstwords.run_folder import RunFolder
    from firstwords.tokens.tokenizer import Vocabulary
    from firstwords.training.checkpoints import Progress, checkpoint_files, write_checkpoint

    recipe, run = Recipe.load(RUN), RunFolder(workspace / RUN)
    tokenizer = run.stage("tokenizer")
    tokenizer.mkdir(parents=True)
    (run.path / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    shutil.copyfile(data / "cards" / "b" / "tokenizer.json", tokenizer / "tokenizer.json")
    names = {f"{kind}_token": getattr(recipe.tokenizer, kind) for kind in ("bos", "eos", "pad")}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    model = Llama(recipe.model, Vocabulary.load(tokenizer).size, seed=1)
    folder = run.stage("training") / "checkpoints" / recipe.training.select
    write_checkpoint(folder, checkpoint_files(model), Progress(0, 0))
    return sum(weight.numel() for weight in model.parameters())


def chosen_pairs(data: Path, count: int) -> list[tuple[str, str]]:
    """Pairs from all of BLiMP, the same each time."""
    from firstwords.data.download import cache_folder
    from firstwords.evaluation.pairs import load_suite

    every = load_suite("blimp", [data], cache_folder(), offline=True).pairs
    return [(pair.good, pair.bad) for pair in random.Random(1).sample(every, count)]


def ask(client: httpx.Client, pair: tuple[str, str]) -> float:
    """Milliseconds from the request to the whole answer."""
    started = time.perf_counter()
    answer = client.post("/api/score", json={"model": RUN, "sentences": pair})
    taken = 1000 * (time.perf_counter() - started)
    answer.raise_for_status()
    if len(answer.json()["sentences"]) != 2:
        sys.exit("the answer is not of both sentences")
    return taken


def spread(values: list[float]) -> dict[str, float]:
    """Median, 95th percentile, and both ends."""
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 1),
        "p95": round(ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))], 1),
        "least": round(ordered[0], 1),
        "most": round(ordered[-1], 1),
    }


def benchmark(given: argparse.Namespace, workspace: Path) -> dict[str, Any]:
    """Serve, load, ask."""
    parameters = make_workspace(given.data, workspace)
    pairs = chosen_pairs(given.data, given.pairs * given.rounds)
    command = [sys.executable, "-m", "firstwords", "serve", "--workspace", str(workspace), "--port", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": str(given.threads)}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    try:
        assert server.stdout is not None
        with httpx.Client(base_url=server.stdout.readline().strip(), timeout=300) as client:
            load = ask(client, ("A first sentence.", "Another sentence."))
            # The first few answers of a process are slower than the others.
            for pair in pairs[:5]:
                ask(client, pair)
            rounds = [
                [ask(client, pair) for pair in pairs[number * given.pairs : (number + 1) * given.pairs]]
                for number in range(given.rounds)
            ]
    finally:
        server.terminate()
        server.wait(timeout=30)
    return {
        "parameters": parameters,
        "pairs": len(pairs),
        "threads": given.threads,
        "load_and_first_ms": round(load, 1),
        "pair_ms": spread([taken for one in rounds for taken in one]),
        "medians_of_rounds_ms": [round(statistics.median(one), 1) for one in rounds],
        "versions": {name: version(name) for name in ("torch", "fastapi", "uvicorn")},
    }


def main() -> None:
    """Read the options, measure, tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with blimp/ and cards/b/tokenizer.json")
    parser.add_argument("--pairs", type=int, default=200, help="pairs of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as workspace:
        found = benchmark(given, Path(workspace))
    print(json.dumps(found, indent=1))
    one = found["pair_ms"]
    print(
        f"{found['parameters'] / 1e6:.0f}M parameters, {found['threads']} threads, {found['pairs']:,} pairs: a pair is "
        f"answered in {one['median']} ms (median; 95% within {one['p95']}, {one['least']} to {one['most']})",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
