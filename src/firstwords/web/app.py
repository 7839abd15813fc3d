"""The page as one ASGI application: its state, its routes behind the guard, and what it says where something fails."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from threading import Event

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from firstwords.errors import FirstwordsError
from firstwords.web import api, pages
from firstwords.web.desk import Desk, Queue
from firstwords.web.refusal import Refusal, status_of, told
from firstwords.web.rendering import page
from firstwords.web.runs import Board
from firstwords.web.security import Guard
from firstwords.web.suites import Shelf
from firstwords.web.workspace import Workspace

_log = logging.getLogger("firstwords.web")


@dataclass(frozen=True, slots=True)
class State:
    """What the routes share.

    slow: for reports and comparisons, which must not hold up the scoring. closing: set when the page shall end, so that
    answers without an end of their own come to one.
    """

    workspace: Workspace
    board: Board
    desk: Desk
    shelf: Shelf
    slow: Queue
    closing: Event


def make_app(
    workspace: Path,
    *,
    data: Sequence[Path] = (),
    bound: str = "127.0.0.1",
    names: Sequence[str] = (),
    closing: Event | None = None,
) -> Guard:
    """The page of a workspace.

    data: folders in which test sets are looked for. bound: the host that the page listens on. names: more names of it.
    closing: set it to end the answers that go on and on.
    """
    place = Workspace(workspace)
    slow = Queue("firstwords-slow", most_waiting=16)
    state = State(place, Board(place), Desk(place), Shelf(data), slow, closing or Event())
    # Nothing of FastAPI's own pages: their scripts come from elsewhere.
    app = FastAPI(title="firstwords", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_lifespan)
    app.state.page = state
    app.include_router(pages.router)
    app.include_router(api.router)
    app.add_exception_handler(FirstwordsError, _refused)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(HTTPException, _no_such_page)
    app.add_exception_handler(Exception, _fault)
    return Guard(app, bound=bound, names=names)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.page.desk.close()
    app.state.page.slow.close()


def _answer(request: Request, error: FirstwordsError, status: int) -> Response:
    """An error as a page where a page was asked for, and as JSON for scripts."""
    if request.url.path.startswith("/api/"):
        headers = {"retry-after": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
        return JSONResponse({"error": told(error)}, status_code=status, headers=headers)
    heading = "Not here" if status == HTTPStatus.NOT_FOUND else "That did not work"
    return HTMLResponse(page("error", room="", status=status, heading=heading, error=told(error)), status_code=status)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, FirstwordsError)
    return _answer(request, error, status_of(error))


async def _not_understood(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    # Of what was sent nothing is repeated: it may be long.
    where = ".".join(str(place)[:60] for place in first["loc"])
    refused = Refusal(422, f"the request is not understood: {first['msg'][:200]}", where=where)
    return _answer(request, refused, refused.status)


async def _no_such_page(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = {404: "there is no such page", 405: "this page does not take such requests"}
    refused = Refusal(error.status_code, what.get(error.status_code, "the request failed"), do="begin at the runs")
    return _answer(request, refused, refused.status)


async def _fault(request: Request, error: Exception) -> Response:
    first_line = (str(error).splitlines() or [""])[0][:200]
    _log.error("a fault of the page at %s", request.url.path[:200])
    refused = Refusal(
        500,
        f"a fault of firstwords, not yours: {type(error).__name__}: {first_line}",
        where="the traceback is where `firstwords serve` runs",
        do="please report it",
    )
    return _answer(request, refused, refused.status)
