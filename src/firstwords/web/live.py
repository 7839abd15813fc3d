"""What changes in the workspace, told to open pages as server-sent events while it happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from firstwords.errors import FirstwordsError
from firstwords.web.refusal import told
from firstwords.web.runs import Board, Row

LOOK_SECONDS = 1.0
_STILL_THERE_SECONDS = 15.0
"""A line without meaning is sent so often: a page that is gone is only noticed when something is sent."""


async def events(
    board: Board, show: Callable[[Row], Mapping[str, str]], gone: Callable[[], Awaitable[bool]]
) -> AsyncIterator[str]:
    """Events for one page until it is `gone`: a `run` for each that is new or changed, its name for each removed.

    show: the parts of the page that tell of a run, as HTML by their names; called in a thread.
    """
    before: dict[str, Row] | None = None
    trouble: FirstwordsError | None = None
    quiet_seconds = 0.0
    # A page that has lost its connection asks again after so many milliseconds.
    yield "retry: 2000\n\n"
    while not await gone():
        try:
            rows = {row.name: row for row in await asyncio.to_thread(board.rows)}
            new = [row for row in rows.values() if before is None or before.get(row.name) != row]
            parts = [await asyncio.to_thread(show, row) for row in new]
            trouble = None
        except FirstwordsError as error:
            # Such as a run that was removed just now: the next look tells.
            if trouble is None or trouble.what != error.what:
                yield _event("trouble", told(error))
            trouble, rows, new, parts = error, before or {}, [], []
        for row, html in zip(new, parts, strict=True):
            yield _event("run", {"name": row.name, "kind": row.kind, "state": row.state, "parts": html})
            quiet_seconds = 0.0
        for name in (before or {}).keys() - rows.keys():
            yield _event("removed", {"name": name})
        if before is None and trouble is None:
            yield _event("ready", {"names": list(rows)})
        before = rows if trouble is None else before
        await asyncio.sleep(LOOK_SECONDS)
        quiet_seconds += LOOK_SECONDS
        if quiet_seconds >= _STILL_THERE_SECONDS:
            yield ": still there\n\n"
            quiet_seconds = 0.0


def _event(kind: str, values: Mapping[str, object]) -> str:
    return f"event: {kind}\ndata: {json.dumps(values)}\n\n"
