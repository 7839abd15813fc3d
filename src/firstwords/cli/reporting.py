"""The command that writes a run's page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from firstwords.cli.options import Json, Workspace
from firstwords.cli.printing import print_json

if TYPE_CHECKING:
    from firstwords.report.page_pairs import SurprisalOf
    from firstwords.run_folder import RunFolder


def report(
    run: Annotated[str, Parameter(name="RUN", help="Name of a run in the workspace, or the path of its folder.")],
    /,
    *,
    open_page: Annotated[
        bool, Parameter(name="--open", help="Show the page in the browser at once.", show_default=False)
    ] = False,
    without_surprisals: Annotated[
        bool,
        Parameter(
            help="Do not load the model, which gives the surprisals of the pairs that are shown.", show_default=False
        ),
    ] = False,
    workspace: Workspace = Path("runs"),
    json: Json = False,
) -> None:
    """Write all that a run knows into one page, report.html, that needs no network, and its charts as files."""
    from firstwords.report.page import write_report
    from firstwords.run_folder import find_run

    folder = find_run(run, workspace)
    written = write_report(folder, None if without_surprisals else _surprisal_of(folder))
    for problem in written.problems:
        print(f"warning: {problem}", file=sys.stderr)
    if json:
        print_json(
            {
                "report": str(written.path),
                "bytes": written.size_bytes,
                "charts": [str(path) for path in written.charts],
                "problems": list(written.problems),
            }
        )
    else:
        print(written.path)
        if written.charts:
            print(f"{written.charts[0].parent}: {len(written.charts)} files of {len(written.charts) // 3} charts")
    if open_page:
        _open(written.path)


def _surprisal_of(run: RunFolder) -> SurprisalOf | None:
    """Asks the run's selected model, which is loaded when it is first asked; None where none was trained."""
    if run.mark("training") is None:
        return None
    subject = None

    def surprisals(texts: Sequence[str]) -> list[list[tuple[str, float | None]]]:
        from firstwords.evaluation.surprisal import Manner, score_texts
        from firstwords.models import open_run

        nonlocal subject
        subject = subject or open_run(run)
        return [
            _pieces(scored.text.text, [(unit.end, unit.bits) for unit in scored.tokens()])
            for scored in score_texts(subject, texts, Manner.of(subject))
        ]

    return surprisals


def _pieces(text: str, tokens: list[tuple[int, float | None]]) -> list[tuple[str, float | None]]:
    """The text cut after each token; tokens of one character are one piece, with the sum of their surprisals."""
    found: list[tuple[str, float | None]] = []
    start, waiting = 0, list[float | None]()
    for number, (after, bits) in enumerate(tokens, start=1):
        waiting.append(bits)
        end = len(text) if number == len(tokens) else after
        if end > start:
            known = [one for one in waiting if one is not None]
            found.append((text[start:end], sum(known) if known else None))
            start, waiting = end, []
    return found


def _open(page: Path) -> None:
    import webbrowser

    if not webbrowser.open(page.absolute().as_uri()):
        print(f"no browser could be started; open {page.absolute()} yourself", file=sys.stderr)
