"""The HTTP server of `quarterturn serve`: its address, its sign-in link, and its shutdown."""

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
from tuner.serve.studies import DatabaseSource, FolderSource, StudySource

# At shutdown, event streams end at once. Other responses have this long to complete.
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
        folder: the folder of the studies.
        named: whether the shown commands must name the folder.
        storage: the URL of a database to serve instead of the folder.
        host: the address to bind to.
        port: the port to bind to; 0 for any free one.
        token_file: the file with the token; see `tuner.serve.auth.find_token`.
        with_token: whether requests need a token. Without a token only this machine is served.
        interval_s: seconds between two reads of the storage.
        say: is called with each line of output.
        on_terminal: whether only the user reads the output. Then it contains a sign-in link.

    Raises:
        InvalidInput: the folder or database does not exist, the port is taken, or other machines
            could connect without a token.
    """
    source = _source(folder, storage)
    listener = _listen(host, port)
    try:
        address = listener.getsockname()
        loopback = ipaddress.ip_address(address[0]).is_loopback
        if not with_token and not loopback:
            raise InvalidInput(
                f"without a token only this machine may be served, got --host {host} and "
                "--no-token; leave out one of them"
            )
        token = find_token(token_file) if with_token else None
        shown = f"[{address[0]}]" if listener.family == socket.AF_INET6 else address[0]
        url = f"http://{'localhost' if loopback else shown}:{address[1]}/"
        registry = StudyRegistry(
            source,
            folder=str(folder) if named and not storage else None,
            database=storage is not None,
            interval_s=interval_s,
        )
        app = application(
            registry, access(token and token.text, host, address[1], loopback=loopback)
        )
        what = "the database" if storage else str(folder)
        say(f"serving the studies of {what} at {url}")
        if token and token.own and on_terminal:
            say(f"sign in: {url}#token={token.text}")
        elif token:
            say(f"sign in with the token {token.where}")
        if not loopback:
            say("the connection is not encrypted: use a network that you trust, or an HTTPS proxy")
        say("Ctrl-C ends it")
        with suppress(KeyboardInterrupt):  # uvicorn raises it again after its shutdown
            _Server(_config(app), registry).run([listener])
        say("ended; no study was changed")
    finally:
        listener.close()


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
    """Ends event streams at shutdown. uvicorn waits for responses, and streams never end."""

    def __init__(self, config: uvicorn.Config, registry: StudyRegistry) -> None:
        super().__init__(config)
        self._registry = registry

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._registry.end()
        await super().shutdown(sockets)


def _source(folder: Path, storage: str | None) -> StudySource:
    if storage is not None:
        return DatabaseSource(storage)
    if not folder.expanduser().is_dir():
        raise InvalidInput(
            f"the folder of the studies must exist to be served, got {str(folder)!r}; run a study "
            "first, or name another with --folder"
        )
    return FolderSource(folder)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError, UnicodeError) as error:
        code = getattr(error, "errno", None) or 0
        reason = os.strerror(code) if code > 0 else getattr(error, "strerror", None) or str(error)
        taken = code == errno.EADDRINUSE
        remedy = "choose another with --port" if taken else "check --host and --port"
        raise InvalidInput(
            f"the address must be free and local, got {host}:{port} ({reason}); {remedy}"
        ) from error
