"""The command that opens the local page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from firstwords.cli.options import Workspace
from firstwords.cli.parsing import data_folders
from firstwords.errors import FirstwordsError

_HERE_ALONE = ("127.0.0.1", "localhost", "::1")


def serve(
    *,
    host: Annotated[
        str,
        Parameter(help="Address to listen on. Any but 127.0.0.1 lets others in, and the page asks for no password."),
    ] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on; 0 takes any that is free.")] = 8000,
    open_page: Annotated[
        bool, Parameter(name="--open", help="Show the page in the browser at once.", show_default=False)
    ] = False,
    data: Annotated[
        tuple[Path, ...],
        Parameter(
            help="Folder in which BLiMP and other test sets are looked for, whose pairs can be loaded. May be given "
            "again. Those of $FIRSTWORDS_DATA come last.",
            show_default=False,
            consume_multiple=False,
        ),
    ] = (),
    workspace: Workspace = Path("runs"),
) -> None:
    """Open a local page: the runs as they train, reports, comparisons, minimal pairs and next words to play with.

    It answers on this machine until Ctrl-C, downloads nothing, and writes
    nothing but reports that are asked for.
    """
    if not 0 <= port <= 65535:
        raise FirstwordsError(f"{port} is no port", where=f"--port {port}", do="give one from 0 to 65535")
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise FirstwordsError(
            f"the page needs the package {error.name}, which is not installed",
            where="firstwords serve",
            do="pip install 'firstwords[web]'",
        ) from None
    from firstwords.data.folders import check
    from firstwords.web.server import address_of, listen
    from firstwords.web.server import serve as answer

    folders = data_folders(data)
    check(folders)
    listening = listen(host, port)
    address = address_of(listening, host)
    if host not in _HERE_ALONE:
        print(f"warning: whoever reaches {host} can see these runs and use their models", file=sys.stderr)

    def ready() -> None:
        print(address, flush=True)
        print(f"the runs in {workspace.absolute()}, until Ctrl-C", file=sys.stderr, flush=True)
        if open_page:
            _open(address)

    try:
        answer(workspace, listening, host=host, data=folders, ready=ready)
    except KeyboardInterrupt:
        print("the page is closed", file=sys.stderr)


def _open(address: str) -> None:
    import webbrowser

    if not webbrowser.open(address):
        print(f"no browser could be started; open {address} yourself", file=sys.stderr)
