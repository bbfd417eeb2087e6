"""A real server on a port of this machine, and a client for it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna

from tests.waiting import until
from tuner.serve.app import StudyRegistry, application
from tuner.serve.auth import access
from tuner.serve.server import _config, _listen, _Server
from tuner.serve.studies import FolderSource, StudySource
from tuner.study.folder import StudyFolder, open_for_writing

TOKEN = "a-token-for-the-tests-0123456789"
SIGNED_IN = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Answered:
    """A response. The names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    """A running server."""

    registry: StudyRegistry
    port: int

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def cookies(self) -> list[dict[str, str]]:
        """What a browser has that is signed in."""
        cookie = f"quarterturn-{self.port}"
        session = access(TOKEN, "", self.port, loopback=True).session()
        return [{"name": cookie, "value": session, "url": self.url}]

    def ask(
        self, path: str, method: str = "GET", body: str | None = None, **headers: str
    ) -> Answered:
        """Ask for a path as it is, signed in unless an Authorization is given."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {**SIGNED_IN, **given})
        answer = connection.getresponse()
        said = answer.read().decode()
        connection.close()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answered(answer.status, names, said)

    @contextmanager
    def listening(self, path: str) -> Iterator[ReceivedEvents]:
        """Give what a stream of events says, as it comes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path, headers=SIGNED_IN)
        plug = connection.sock
        answer = connection.getresponse()
        assert (answer.status, answer.headers["content-type"]) == (
            200,
            "text/event-stream; charset=utf-8",
        )
        heard = ReceivedEvents()
        thread = threading.Thread(target=heard.follow, args=(answer,), daemon=True)
        thread.start()
        try:
            yield heard
        finally:
            with suppress(OSError):  # the server was first
                plug.shutdown(socket.SHUT_RDWR)
            thread.join(30)
            answer.close()
            connection.close()


@dataclass
class ReceivedEvents:
    """The events of a stream: its data, its other lines, and the current parts of the page."""

    lines: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    parts: dict[str, Any] = field(default_factory=dict)
    ended: bool = False

    def follow(self, answer: http.client.HTTPResponse) -> None:
        try:
            for line in answer:
                text = line.decode().rstrip("\n")
                if text.startswith("data: "):
                    event = json.loads(text.removeprefix("data: "))
                    self.parts.update(event)
                    self.events.append(event)
                elif text:
                    self.lines.append(text)
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            pass  # the connection was closed
        self.ended = True


@contextmanager
def server(
    folder: Path | None = None,
    source: StudySource | None = None,
    token: str | None = TOKEN,
    interval_s: float = 0.1,
    linger_s: float = 30.0,
    port: int = 0,
) -> Iterator[Served]:
    """Serve the studies of a folder, or of a source, from a thread."""
    if source is None:
        assert folder is not None
        source = FolderSource(folder)
    registry = StudyRegistry(source, interval_s=interval_s, linger_s=linger_s)
    listening = _listen("127.0.0.1", port)
    port = listening.getsockname()[1]
    running = _Server(
        _config(application(registry, access(token, "127.0.0.1", port, loopback=True))), registry
    )
    thread = threading.Thread(target=running.run, args=([listening],))
    thread.start()
    until(lambda: running.started or not thread.is_alive(), "the server has started")
    try:
        yield Served(registry, port)
    finally:
        running.should_exit = True
        thread.join(60)
        listening.close()
        assert not thread.is_alive()


@contextmanager
def written(home: StudyFolder) -> Iterator[tuple[optuna.Study, Callable[[], None]]]:
    """Open a study as the process that runs it; yield it, and a function that flushes to disk."""
    with home.locked(), open_for_writing(home, None) as storage:
        study = optuna.load_study(study_name=home.name, storage=storage)
        yield study, getattr(storage, "_backend", storage).flush
