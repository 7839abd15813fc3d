"""The report of a run: shown as `firstwords report` wrote it, or written now where nobody else writes the run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from firstwords.models import piece_surprisals
from firstwords.report.page import TEMPLATES, write_report
from firstwords.run_folder import RunFolder
from firstwords.web.refusal import Refusal
from firstwords.web.workspace import own_file

if TYPE_CHECKING:
    from firstwords.evaluation.subject import Subject


@dataclass(frozen=True, slots=True)
class ReportState:
    """Whether a run has a report, and whether the run has gone on since it was written."""

    there: bool
    stale: bool


def report_state(run: RunFolder) -> ReportState:
    """Of the run's report.html."""
    written = _changed(run.path / "report.html")
    if written is None:
        return ReportState(False, False)
    marks = [_changed(mark) or 0.0 for mark in (run.path / "done").glob("*.json")]
    return ReportState(True, max(marks, default=0.0) > written)


def read_report(run: RunFolder) -> bytes:
    """The page as it was written. Raises Refusal where there is none."""
    if not (run.path / "report.html").exists():
        raise Refusal(
            404,
            f"{run.name} has no report yet",
            where="its report.html",
            do=f"write it on the page of the run, or with `firstwords report {run.name}`",
        )
    return own_file(run, run.path / "report.html")


def report_policy() -> str:
    """What the report may do: show itself, and run our script alone, apart from this page.

    The file may be somebody else's. In its sandbox it has no origin, so that it could not ask anything of this page.
    """
    script = (TEMPLATES / "report.js").read_bytes()
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts allow-downloads allow-popups"
    )


def make_report(run: RunFolder, subject: Subject | None) -> Sequence[str]:
    """Write the report and return what could not be read. Raises FirstwordsError where another process has the run."""
    with run.locked():
        return write_report(run, partial(piece_surprisals, subject) if subject is not None else None).problems


def _changed(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
