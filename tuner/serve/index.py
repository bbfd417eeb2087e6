"""The page of all studies: a row each, read again only when something was written."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tuner.report import formatting
from tuner.report.formatting import one_line
from tuner.report.html.templating import frame, read, template
from tuner.report.study_follower import StudySnapshot
from tuner.serve.streaming import Parts
from tuner.serve.studies import HTTPError, Reader, Signature, StudySource

_TEMPLATES = Path(__file__).parent / "templates"
_PACKAGE = "tuner.serve"
# A study that nobody has written for so long is closed again; its row is kept.
_AT_REST_S = 60.0
# One of which only reading tells whether it was written, and in which nothing runs, is read again
# after so long; and so is one that could not be read.
_AGAIN_S = 10.0


class Index:
    """The rows of all studies, by name.

    Args:
        shelf: where the studies are.
        reader: returns the reader of a study.
        close: closes a study's reader if nobody else uses it.
    """

    def __init__(
        self, shelf: StudySource, reader: Callable[[str], Reader], close: Callable[[str], None]
    ) -> None:
        self._shelf = shelf
        self._reader = reader
        self._close = close
        # As it was when it was read, and until when it is not read again unless it is another.
        self._known: dict[str, tuple[Signature | None, float]] = {}
        self._rows: dict[str, str] = {}
        self._order: list[str] = []
        self._states: dict[str, int] = {}
        self._trouble = ""
        self._unread = 0

    def look(self) -> Parts:
        """Read what was written since the last look; several seconds where much was.

        One thread at a time may call it.
        """
        try:
            names = self._shelf.names()
            self._trouble = ""
        except HTTPError as trouble:
            self._trouble = trouble.line
            return self._parts([])
        self._unread = sum(name not in self._rows for name in names)
        for name in names:
            self._unread -= name not in self._rows
            self._read(name)
        away = [name for name in self._rows if name not in names]
        for name in away:
            del self._rows[name], self._states[name], self._known[name]
        self._order = sorted(names, key=lambda name: (self._states[name], name))
        return self._parts(away)

    def page(self) -> str:
        """Return the page with the rows that are known."""
        return template("index.html.j2", _PACKAGE).render(
            **frame(read("theme.js"), read("events.js"), read("index.js", _TEMPLATES), served=True),
            rows=[self._rows[name] for name in self._order],
            unread=self._unread,
            trouble=self._trouble,
        )

    def _parts(self, away: list[str]) -> Parts:
        rows = {f"={link(name)}": self._rows[name] for name in self._order}
        taken = {f"={link(name)}": None for name in away}
        order = json.dumps([link(name) for name in self._order])
        return {**rows, **taken, "order": order, "trouble": self._trouble}

    def _read(self, name: str) -> None:
        known, until = self._known.get(name, (None, 0.0))
        signature = None
        row: dict[str, Any]
        try:
            signature = self._shelf.signature(name)
            if known == signature and time.monotonic() < until:
                return
            seen = self._reader(name).look().seen
            row, state = _row(seen), _state(seen)
            rests_s = math.inf if signature else 0.0 if seen.live_count else _AGAIN_S
        except HTTPError as trouble:
            row, state = {"trouble": trouble.line}, 2
            rests_s = _AGAIN_S
        self._known[name] = (signature, time.monotonic() + rests_s)
        if time.time() - signature[2] / 1e9 > _AT_REST_S if signature else rests_s:
            self._close(name)
        self._states[name] = state
        self._rows[name] = template("row.html.j2", _PACKAGE).render(
            {"trouble": None, **row, "name": one_line(name) or "(no name)", "link": link(name)}
        )


def link(name: str) -> str:
    """Return the path of a study's page; whatever is in its name is one segment of it."""
    return f"/studies/{quote(name, safe='', errors='surrogateescape')}"


def plain_page(title: str, line: str) -> str:
    """Return a page that says one thing."""
    return template("plain.html.j2", _PACKAGE).render(
        **frame(read("theme.js"), served=True), title=title, line=line
    )


def sign_in_page(line: str) -> str:
    """Return the page that asks for the token."""
    return template("sign_in.html.j2", _PACKAGE).render(
        **frame(read("theme.js"), read("sign_in.js", _TEMPLATES), served=True), line=line
    )


def _state(seen: StudySnapshot) -> int:
    """What runs comes first."""
    return 0 if seen.live_count else 1


def _row(seen: StudySnapshot) -> dict[str, Any]:
    best, last = seen.best, next(iter(seen.recent), None)
    state = "running" if seen.live_count else "finished" if seen.finished else "waiting"
    written = None if seen.changed_at is None else datetime.fromtimestamp(seen.changed_at, UTC)
    return {
        "state": state,
        "metric": one_line(seen.metric),
        "best": formatting.number(best.value) if best else "–",
        "best_trial": best.number if best else None,
        "ended": f"{seen.ended} of {seen.ended + seen.left}",
        "share": seen.ended / max(1, seen.ended + seen.left),
        "running": seen.counts["running"],
        "pace": formatting.pace(seen),
        "written": written and written.isoformat(timespec="seconds"),
        "last": last and f"trial {last.number} {last.state}",
        "reason": one_line(last.reason) if last else "",
    }
