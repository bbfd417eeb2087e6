"""Live updates of a page as server-sent events, and cached responses."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import html
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

RETRY_MS = 3000
_HEARTBEAT_S = 15.0
# Reading the storage takes at most this share of the time.
_SHARE = 0.2

# Parts of a page by name. None removes a part.
Parts = Mapping[str, str | None]


class EventStream:
    """The parts of a page, streamed to its clients as they change.

    Each part has the revision at which it changed last. A client gets the parts that changed since
    its last event. The stream never waits for a client. A slow client gets only the newest version
    of each part.

    Args:
        look: returns the parts, all of them or those that may have changed.
        interval_s: seconds between two calls of `look`.

    Attributes:
        listeners: the number of clients.
    """

    def __init__(self, look: Callable[[], Awaitable[Parts]], interval_s: float) -> None:
        self._look = look
        self._interval_s = interval_s
        self._parts: dict[str, tuple[int, str | None]] = {}
        self._revision = 0
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._ended = False
        self.listeners = 0

    def update(self, parts: Parts) -> None:
        """Store parts, and wake the clients if any part is new."""
        news = {
            name: value
            for name, value in parts.items()
            if name not in self._parts or self._parts[name][1] != value
        }
        if not news:
            return
        self._revision += 1
        self._parts.update({name: (self._revision, value) for name, value in news.items()})
        self._wake()

    def end(self) -> None:
        """End the streams of all clients."""
        self._ended = True
        self._wake()

    async def events(self) -> AsyncIterator[str]:
        """Yield server-sent events: all parts first, then the parts that change."""
        self.listeners += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._keep_looking())
        try:
            yield f"retry: {RETRY_MS}\n\n"
            sent = 0
            while not self._ended:
                if self._looking.done():
                    self._looking.result()  # raises the error of the task
                changed = self._changed
                if self._revision > sent:
                    yield self._event(sent)
                    sent = self._revision
                    continue
                try:
                    await asyncio.wait_for(changed.wait(), _HEARTBEAT_S)
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            self.listeners -= 1
            if not self.listeners and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    def _event(self, after: int) -> str:
        parts = {name: value for name, (at, value) in self._parts.items() if at > after}
        return f"event: parts\ndata: {json.dumps(parts)}\n\n"

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _keep_looking(self) -> None:
        clock = asyncio.get_running_loop().time
        try:
            while True:
                began = clock()
                self.update(await self._look())
                await asyncio.sleep(max(self._interval_s, (clock() - began) / _SHARE))
        finally:
            self._wake()


HTML = "text/html; charset=utf-8"
JSON = "application/json"
# A response is kept for at least this many times the time that it took to make.
_PATIENCE = 10.0


@dataclass(frozen=True)
class Answer:
    """The body of a response, plain and compressed.

    Attributes:
        body: the body.
        small: the body compressed by gzip.
        etag: the ETag of exactly this body.
        headers: the headers of the response: the ETag, and the policy of a page.
        media_type: the media type.
    """

    body: bytes
    small: bytes
    etag: str
    headers: dict[str, str]
    media_type: str

    @classmethod
    def of(cls, text: str, media_type: str) -> Answer:
        body = text.encode("utf-8", "backslashreplace")
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {"ETag": etag, "Vary": "Accept-Encoding, Cookie"}
        if media_type == HTML:
            headers["Content-Security-Policy"] = policy_of(text)
        return cls(body, gzip.compress(body, 5, mtime=0), etag, headers, media_type)


def policy_of(page: str) -> str:
    """Return the Content-Security-Policy in the head of a page of this package."""
    _, _, rest = page.partition('http-equiv="Content-Security-Policy" content="')
    return html.unescape(rest.partition('"')[0])


class CachedResponse:
    """Keeps a response for some time, or until its key changes.

    Args:
        make: makes the response, in a thread.
        least_s: minimum seconds between two calls of `make` for one key.
    """

    def __init__(self, make: Callable[[], Answer], least_s: float) -> None:
        self._make = make
        self._least_s = least_s
        self._lock = asyncio.Lock()
        self._answer: Answer | None = None
        self._key = ""
        self._until = 0.0

    async def get(self, key: str) -> Answer:
        """Return the response. An error of `make` is raised, and not kept.

        Args:
            key: the key of the response. Another key than before makes it again.
        """
        async with self._lock:
            began = time.monotonic()
            if self._answer is None or self._key != key or began >= self._until:
                self._answer = await asyncio.to_thread(self._make)
                done = time.monotonic()
                self._key = key
                self._until = done + max(self._least_s, _PATIENCE * (done - began))
            return self._answer
