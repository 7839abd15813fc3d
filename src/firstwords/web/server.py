"""Listening: one address that is ours before anything is loaded, and a server that ends when it is told to."""

from __future__ import annotations

import errno
import platform
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from types import FrameType

import uvicorn

from firstwords.errors import FirstwordsError
from firstwords.web.app import make_app

_WAITING_CONNECTIONS = 256
_MOST_AT_ONCE = 1_000


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 is any that is free. Raises FirstwordsError where it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        raise FirstwordsError(
            f"there is no host '{host}' to listen on",
            where=f"--host {host}",
            do="leave it out for this machine alone, or give 0.0.0.0 for all of its addresses",
        ) from None
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_WAITING_CONNECTIONS)
    except OSError as error:
        listening.close()
        raise _cannot_listen(host, port, error) from None
    return listening


def _cannot_listen(host: str, port: int, error: OSError) -> FirstwordsError:
    where = f"--host {host} --port {port}"
    if error.errno == errno.EADDRINUSE:
        return FirstwordsError(
            f"port {port} is taken by another program",
            where=where,
            do=f"give another, as in --port {port + 1 if port < 65535 else 8000}, or end the program that listens "
            "there: it may be this page already",
        )
    if error.errno == errno.EACCES:
        return FirstwordsError(
            f"this user may not listen on port {port}", where=where, do="give a port above 1023, as in --port 8000"
        )
    return FirstwordsError(
        f"nothing can listen on {host}: {error.strerror}", where=where, do="give an address of this machine"
    )


def address_of(listening: socket.socket, host: str) -> str:
    """The page's address, as one opens it on this machine."""
    port = listening.getsockname()[1]
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)
    return f"http://{f'[{name}]' if ':' in name and not name.startswith('[') else name}:{port}/"


def serve(
    workspace: Path, listening: socket.socket, *, host: str, data: Sequence[Path] = (), ready: Callable[[], None]
) -> None:
    """Answer until the process is told to stop. ready: called when the page answers."""
    closing = Event()
    app = make_app(workspace, data=data, bound=host, names=(platform.node(),), closing=closing)
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MOST_AT_ONCE,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
    )
    _Server(config, ready, closing).run(sockets=[listening])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], closing: Event) -> None:
        super().__init__(config)
        self._ready, self._closing = ready, closing

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Open pages listen for events for as long as they are open: they must be told to stop.
        self._closing.set()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()
