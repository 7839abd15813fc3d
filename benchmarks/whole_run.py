"""A recipe from text to report, stage by stage: `python benchmarks/whole_run.py --recipe model-b --data DIR`.

Every round is `firstwords run` in a workspace and a cache of its own, so that everything is made anew: the corpus, the
tokenizer, what is compiled, the model, its results. Words behind `--` go to the run, as in

    python benchmarks/whole_run.py --recipe model-b --data DIR -- --training.device cuda

Told are the seconds of the whole process and of its stages, medians and the whole spread, and what the run found.
Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scoring import spread


def main() -> None:
    """Make the runs, print what they took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("more", nargs="*", help="words for `firstwords run`, behind --")
    given = parser.parse_args()
    print(json.dumps(measure(given), indent=1))


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Seconds of every round, and the facts of the last."""
    words = [word for path in given.data for word in ("--data", str(path.resolve()))]
    command = [sys.executable, "-m", "firstwords", "run", given.recipe, *words, *given.more]
    whole: list[float] = []
    stages: dict[str, list[float]] = {}
    facts: dict[str, Any] = {}
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory() as folder:
            environment = dict(os.environ) | {"FIRSTWORDS_CACHE": str(Path(folder) / "cache")}
            started = time.perf_counter()
            # What the run says goes to stderr: stdout is the answer's.
            subprocess.run([*command, "--workspace", folder], env=environment, stdout=sys.stderr, check=True)
            whole.append(time.perf_counter() - started)
            for path in sorted(Path(folder).glob("*/done/*.json")):
                mark = json.loads(path.read_text())
                stages.setdefault(mark["stage"], []).append(mark["seconds"])
                facts[mark["stage"]] = mark["facts"]
    return {
        "command": " ".join(["firstwords", *command[3:]]),
        "rounds": given.rounds,
        "seconds": spread(whole, 1),
        "stages": {stage: spread(taken, 1) for stage, taken in stages.items()},
        "facts": facts,
    }


if __name__ == "__main__":
    main()
