"""Live updates of a page as server-sent events, and cached answers."""

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
# Of the time, at most this share is spent on looking.
_SHARE = 0.2

# A part of a page by its name; None takes it away.
Parts = Mapping[str, str | None]


class EventStream:
    """Parts of a page, each with the revision at which it changed last.

    Who listens is sent what has changed since they were sent something; nothing waits for them, so
    that a slow one costs nothing and misses nothing but what was replaced meanwhile.

    Args:
        look: returns parts, all or those that may have changed.
        interval_s: between two looks.
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
        """Take parts over; who listens is told if they are other than before."""
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
        """End the streams of all who listen."""
        self._ended = True
        self._wake()

    async def events(self) -> AsyncIterator[str]:
        """Yield server-sent events: everything first, and then what changes."""
        self.listeners += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._keep_looking())
        try:
            yield f"retry: {RETRY_MS}\n\n"
            sent = 0
            while not self._ended:
                if self._looking.done():
                    self._looking.result()  # raises what it ended with
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
# An answer is made again at the earliest after so many times what it took to make it.
_PATIENCE = 10.0


@dataclass(frozen=True)
class Answer:
    """A body, as it is and compressed, with what it is of.

    Attributes:
        headers: the ETag that names exactly this body, and a page's policy.
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
    """Return the policy that a page of ours holds in its head."""
    _, _, rest = page.partition('http-equiv="Content-Security-Policy" content="')
    return html.unescape(rest.partition('"')[0])


class CachedResponse:
    """An answer that is kept until it is made again.

    Args:
        make: makes it, in a thread.
        least_s: it is not made again before.
    """

    def __init__(self, make: Callable[[], Answer], least_s: float) -> None:
        self._make = make
        self._least_s = least_s
        self._lock = asyncio.Lock()
        self._answer: Answer | None = None
        self._of = ""
        self._until = 0.0

    async def get(self, of: str) -> Answer:
        """Return the answer, made now or not long ago; what `make` raises is not kept.

        Args:
            of: what it is about; of anything else it is made anew.
        """
        async with self._lock:
            began = time.monotonic()
            if self._answer is None or self._of != of or began >= self._until:
                self._answer = await asyncio.to_thread(self._make)
                done = time.monotonic()
                self._of = of
                self._until = done + max(self._least_s, _PATIENCE * (done - began))
            return self._answer
