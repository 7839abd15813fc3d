"""From the words of a command line to an exit code: parsing, and one clear message for whatever goes wrong.

Exit codes: 0 done; 1 a fault of firstwords itself; 2 input that cannot be used; 3 a result that must not be believed;
130 stopped by the user.
"""

from __future__ import annotations

import gc
import os
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cyclopts import App, CycloptsError, Group, Parameter

from firstwords.cli import (
    comparing,
    evaluating,
    exporting,
    recipes,
    reporting,
    results,
    running,
    scoring,
    serving,
    submitting,
)
from firstwords.cli.parsing import explain, split_settings, unknown_command
from firstwords.cli.printing import use_utf8
from firstwords.errors import FirstwordsError

if TYPE_CHECKING:
    from types import TracebackType

_RECIPES = Group("Recipes: what to do", sort_key=1)
_RUNS = Group("Runs: do it", sort_key=2)
_STAGES = Group("Stages: do it up to there", sort_key=3)
_MEASURES = Group("Measures: what grammar it learnt", sort_key=4)
_RESULTS = Group("Results: what came of it", sort_key=5)


def _version() -> str:
    from importlib.metadata import version

    return version("firstwords")


app = App(
    name="firstwords",
    help="Train small language models from little text, and know what grammar they learnt.\n\n"
    "Begin with `firstwords quickstart`: from text to a tested model in a few minutes, no download.",
    version=_version,
    default_parameter=Parameter(negative=()),
    help_format="plaintext",
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
    suppress_keyboard_interrupt=False,
    group_commands=Group("Help", sort_key=9),
)
for _group, _commands in {
    _RECIPES: (recipes.recipes, recipes.new, recipes.schema, recipes.plan, recipes.doctor),
    _RUNS: (running.quickstart, running.run),
    _STAGES: (running.corpus, running.tokenizer, running.train, exporting.export),
    _MEASURES: (evaluating.evaluate, scoring.score, comparing.compare, submitting.submission),
    _RESULTS: (results.runs, results.show, reporting.report, results.generate, serving.serve),
}.items():
    for _place_in_help, _command in enumerate(_commands):
        app.command(_command, group=_group, sort_key=_place_in_help)


def command_names() -> list[str]:
    """The commands, without `--help` and `--version`."""
    return [name for name in app if not name.startswith("-")]


def collect_seldom() -> None:
    """Look for garbage after 100,000 new objects, not after every 700 (of the whole process).

    Most objects stay: they are modules and rows of test sets. To look through them took an eighth of the time to a
    training's first step.
    """
    gc.set_threshold(100_000, 20, 20)


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line (without the program's name) and return its exit code."""
    use_utf8()
    collect_seldom()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        _carry_out(words)
        sys.stdout.flush()
    except FirstwordsError as error:
        return _complain(error)
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt as stop:
        return _stopped(str(stop), words)
    except OSError as error:
        return _complain(_file_problem(error))
    except Exception as error:
        if _is_interruption(error):
            return _stopped(str(error), words)
        if os.environ.get("FIRSTWORDS_DEBUG") == "1":
            raise
        return _complain(_fault(error, words))
    return 0


def _carry_out(words: list[str]) -> None:
    if words and not words[0].startswith("-") and words[0] not in command_names():
        raise unknown_command(words, command_names())
    rest, settings = split_settings(words, running.TAKE_SETTINGS)
    try:
        command, bound, ignored = app.parse_args(rest)
    except CycloptsError as error:
        raise explain(error, words, words[0] if words[0] in running.TAKE_SETTINGS else None) from None
    given: dict[str, Any] = {"settings": settings} if "settings" in ignored else {}
    command(*bound.args, **bound.kwargs, **given)


def _complain(error: FirstwordsError) -> int:
    sys.stdout.flush()
    print(f"firstwords: {error}", file=sys.stderr, flush=True)
    return error.exit_code


def _stopped(when: str, words: list[str]) -> int:
    kept = {"score": "", "evaluate": "; the same command begins the interrupted test set again"}
    told = (when or "stopped") + kept.get(words[0] if words else "", "; the same command goes on")
    print(f"firstwords: {told}", file=sys.stderr, flush=True)
    return 130


def _is_interruption(error: Exception) -> bool:
    # Where it was raised its module, which needs torch, is loaded already; nothing else needs to load it.
    loop = sys.modules.get("firstwords.training.loop")
    return loop is not None and isinstance(error, loop.Interrupted)


def _file_problem(error: OSError) -> FirstwordsError:
    return FirstwordsError(
        f"a file cannot be used: {error.strerror or error}",
        where=str(error.filename or "unknown file"),
        do="free space or mend the path or its permissions, and run again: it goes on where it stopped",
    )


def _fault(error: Exception, words: list[str]) -> FirstwordsError:
    """A fault of firstwords: a short message, and the traceback in a file, so that no long run must be repeated."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile(
        *("w", -1, "utf-8"), prefix="firstwords-fault-", suffix=".txt", delete=False, errors="backslashreplace"
    ) as file:
        file.write(f"firstwords {_version()}: {shlex.join(words)}\n\n{''.join(traceback.format_exception(error))}")
    first_line = (str(error).splitlines() or [""])[0]
    return FirstwordsError(
        f"a fault of firstwords, not yours: {type(error).__name__}: {first_line}",
        where=f"{_place(error.__traceback__)}; the whole traceback is in {file.name}",
        do="please report it with that file; FIRSTWORDS_DEBUG=1 shows the traceback at once",
        exit_code=1,
    )


def _place(traceback: TracebackType | None) -> str:
    place = "unknown place"
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if "firstwords" in code.co_filename:
            place = f"{code.co_filename}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place
