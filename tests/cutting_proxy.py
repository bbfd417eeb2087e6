"""What stands between a client and its PostgreSQL server, and cuts the line when it is told to."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal

from sqlalchemy.engine import make_url

# Where the line is cut at a COMMIT: before the server gets it; before, but it gets it when the
# client has come back and waits for a lock; as soon as it is on its way; when it is answered.
Cut = Literal["not passed on", "passed on late", "passed on", "answered"]
CUTS: tuple[Cut, ...] = ("not passed on", "passed on late", "passed on", "answered")


class CuttingProxy:
    """Passes on what both say, from a port of this machine to the server's socket.

    Attributes:
        cuts: how often it has cut the line at a COMMIT.
    """

    def __init__(self, server: Path) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._is_open = True
        self._armed: tuple[bytes, Cut] | None = None
        self._lock_wanted = threading.Event()
        self._not_answered: socket.socket | None = None
        self._answered = threading.Event()
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, url: str) -> str:
        """Return the URL by which a database of the server is reached through this."""
        port = self._listener.getsockname()[1]
        there = make_url(url).difference_update_query(["host"]).set(host="127.0.0.1", port=port)
        return there.render_as_string(hide_password=False)

    def cut_at_commit(self, of: bytes, cut: Cut) -> None:
        """Cut the line once, at the end of the next transaction in which a client says `of`."""
        self._answered.clear()
        self._armed = (of, cut)

    def close(self) -> None:
        """Cut all lines, and let nobody in."""
        self._is_open = False
        for pair in self._pairs:
            _hang_up(*pair)

    def open(self) -> None:
        self._is_open = True

    def end(self) -> None:
        self.close()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    if not self._is_open:
                        raise ConnectionRefusedError
                    server.connect(str(self._server))
                except OSError:
                    _hang_up(client, server)
                    continue
                self._pairs.append((client, server))
                for talk in (self._client_talks, self._server_talks):
                    threading.Thread(target=talk, args=(client, server), daemon=True).start()

    def _server_talks(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while said := server.recv(65536):
                if client is self._not_answered:
                    self._answered.set()
                    break
                client.sendall(said)
        _hang_up(client, server)

    def _client_talks(self, client: socket.socket, server: socket.socket) -> None:
        transaction = b""
        with suppress(OSError):
            while said := client.recv(65536):
                transaction += said
                if b"FOR UPDATE" in said:
                    self._lock_wanted.set()
                if said.startswith(b"Q") and b"COMMIT" in said:
                    armed = self._armed
                    if armed and armed[0] in transaction:
                        self._armed = None
                        self._cut(armed[1], said, client, server)
                        break
                    transaction = b""
                server.sendall(said)
        _hang_up(client, server)

    def _cut(self, cut: Cut, commit: bytes, client: socket.socket, server: socket.socket) -> None:
        self.cuts += 1
        if cut == "answered":
            self._not_answered = client
            server.sendall(commit)
            assert self._answered.wait(60), "the server does not answer"
        elif cut != "not passed on":
            self._lock_wanted.clear()
            _hang_up(client)
            if cut == "passed on late":
                assert self._lock_wanted.wait(60), "the client does not come back"
            server.sendall(commit)
            server.shutdown(socket.SHUT_WR)
            server.recv(1)  # the answer, or its end


def _hang_up(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
