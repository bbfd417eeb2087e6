"""The server: its port, how to sign in, and its end."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn

from tuner.errors import InvalidInput
from tuner.serve.app import StudyRegistry, application
from tuner.serve.auth import access, find_token
from tuner.serve.studies import DatabaseShelf, FolderShelf, StudySource

# Streams end at once; an answer that is being made may take this long.
_LAST_ANSWERS_S = 3


def serve(
    *,
    folder: Path,
    named: bool,
    storage: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8270,
    token_file: Path | None = None,
    with_token: bool = True,
    interval_s: float = 1.0,
    say: Callable[[str], None] = print,
    on_terminal: bool = False,
) -> None:
    """Serve the studies of a folder or a database until Ctrl-C.

    Args:
        folder: of the studies; `named` says whether it has to be in the commands that are shown.
        storage: URL of a database to show instead of the folder.
        host: address to bind to; port: of it, 0 for any that is free.
        token_file: holds the token; see `tuner.serve.auth.find_token`.
        with_token: whether to ask for one; without, only this machine is answered.
        interval_s: between two looks at the storage.
        say: is told how to open the pages.
        on_terminal: whether only the user reads that, who may then be given a link that signs in.

    Raises:
        InvalidInput: the folder or database is not there, the port is taken, or everyone would be
            let in from other machines.
    """
    shelf = _shelf(folder, storage)
    listening = _bound(host, port)
    try:
        address = listening.getsockname()
        loopback = ipaddress.ip_address(address[0]).is_loopback
        if not with_token and not loopback:
            raise InvalidInput(
                f"without a token only this machine may be served, got --host {host} and "
                "--no-token; leave out one of them"
            )
        token = find_token(token_file) if with_token else None
        shown = f"[{address[0]}]" if listening.family == socket.AF_INET6 else address[0]
        url = f"http://{'localhost' if loopback else shown}:{address[1]}/"
        desk = StudyRegistry(
            shelf,
            folder=str(folder) if named and not storage else None,
            database=storage is not None,
            interval_s=interval_s,
        )
        app = application(desk, access(token and token.text, host, address[1], loopback=loopback))
        what = "the database" if storage else str(folder)
        say(f"serving the studies of {what} at {url}")
        if token and token.own and on_terminal:
            say(f"sign in: {url}#token={token.text}")
        elif token:
            say(f"sign in with the token {token.where}")
        if not loopback:
            say("nothing is encrypted on its way: use a network that you trust, or HTTPS in front")
        say("Ctrl-C ends it")
        with suppress(KeyboardInterrupt):  # uvicorn hands Ctrl-C on when it has stopped
            _Server(_config(app), desk).run([listening])
        say("ended; the studies are as they were")
    finally:
        listening.close()


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=_LAST_ANSWERS_S,
    )


class _Server(uvicorn.Server):
    """Ends streams before it waits for answers to end; these never would."""

    def __init__(self, config: uvicorn.Config, desk: StudyRegistry) -> None:
        super().__init__(config)
        self._desk = desk

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._desk.end()
        await super().shutdown(sockets)


def _shelf(folder: Path, storage: str | None) -> StudySource:
    if storage is not None:
        return DatabaseShelf(storage)
    if not folder.expanduser().is_dir():
        raise InvalidInput(
            f"the folder of the studies must exist to be served, got {str(folder)!r}; run a study "
            "first, or name another with --folder"
        )
    return FolderShelf(folder)


def _bound(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError, UnicodeError) as error:
        code = getattr(error, "errno", None) or 0
        reason = os.strerror(code) if code > 0 else getattr(error, "strerror", None) or str(error)
        taken = code == errno.EADDRINUSE
        remedy = "choose another with --port" if taken else "check --host and --port"
        raise InvalidInput(
            f"the address must be free and this machine's, got {host}:{port} ({reason}); {remedy}"
        ) from error
