"""What the page's scripts ask: surprisals, next words, pairs of test sets, reports, and events as they happen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from firstwords.errors import FirstwordsError
from firstwords.web import curves, words
from firstwords.web.comparing import compared
from firstwords.web.live import events
from firstwords.web.pairs import By, checked, score_pair
from firstwords.web.refusal import Refusal, told
from firstwords.web.rendering import page, part
from firstwords.web.reports import make_report
from firstwords.web.runs import Row

if TYPE_CHECKING:
    from firstwords.web.app import State

router = APIRouter(prefix="/api")
_MOST_LISTENERS = 32
_listeners: list[object] = []

Name = Annotated[str, Field(min_length=1, max_length=300)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PairAsked(_Asked):
    """Two sentences and who shall read them."""

    model: Name
    sentences: tuple[str, str]
    by: By = "word"


class NextAsked(_Asked):
    """A beginning and who shall go on."""

    model: Name
    text: str


class WritingAsked(NextAsked):
    """How it shall go on."""

    temperature: float = Field(0.7, ge=0, le=5, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0, le=1, allow_inf_nan=False)
    most_tokens: int = Field(60, ge=1, le=200)
    seed: int = Field(0, ge=0, le=2**31 - 1)


class ComparisonAsked(_Asked):
    """Two runs, and the suite and protocol that both were judged on."""

    a: Name
    b: Name
    result: Name


class ReportAsked(_Asked):
    """Whose report shall be written."""

    run: Name


def _state(request: Request) -> State:
    state: State = request.app.state.page
    return state


@router.get("/models")
async def models(request: Request) -> list[dict[str, Any]]:
    """The models of the workspace, and whether each answers at once."""
    state = _state(request)
    found = await asyncio.to_thread(state.workspace.models)
    return [
        {
            "name": model.name,
            "run": model.run.name,
            "checkpoint": model.checkpoint,
            "main": model.main,
            "loaded": state.desk.is_loaded(model),
        }
        for model in found
    ]


@router.post("/score")
async def score(request: Request, asked: PairAsked) -> dict[str, Any]:
    """Both sentences with the surprisals of their words, and which words stand beside each other."""
    desk = _state(request).desk
    first = checked(asked.sentences[0], "the first sentence")
    second = checked(asked.sentences[1], "the second sentence")
    subject = await desk.subject(asked.model)
    found = await desk.work.do(lambda: score_pair(subject, (first, second), asked.by))
    return {"model": asked.model} | asdict(found)


@router.post("/next")
async def next_words(request: Request, asked: NextAsked) -> dict[str, Any]:
    """The likeliest tokens after a text."""
    desk, text = _state(request).desk, _beginning(asked.text)
    subject = await desk.subject(asked.model)
    found = await desk.work.do(lambda: words.next_tokens(subject, text))
    return {"model": asked.model} | asdict(found)


@router.post("/write")
async def write(request: Request, asked: WritingAsked) -> StreamingResponse:
    """Text of a model while it is written: a JSON object a line, `text` for what is new, `ended` for why it ended."""
    desk, text, closing = _state(request).desk, _beginning(asked.text), _state(request).closing
    subject = await desk.subject(asked.model)
    manner = words.Manner(asked.temperature, asked.top_p, asked.most_tokens, asked.seed)
    writer = await desk.work.do(lambda: words.Writer(subject, text, manner))
    # Whether there is room in the queue must be known before the answer begins.
    first = await desk.work.do(writer.step)

    async def lines() -> AsyncIterator[str]:
        new = first
        try:
            while writer.ended is None and not closing.is_set() and not await request.is_disconnected():
                if new:
                    yield json.dumps({"text": new}) + "\n"
                new = await desk.work.do(writer.step)
            yield json.dumps({"text": new, "ended": writer.ended}) + "\n"
        except FirstwordsError as error:
            yield json.dumps({"error": told(error)}) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


def _beginning(text: str) -> str:
    # Nothing at all is a beginning too: the model then begins a text.
    return checked(text, "the beginning") if text.strip() else ""


@router.post("/compare")
async def compare(request: Request, asked: ComparisonAsked) -> dict[str, str]:
    """One run against another, pair by pair, as a part of a page."""
    state = _state(request)
    a, b = [await asyncio.to_thread(state.workspace.run, name) for name in (asked.a, asked.b)]
    if a.name == b.name:
        raise Refusal(422, "a run cannot be compared with itself", do="choose another for A or B")
    found = await state.slow.do(lambda: compared(a, b, asked.result))
    return {"html": page("compared", found=found)}


@router.post("/report")
async def report(request: Request, asked: ReportAsked) -> dict[str, Any]:
    """Write a run's report, where no other process writes the run."""
    state = _state(request)
    run = await asyncio.to_thread(state.workspace.run, asked.run)
    main = [model for model in await asyncio.to_thread(state.workspace.models) if model.run.name == run.name]
    # A report without surprisals is worth having where the model cannot be loaded.
    try:
        subject = await state.desk.subject(main[0].name) if main and run.mark("training") else None
    except FirstwordsError:
        subject = None
    try:
        problems = await state.slow.do(lambda: make_report(run, subject))
    except FirstwordsError as error:
        if isinstance(error, Refusal):
            raise
        raise Refusal(409, error.what, where=error.where, do=error.do) from error
    return {"run": run.name, "problems": list(problems)}


@router.get("/suites/{name}")
async def suite(request: Request, name: str) -> dict[str, Any]:
    """The paradigms of a test set with their phenomena and how many pairs each has."""
    found = await asyncio.to_thread(_state(request).shelf.get, name)
    return {
        "name": name,
        "title": found.title,
        "license": found.suite.license,
        "notes": found.suite.notes,
        "paradigms": [
            {"name": uid, "phenomenon": pairs[0].phenomenon, "pairs": len(pairs)}
            for uid, pairs in found.paradigms.items()
        ],
    }


@router.get("/suites/{name}/pair")
async def suite_pair(
    request: Request, name: str, paradigm: Annotated[str, Query(max_length=300)], number: Annotated[int, Query(ge=1)]
) -> dict[str, str]:
    """One pair of a test set. number: from 1."""
    found = await asyncio.to_thread(_state(request).shelf.get, name)
    pair = found.pair(paradigm, number - 1)
    return {"good": pair.good, "bad": pair.bad, "pair_id": pair.pair_id, "paradigm": pair.uid}


@router.get("/live")
async def live(request: Request, run: Annotated[str | None, Query(max_length=300)] = None) -> StreamingResponse:
    """What changes in the workspace, as server-sent events; with `run`, the parts of that run's page."""
    if len(_listeners) >= _MOST_LISTENERS:
        raise Refusal(503, "too many pages are open", do="close some of them")
    state = _state(request)
    board, workspace = state.board, state.workspace

    async def gone() -> bool:
        return state.closing.is_set() or await request.is_disconnected()

    def show(row: Row) -> Mapping[str, str]:
        if run is None:
            return {"row": part("run_row", row)}
        if row.name != run:
            return {}
        return {"now": part("now", row, curves.chart(board.losses(workspace.run(run))))}

    async def told_events() -> AsyncIterator[str]:
        token = object()
        _listeners.append(token)
        try:
            async for event in events(board, show, gone):
                yield event
        finally:
            _listeners.remove(token)

    return StreamingResponse(told_events(), media_type="text/event-stream")
