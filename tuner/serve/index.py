"""The page of all studies, one row each. A study is read again only after a write."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tuner.report.formatting import number, one_line, pace, short_reason
from tuner.report.html.templating import frame, read, template
from tuner.report.study_follower import StudySnapshot
from tuner.serve.streaming import Parts
from tuner.serve.studies import HTTPError, Reader, Signature, StudySource

_TEMPLATES = Path(__file__).parent / "templates"
_PACKAGE = "tuner.serve"
# A study without a write for this long is closed. Its row stays.
_IDLE_S = 60.0
# A study without a signature and a running trial is read this often, as is an unreadable study.
_RETRY_S = 10.0


class Index:
    """The rows of all studies, by name.

    Args:
        source: the studies of a folder or a database.
        reader: returns the reader of a study.
        close: closes a study's reader if no client uses it.
    """

    def __init__(
        self, source: StudySource, reader: Callable[[str], Reader], close: Callable[[str], None]
    ) -> None:
        self._source = source
        self._reader = reader
        self._close = close
        # The signature at the last read, and the time until which it need not be read again.
        self._known: dict[str, tuple[Signature | None, float]] = {}
        self._rows: dict[str, str] = {}
        self._order: list[str] = []
        self._states: dict[str, int] = {}
        self._error = ""
        self._unread = 0

    def look(self) -> Parts:
        """Read the studies that were written since the last call; it may take several seconds.

        Only one thread at a time may call it.
        """
        try:
            names = self._source.names()
            self._error = ""
        except HTTPError as error:
            self._error = error.line
            return self._parts([])
        self._unread = sum(name not in self._rows for name in names)
        for name in names:
            self._unread -= name not in self._rows
            self._read(name)
        removed = [name for name in self._rows if name not in names]
        for name in removed:
            del self._rows[name], self._states[name], self._known[name]
        self._order = sorted(names, key=lambda name: (self._states[name], name))
        return self._parts(removed)

    def page(self) -> str:
        """Return the page with the rows that have been read."""
        return template("index.html.j2", _PACKAGE).render(
            **frame(read("theme.js"), read("events.js"), read("index.js", _TEMPLATES), served=True),
            rows=[self._rows[name] for name in self._order],
            unread=self._unread,
            trouble=self._error,
        )

    def _parts(self, removed: list[str]) -> Parts:
        rows = {f"={link(name)}": self._rows[name] for name in self._order}
        gone = {f"={link(name)}": None for name in removed}
        order = json.dumps([link(name) for name in self._order])
        return {**rows, **gone, "order": order, "trouble": self._error}

    def _read(self, name: str) -> None:
        known, until = self._known.get(name, (None, 0.0))
        signature = None
        row: dict[str, Any]
        try:
            signature = self._source.signature(name)
            if known == signature and time.monotonic() < until:
                return
            seen = self._reader(name).look().seen
            row, state = _row(seen), _state(seen)
            fresh_s = math.inf if signature else 0.0 if seen.live_count else _RETRY_S
        except HTTPError as error:
            row, state = {"trouble": error.line}, 2
            fresh_s = _RETRY_S
        self._known[name] = (signature, time.monotonic() + fresh_s)
        if time.time() - signature[2] / 1e9 > _IDLE_S if signature else fresh_s:
            self._close(name)
        self._states[name] = state
        self._rows[name] = template("row.html.j2", _PACKAGE).render(
            {"trouble": None, **row, "name": one_line(name) or "(no name)", "link": link(name)}
        )


def link(name: str) -> str:
    """Return the path of a study's page. The whole name is one segment, whatever it contains."""
    return f"/studies/{quote(name, safe='', errors='surrogateescape')}"


def plain_page(title: str, line: str) -> str:
    """Return a page with a title and one line."""
    return template("plain.html.j2", _PACKAGE).render(
        **frame(read("theme.js"), served=True), title=title, line=line
    )


def sign_in_page(line: str) -> str:
    """Return the page that asks for the token."""
    return template("sign_in.html.j2", _PACKAGE).render(
        **frame(read("theme.js"), read("sign_in.js", _TEMPLATES), served=True), line=line
    )


def _state(seen: StudySnapshot) -> int:
    """Return the sort key of a study: running ones come first."""
    return 0 if seen.live_count else 1


def _row(seen: StudySnapshot) -> dict[str, Any]:
    best, last = seen.best, next(iter(seen.recent), None)
    state = "running" if seen.live_count else "finished" if seen.finished else "waiting"
    written = None if seen.changed_at is None else datetime.fromtimestamp(seen.changed_at, UTC)
    return {
        "state": state,
        "metric": one_line(seen.metric),
        "best": number(best.value) if best else "–",
        "best_trial": best.number if best else None,
        "ended": f"{seen.ended} of {seen.ended + seen.left}",
        "share": seen.ended / max(1, seen.ended + seen.left),
        "running": seen.counts["running"],
        "pace": "" if seen.finished else pace(seen),
        "failed": seen.counts["failed"],
        "written": written and written.isoformat(timespec="seconds"),
        "last": last and f"trial {last.number} {last.state}",
        "reason": one_line(last.reason) if last else "",
        "short": short_reason(last.reason) if last else "",
    }
