"""Answers that are costly to make: each is made once for all who ask, and not too often."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import html
import time
from collections.abc import Callable
from dataclasses import dataclass

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


class Kept:
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
