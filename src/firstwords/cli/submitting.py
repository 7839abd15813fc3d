"""The command that writes what the BabyLM Challenge takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from firstwords.cli.options import Json, Workspace
from firstwords.cli.parsing import data_folders
from firstwords.cli.printing import print_columns, print_json

if TYPE_CHECKING:
    from firstwords.evaluation.submission import Submission
    from firstwords.run_folder import RunFolder


def submission(
    run: Annotated[
        str, Parameter(name="RUN", help="Name of a run in the workspace, or the path of its folder; or another model.")
    ],
    /,
    *,
    track: Annotated[
        Literal["strict-small", "strict"],
        Parameter(help="strict-small asks for 19 checkpoints up to 100 million words seen, strict for 28 up to 1,000."),
    ],
    to: Annotated[
        Path | None, Parameter(help="The file; submission-2025.strict-small.json in the run's folder otherwise.")
    ] = None,
    year: Annotated[int, Parameter(help="Of the challenge whose form it takes: 2025 or 2026.")] = 2025,
    partial: Annotated[bool, Parameter(help="Write it although something lacks.", show_default=False)] = False,
    data: Annotated[
        tuple[Path, ...],
        Parameter(
            help="Folder with the test sets that were evaluated: a submission repeats their sentences. May be given "
            "again. Those of $FIRSTWORDS_DATA come last.",
            show_default=False,
            consume_multiple=False,
        ),
    ] = (),
    workspace: Workspace = Path("runs"),
    json: Json = False,
) -> None:
    """Write the prediction file of the BabyLM Challenge from a run's results, checked for completeness."""
    from firstwords.data.download import cache_folder
    from firstwords.evaluation.submission import collect_submission, write_submission
    from firstwords.evaluation.tasks.task import Lookup

    found = _results_of(run, workspace)
    training = found.mark("training")
    made = collect_submission(
        found.stage("evaluation"),
        track,
        Lookup(data_folders(data), cache_folder(), offline=True),
        year=year,
        words_seen=training.facts.get("words_seen") if training else None,
    )
    path = to or found.path / f"submission-{year}.{track}.json"
    if not json:
        _print_states(made)
    write_submission(made, path, partial=partial)
    if json:
        print_json(
            {
                "path": str(path),
                "year": year,
                "track": track,
                "checkpoints": list(made.asked),
                "complete": not made.lacks,
                "lacks": made.lacks,
                "notes": list(made.notes),
            }
        )
    else:
        print(f"\n{'complete' if not made.lacks else 'partial'}: {path}")


def _print_states(made: Submission) -> None:
    """What there is of each task, and what it lacks."""
    rows = [("task", "predictions", "checkpoints", "")]
    for state in made.states:
        checkpoints = "" if state.checkpoints is None else f"{state.checkpoints} of {len(made.asked)}"
        lacks = "; ".join(state.lacks) or "complete"
        rows.append((state.key, f"{state.predictions:,}", checkpoints, lacks))
    print_columns(rows, right=(1, 2), wrap=True)
    for note in made.notes:
        print(note)


def _results_of(name: str, workspace: Path) -> RunFolder:
    """The run of that name, or the folder with the results of a model that no run made."""
    from firstwords.models import evaluated_folder, find_run_folder
    from firstwords.run_folder import find_run

    run = find_run_folder(name, workspace)
    if run is not None:
        return run
    other = evaluated_folder(name, workspace)
    return other if other.stage("evaluation").is_dir() else find_run(name, workspace)
