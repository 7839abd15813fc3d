"""The command that writes a run's page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from firstwords.cli.options import Json, Workspace
from firstwords.cli.printing import print_json


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
    from firstwords.models import surprisals_of
    from firstwords.report.page import write_report
    from firstwords.run_folder import find_run

    folder = find_run(run, workspace)
    written = write_report(folder, None if without_surprisals else surprisals_of(folder))
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


def _open(page: Path) -> None:
    import webbrowser

    if not webbrowser.open(page.absolute().as_uri()):
        print(f"no browser could be started; open {page.absolute()} yourself", file=sys.stderr)
