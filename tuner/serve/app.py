"""The web application: its routes and what each answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tuner.report.html.page import records, retold, to_html
from tuner.report.html.templating import as_json
from tuner.serve.auth import Access, Guard, page
from tuner.serve.index import Index, plain_page
from tuner.serve.streaming import HTML, JSON, Answer, CachedResponse, EventStream, Parts
from tuner.serve.studies import HTTPError, Reader, StudySource, gone

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
        self.topic = EventStream(self._look, interval_s)
        self.asked = False
        self._kept_page = CachedResponse(self._page, _PAGE_S)
        self._kept_story = CachedResponse(self._story, _STORY_S)
        self._lock = asyncio.Lock()
        self._records: dict[tuple[str, str], Answer] = {}

    async def page(self) -> Answer:
        """Return its page, as it is or was not long ago."""
        return await self._kept_page.get(await self.reading())

    async def summary_sections(self) -> Answer:
        """Return what the page tells besides its table, as it is or was not long ago."""
        return await self._kept_story.get(await self.reading())

    async def reading(self) -> str:
        """Return which reading its revisions are of.

        Raises:
            HTTPError: it is not there, or cannot be read.
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
        except HTTPError as trouble:
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


# A study that nobody has asked for this long is closed.
LINGER_S = 30.0
# The first page of all studies waits this long for them to be read; the rest comes as it is read.
_FIRST_S = 2.0


class StudyRegistry:
    """Everything that is open, shared by all requests.

    Args:
        shelf: where studies are.
        folder: to be named in the commands that are shown, or None.
        database: whether the studies are in one; their commands name it only as that.
        interval_s: between two looks at a storage.
        linger_s: how long a study that nobody looks at stays open.
    """

    def __init__(
        self,
        shelf: StudySource,
        *,
        folder: str | None = None,
        database: bool = False,
        interval_s: float = 1.0,
        linger_s: float = LINGER_S,
    ) -> None:
        self._shelf = shelf
        self._folder = folder
        self._database = database
        self._interval_s = interval_s
        self._linger_s = linger_s
        self.studies: dict[str, Study] = {}
        self.index = Index(shelf, lambda name: self.study(name).reader, self._leave)
        self.topic = EventStream(self._look, interval_s)
        self._looking = asyncio.Lock()
        self._reading: asyncio.Task[Parts] | None = None

    def study(self, name: str) -> Study:
        """Return a study to look at; that it is there shows when it is looked at."""
        if name not in self.studies:
            reader = Reader(self._shelf, name, self._interval_s)
            shown = f"DATABASE#{name}" if self._database else name
            self.studies.setdefault(name, Study(reader, shown, self._folder, self._interval_s))
        return self.studies[name]

    async def begin(self) -> None:
        """Read what was written since for the page of all studies; wait for it, but not long."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._look())
        done, _ = await asyncio.wait([self._reading], timeout=_FIRST_S)
        for reading in done:
            self.topic.update(reading.result())

    async def _look(self) -> Parts:
        async with self._looking:
            return await asyncio.to_thread(self.index.look)

    def _leave(self, name: str) -> None:
        study = self.studies.get(name)
        if study and not study.asked:
            study.reader.close()

    async def tidy(self) -> None:
        """Close studies that nobody looks at any more, again and again."""
        while True:
            await asyncio.sleep(min(1.0, self._linger_s))
            before = time.monotonic() - self._linger_s
            for name, study in list(self.studies.items()):
                if not study.topic.listeners and study.reader.used < before:
                    del self.studies[name]
                    await asyncio.to_thread(study.reader.close)

    def end(self) -> None:
        """End all streams, so that the server can stop."""
        self.topic.end()
        for study in self.studies.values():
            study.topic.end()

    def close(self) -> None:
        """Close what is open."""
        for study in self.studies.values():
            study.reader.close()
        self._shelf.close()


def application(desk: StudyRegistry, access: Access) -> Starlette:
    """Return the application; it answers GET, and POST where the token is given."""

    async def index(request: Request) -> Response:
        await desk.begin()
        return page(await asyncio.to_thread(desk.index.page))

    async def index_events(request: Request) -> Response:
        return _stream(request, desk.topic)

    async def study_page(request: Request) -> Response:
        return await _answer(request, desk.study(_name(request)).page())

    async def study_events(request: Request) -> Response:
        study = desk.study(_name(request))
        await study.reading()
        return _stream(request, study.topic)

    async def study_records(request: Request) -> Response:
        since = request.query_params.get("since", "")
        return await _answer(request, desk.study(_name(request)).records(since))

    async def study_story(request: Request) -> Response:
        return await _answer(request, desk.study(_name(request)).summary_sections())

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        tidying = asyncio.create_task(desk.tidy())
        try:
            yield
        finally:
            tidying.cancel()
            with suppress(asyncio.CancelledError):
                await tidying
            await asyncio.to_thread(desk.close)

    app = Starlette(
        routes=[
            Route("/", index),
            Route("/events", index_events),
            Route("/studies/{name}", study_page),
            Route("/studies/{name}/events", study_events),
            Route("/studies/{name}/records.json", study_records),
            Route("/studies/{name}/story.json", study_story),
        ],
        middleware=[Middleware(Guard, access=access)],
        exception_handlers={HTTPError: _trouble, HTTPException: _refused},
        lifespan=life,
    )
    app.router.redirect_slashes = False
    return app


def _name(request: Request) -> str:
    return unquote(request.path_params["name"], errors="surrogateescape")


async def _answer(request: Request, asked: Awaitable[Answer]) -> Response:
    """Answer with what is kept, or that the browser has it already."""
    answer = await asked
    known = request.headers.get("if-none-match", "").replace("W/", "").split(",")
    if answer.etag in (tag.strip() for tag in known):
        return Response(status_code=304, headers=answer.headers)
    headers, body = answer.headers, answer.body
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers, body = {**headers, "Content-Encoding": "gzip"}, answer.small
    return Response(body, headers=headers, media_type=answer.media_type)


def _stream(request: Request, topic: EventStream) -> Response:
    # nginx would gather events before it hands them on.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        return Response(headers=headers, media_type="text/event-stream")
    return StreamingResponse(topic.events(), media_type="text/event-stream", headers=headers)


def _trouble(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPError)
    return _plain(request, error.status, error.line)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    line = gone(request.url.path).line if error.status_code == 404 else error.detail
    answer = _plain(request, error.status_code, line)
    answer.headers.update(error.headers or {})
    return answer


def _plain(request: Request, status: int, line: str) -> Response:
    if "text/html" in request.headers.get("accept", ""):
        title = "Not here" if status == 404 else "Not to be read now" if status == 503 else "No"
        return page(plain_page(title, f"{line[:1].upper()}{line[1:]}."), status)
    return JSONResponse({"error": line}, status)
