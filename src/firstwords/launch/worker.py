"""One of several processes that train a run together.

`firstwords run RECIPE --on torchrun --processes 2` starts them, and so can torchrun itself, on several machines too,
once the run's tokens are made:

    firstwords tokenizer RECIPE
    torchrun --nproc-per-node 8 -m firstwords.launch.worker runs/RECIPE
    firstwords run RECIPE
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
import traceback
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from firstwords.errors import FirstwordsError
from firstwords.recipe import Recipe
from firstwords.reporter import Reporter, Silent
from firstwords.run_folder import RunFolder, atomic_write_json

LAUNCHED = "FIRSTWORDS_LAUNCHED"
"""Set where `firstwords` itself started the processes: it holds the run's lock and tells the user what went wrong."""

RESULT, PROBLEM = "processes-result.json", "processes-problem.json"
"""Files of the training folder in which the process that leads tells how it ended."""


def main() -> int:
    """Train the run that the command line names; the process's exit code."""
    if len(sys.argv) != 2:
        print("usage: torchrun --nproc-per-node N -m firstwords.launch.worker RUN", file=sys.stderr)
        return 2
    _end_with_the_launcher()
    run = RunFolder(Path(sys.argv[1]))
    rank, launched = int(os.environ.get("RANK", "0")), LAUNCHED in os.environ
    try:
        _train(run, leads=rank == 0, locks=rank == 0 and not launched)
        return 0
    except FirstwordsError as error:
        if launched and rank == 0:
            problem = {"what": error.what, "where": error.where, "do": error.do, "exit_code": error.exit_code}
            atomic_write_json(run.stage("training") / PROBLEM, problem)
        elif rank == 0:
            print(f"firstwords: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if _is_interruption(error):
            return 130
        # Where another process has died this one only heard of it; a file keeps what it heard.
        error_file(run, rank).write_text(traceback.format_exc())
        return 1


def error_file(run: RunFolder, rank: int) -> Path:
    """Where a process leaves the traceback of what it did not expect."""
    return run.stage("training") / f"process-{rank}.err"


def _end_with_the_launcher() -> None:
    """Linux sends SIGTERM when the process that started this one is gone: nobody else would hold the run's lock."""
    set_parent_death_signal = 1  # of <sys/prctl.h>
    if platform.system() == "Linux" and LAUNCHED in os.environ:
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def _train(run: RunFolder, *, leads: bool, locks: bool) -> None:
    from firstwords.tokens.tokenizer import Vocabulary
    from firstwords.training.loop import train

    if run.mark("tokens") is None:
        raise FirstwordsError(
            f"the run '{run.name}' has no tokens to train on",
            where=str(run.path),
            do="make them first: `firstwords tokenizer RECIPE`, then `firstwords train RECIPE` or this again",
        )
    recipe = Recipe.load(run.path / "recipe.toml")
    reporter: Reporter = Silent()
    with ExitStack() as stack:
        if locks:
            stack.enter_context(run.locked())
        if leads:
            from firstwords.report.terminal import reporter as terminal

            reporter = stack.enter_context(terminal())
        vocabulary = Vocabulary.load(run.stage("tokenizer")).size
        result = train(recipe, vocabulary, run.stage("tokens"), run.stage("training"), reporter=reporter)
        if leads:
            atomic_write_json(run.stage("training") / RESULT, asdict(result))


def _is_interruption(error: Exception) -> bool:
    loop = sys.modules.get("firstwords.training.loop")
    return loop is not None and isinstance(error, loop.Interrupted)


if __name__ == "__main__":
    sys.exit(main())
