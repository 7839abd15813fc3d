"""What stands between the network and the page: who may ask, how much they may send, what browsers may do with answers.

A page on 127.0.0.1 is within reach of every web site that its user has open. So requests must name a host that is ours
(a name that an attacker points at 127.0.0.1, DNS rebinding, is none), and browsers must say that they come from this
page; a link that someone follows is the one exception, as it only shows a page.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from firstwords.web.refusal import Refusal, told

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY_BYTES = 64 * 1024
_BODY_SECONDS = 10.0
"""A request that is not whole by then is given up, so that slow senders hold nothing."""
_OURS = frozenset({"127.0.0.1", "localhost", "::1"})
_ANYWHERE = frozenset({"0.0.0.0", "::", ""})

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing but our own files, and nothing inline."""

_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "content-security-policy": PAGE_POLICY,
}
"""Of every answer, unless the answer says otherwise."""


def host_of(value: str) -> str | None:
    """`localhost` of `localhost:8000`, `::1` of `[::1]:8000`, in lower case; None for what names no host."""
    name, port = value, ""
    if value.startswith("["):
        name, bracket, port = value[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            return None
        port = port.removeprefix(":")
    elif ":" in value:
        name, _, port = value.partition(":")
    if not name or (port and not port.isdecimal()):
        return None
    return name.lower().rstrip(".")


class Guard:
    """The page behind its checks. bound: the host that it listens on, whose name is ours too."""

    def __init__(self, app: ASGIApp, *, bound: str = "127.0.0.1", names: Iterable[str] = ()) -> None:
        """names: more names of this machine, for a page that listens on all its addresses."""
        self._app = app
        self._hosts = _OURS | {bound.lower(), *(name.lower() for name in names)}
        # An address is no name that an attacker could point elsewhere.
        self._any_address = bound in _ANYWHERE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse before anything of the page has seen the request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        send = _with_headers(send)
        headers = _headers(scope)
        try:
            self._check_host(scope)
            _check_origin(scope["method"], headers)
            if scope["method"] not in ("GET", "HEAD"):
                _check_content(headers)
                receive = await _whole(receive, headers)
        except Refusal as refused:
            await _answer(send, refused)
            return
        await self._app(scope, receive, send)

    def _check_host(self, scope: Scope) -> None:
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        host = host_of(given[0]) if len(given) == 1 else None
        if host is None:
            raise Refusal(400, "the request names no host")
        if host not in self._hosts and not (self._any_address and _is_address(host)):
            raise Refusal(
                403,
                f"this page does not answer to the name '{host[:100]}'",
                where="the Host header",
                do="open it as http://127.0.0.1 with its port, or name the host with `firstwords serve --host`",
            )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _headers(scope: Scope) -> Mapping[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _check_origin(method: str, headers: Mapping[str, str]) -> None:
    """Refuse what another site's page asks; browsers tell it, and cannot be made not to."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None and origin not in (f"http://{headers['host']}", f"https://{headers['host']}"):
        raise _foreign("the Origin header")
    if site in (None, "same-origin", "none"):
        return
    followed = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    if method != "GET" or not followed:
        raise _foreign("the Sec-Fetch-Site header")


def _foreign(where: str) -> Refusal:
    return Refusal(403, "another site's page asked for this", where=where, do="open this page itself")


def _check_content(headers: Mapping[str, str]) -> None:
    # A form of another site cannot send this type without asking first.
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "the request is no JSON", where="the Content-Type header", do="send application/json")


async def _whole(receive: Receive, headers: Mapping[str, str]) -> Receive:
    """The request's body, read up to the limit, for the page to receive. Raises Refusal for a longer one."""
    too_long = Refusal(
        413,
        f"the request is longer than {MOST_BODY_BYTES // 1024} KiB",
        where="the request's body",
        do="send shorter sentences",
    )
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > MOST_BODY_BYTES:
        raise too_long
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise Refusal(400, "the request broke off")
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > MOST_BODY_BYTES:
                    raise too_long
    except TimeoutError:
        raise Refusal(408, "the request did not come to its end in time") from None
    held: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def again() -> Message:
        return held.pop() if held else await receive()

    return again


def _with_headers(send: Send) -> Send:
    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = {name.lower() for name, _ in message.get("headers", ())}
            more = [(k.encode(), v.encode()) for k, v in _HEADERS.items() if k.encode() not in own]
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await send(message)

    return sent


async def _answer(send: Send, refused: Refusal) -> None:
    body = json.dumps({"error": told(refused)}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        # What is left of the request is not read.
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
