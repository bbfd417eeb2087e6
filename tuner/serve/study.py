"""One study as it is served: its page, what changes in it, and what a page asks for then."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tuner.report.html.embed import as_json
from tuner.report.html.page import retold, to_html
from tuner.report.html.records import records
from tuner.serve.kept import HTML, JSON, Answer, Kept
from tuner.serve.reader import Reader
from tuner.serve.shelf import Trouble
from tuner.serve.topic import Parts, Topic

_PAGE_S = 1.0
_STORY_S = 2.0


class Study:
    """A study that someone looks at.

    Args:
        reader: of the study.
        name: what to read it by, in the commands that are shown.
        folder: where studies are kept, for these commands; None for the default.
        interval_s: between two looks.
    """

    def __init__(self, reader: Reader, name: str, folder: str | None, interval_s: float) -> None:
        self.reader = reader
        self._where = {"name": name, "folder": folder}
        self.topic = Topic(self._look, interval_s)
        self.asked = False
        self._kept_page = Kept(self._page, _PAGE_S)
        self._kept_story = Kept(self._story, _STORY_S)
        self._lock = asyncio.Lock()
        self._records: dict[tuple[str, str], Answer] = {}

    async def page(self) -> Answer:
        """Return its page, as it is or was not long ago."""
        return await self._kept_page.get(await self.reading())

    async def story(self) -> Answer:
        """Return what the page tells besides its table, as it is or was not long ago."""
        return await self._kept_story.get(await self.reading())

    async def reading(self) -> str:
        """Return which reading its revisions are of.

        Raises:
            Trouble: it is not there, or cannot be read.
        """
        self.asked = True
        return (await asyncio.to_thread(self.reader.look)).revision.partition("-")[0]

    async def records(self, since: str) -> Answer:
        """Return the trials that have changed since a revision, or all where that is not known."""
        self.asked = True
        async with self._lock:
            return await asyncio.to_thread(self._news, since)

    def _news(self, since: str) -> Answer:
        read = self.reader.read()
        key = (read.revision, since)
        if key not in self._records:
            only = read.since(since)
            told = {"revision": read.revision, "since": None if only is None else since}
            all_trials = frozenset(trial.number for trial in read.result.trials)
            found = records(read.result, all_trials if only is None else only)
            # Those who listen are about as far as each other: what is older is not asked for again.
            self._records = {k: v for k, v in self._records.items() if k[0] == read.revision}
            self._records[key] = Answer.of(as_json({**told, **found}), JSON)
        return self._records[key]

    def _page(self) -> Answer:
        read = self.reader.read()
        # The table is of what was read; the page then asks for what is newer.
        live = replace(self.reader.look(), revision=read.revision)
        return Answer.of(to_html(read.result, **self._where, live=live), HTML)

    def _story(self) -> Answer:
        read = self.reader.read()
        return Answer.of(retold(read.result, read.revision, **self._where), JSON)

    async def _look(self) -> Parts:
        try:
            return await asyncio.to_thread(self._parts)
        except Trouble as trouble:
            return {"trouble": trouble.line}

    def _parts(self) -> Parts:
        live = self.reader.look()
        return {
            "trouble": "",
            "revision": live.revision,
            "finished": "yes" if live.seen.finished else "",
            "lede": live.lede,
            "running": str(live.running),
        }
