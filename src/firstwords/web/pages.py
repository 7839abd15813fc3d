"""The pages that a person opens: runs, one run and its report, runs side by side, and the two playgrounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from firstwords.errors import FirstwordsError
from firstwords.report.results import accuracy_tables
from firstwords.report.summary import LOSS_LEGEND, RunSummary, facts_table, summarize
from firstwords.run_folder import RunFolder
from firstwords.web import curves
from firstwords.web.comparing import MOST_RUNS, common_results
from firstwords.web.pairs import MOST_CHARACTERS
from firstwords.web.refusal import Refusal
from firstwords.web.rendering import page, static_files
from firstwords.web.reports import read_report, report_policy, report_state
from firstwords.web.runs import Board
from firstwords.web.workspace import Workspace

if TYPE_CHECKING:
    from firstwords.web.app import State

router = APIRouter()
_READ_ERRORS = (FirstwordsError, OSError, ValueError, LookupError, TypeError, AttributeError)
Found = TypeVar("Found")


def _state(request: Request) -> State:
    state: State = request.app.state.page
    return state


@router.get("/", response_class=HTMLResponse)
async def runs(request: Request) -> str:
    """The table of runs."""
    state = _state(request)
    rows = await asyncio.to_thread(state.board.rows)
    return page("runs", room="/", rows=rows, workspace=str(state.workspace.path))


@router.get("/runs/{name}", response_class=HTMLResponse)
async def run(request: Request, name: str) -> str:
    """One run."""
    state = _state(request)
    return await asyncio.to_thread(_run_page, state.workspace, state.board, name)


def _run_page(workspace: Workspace, board: Board, name: str) -> str:
    found = workspace.run(name)
    row = next((row for row in board.rows() if row.name == name), None)
    if row is None:
        raise Refusal(404, f"the run '{name}' was just removed")
    problems: list[str] = []
    summary = _read(lambda: summarize(found), problems, found)
    return page(
        "run",
        room="/",
        row=row,
        curve=curves.chart(board.losses(found)),
        report=report_state(found),
        models=[model for model in workspace.models() if model.run.name == name],
        facts=_read(lambda: facts_table([summary]), problems, found) or [] if summary else [],
        accuracies=_read(lambda: accuracy_tables([summary]), problems, found) or {} if summary else {},
        problem=problems[0] if problems else "",
    )


@router.get("/runs/{name}/report")
async def report(request: Request, name: str) -> Response:
    """A run's report, as `firstwords report` wrote it."""
    found = await asyncio.to_thread(_state(request).workspace.run, name)
    text = await asyncio.to_thread(read_report, found)
    return HTMLResponse(text, headers={"content-security-policy": report_policy()})


@router.get("/runs/{name}/charts/{drawing}")
async def chart(request: Request, name: str, drawing: str) -> Response:
    """One chart of a report as a file."""
    workspace = _state(request).workspace
    found = await asyncio.to_thread(workspace.run, name)
    data, kind = await asyncio.to_thread(workspace.drawing, found, drawing)
    # Opened by itself, a drawing is a document, which must run nothing.
    policy = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
    return Response(data, media_type=kind, headers=policy)


@router.get("/compare", response_class=HTMLResponse)
async def compare(request: Request, run: Annotated[list[str] | None, Query()] = None) -> str:
    """Chosen runs side by side."""
    state, names = _state(request), list(dict.fromkeys(run or ()))
    if not names:
        raise Refusal(422, "no run is chosen", do="choose two or more of the table of runs")
    if len(names) > MOST_RUNS:
        raise Refusal(422, f"{len(names)} runs are chosen, and {MOST_RUNS} are the most", do="choose fewer")
    return await asyncio.to_thread(_compare_page, state.workspace, state.board, names)


def _compare_page(workspace: Workspace, board: Board, names: list[str]) -> str:
    runs = [workspace.run(name) for name in names]
    problems: list[str] = []
    read = [_read(lambda run=run: summarize(run), problems, run) for run in runs]  # type: ignore[misc]
    summaries: list[RunSummary] = [one for one in read if one is not None]
    models = {model.run.name: model.name for model in workspace.models() if model.main}
    return page(
        "compare",
        room="/",
        names=names,
        problems=problems,
        models=[models[name] for name in names if name in models],
        common=_or_nothing(lambda: common_results(runs), problems),
        curve=curves.beside({run.name: board.losses(run) for run in runs}),
        facts=facts_table(summaries) if summaries else [[""]],
        losses_told=any(summary.dev_losses for summary in summaries),
        legend=LOSS_LEGEND,
        accuracies=accuracy_tables(summaries),
    )


@router.get("/pairs", response_class=HTMLResponse)
async def pairs(request: Request) -> str:
    """The playground of minimal pairs."""
    titles = await asyncio.to_thread(_state(request).shelf.titles)
    return page("pairs", room="/pairs", most=MOST_CHARACTERS, suites=titles)


@router.get("/words", response_class=HTMLResponse)
async def words(request: Request) -> str:
    """Next words and what models write."""
    return page("words", room="/words", most=MOST_CHARACTERS)


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """A file of the page itself."""
    if name not in static_files():
        raise Refusal(404, "there is no such file")
    data, kind = static_files()[name]
    return Response(data, media_type=kind, headers={"cache-control": "no-cache"})


def _read(read: Callable[[], Found], problems: list[str], run: RunFolder) -> Found | None:
    """What is read of a run; None, and a problem more, where its files are damaged or just being replaced."""
    try:
        return read()
    except _READ_ERRORS as error:
        problems.append(f"{run.name} cannot be read: {getattr(error, 'what', None) or type(error).__name__}")
        return None


def _or_nothing(read: Callable[[], list[Any]], problems: list[str]) -> list[Any]:
    try:
        return read()
    except _READ_ERRORS as error:
        problems.append(f"The results cannot be read: {getattr(error, 'what', None) or type(error).__name__}")
        return []
