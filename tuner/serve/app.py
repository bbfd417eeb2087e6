"""The web application: its routes, and the studies that are open for all requests."""

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

from tuner.report.html.page import records, summary_update, to_html
from tuner.report.html.templating import as_json
from tuner.serve.auth import Access, AccessMiddleware, page
from tuner.serve.index import Index, plain_page
from tuner.serve.streaming import HTML, JSON, Answer, CachedResponse, EventStream, Parts
from tuner.serve.studies import HTTPError, Reader, StudySource, not_found

_PAGE_S = 1.0
_SUMMARY_S = 2.0


class ServedStudy:
    """One study that is open, with its cached answers and its event stream.

    Args:
        reader: the reader of the study.
        name: the name for the commands that the page shows.
        folder: the folder of all studies, for these commands; None for the default.
        interval_s: seconds between two reads of the storage.

    Attributes:
        events: the event stream of the study's page.
        is_requested: whether a client has requested the study.
    """

    def __init__(self, reader: Reader, name: str, folder: str | None, interval_s: float) -> None:
        self.reader = reader
        self._where = {"name": name, "folder": folder}
        self.events = EventStream(self._look, interval_s)
        self.is_requested = False
        self._cached_page = CachedResponse(self._page, _PAGE_S)
        self._cached_summary = CachedResponse(self._summary, _SUMMARY_S)
        self._lock = asyncio.Lock()
        self._records: dict[tuple[str, str], Answer] = {}

    async def page(self) -> Answer:
        """Return the study's page, at most some seconds old."""
        return await self._cached_page.get(await self.reading_id())

    async def summary_sections(self) -> Answer:
        """Return the summary sections of the page as JSON, at most some seconds old."""
        return await self._cached_summary.get(await self.reading_id())

    async def reading_id(self) -> str:
        """Return the id of the reading that the current revisions belong to.

        Raises:
            HTTPError: the study does not exist, or cannot be read.
        """
        self.is_requested = True
        return (await asyncio.to_thread(self.reader.look)).revision.partition("-")[0]

    async def records(self, since: str) -> Answer:
        """Return the trials that changed after a revision; all trials if it is unknown."""
        self.is_requested = True
        async with self._lock:
            return await asyncio.to_thread(self._news, since)

    def _news(self, since: str) -> Answer:
        snapshot = self.reader.read()
        key = (snapshot.revision, since)
        if key not in self._records:
            only = snapshot.since(since)
            head = {"revision": snapshot.revision, "since": None if only is None else since}
            all_trials = frozenset(trial.number for trial in snapshot.result.trials)
            found = records(snapshot.result, all_trials if only is None else only)
            # All clients are at about the same revision. Older answers are not requested again.
            self._records = {k: v for k, v in self._records.items() if k[0] == snapshot.revision}
            self._records[key] = Answer.of(as_json({**head, **found}), JSON)
        return self._records[key]

    def _page(self) -> Answer:
        snapshot = self.reader.read()
        # The page shows the revision that was read. Its script then requests later changes.
        live = replace(self.reader.look(), revision=snapshot.revision)
        return Answer.of(to_html(snapshot.result, **self._where, live=live), HTML)

    def _summary(self) -> Answer:
        snapshot = self.reader.read()
        return Answer.of(summary_update(snapshot.result, snapshot.revision, **self._where), JSON)

    async def _look(self) -> Parts:
        try:
            return await asyncio.to_thread(self._parts)
        except HTTPError as error:
            return {"trouble": error.line}

    def _parts(self) -> Parts:
        live = self.reader.look()
        return {
            "trouble": "",
            "revision": live.revision,
            "finished": "yes" if live.seen.finished else "",
            "lede": live.lede,
            "running": str(live.running),
        }


# A study without a client for this long is closed.
LINGER_S = 30.0
# A request for the page of all studies waits this long for their data. Other rows follow as events.
_FIRST_PAGE_S = 2.0


class StudyRegistry:
    """The open studies, shared by all requests.

    Args:
        source: the studies of a folder or a database.
        folder: the folder that the shown commands name, or None.
        database: whether the studies are in a database. The shown commands never name its URL.
        interval_s: seconds between two reads of the storage.
        linger_s: seconds until a study without a client is closed.
    """

    def __init__(
        self,
        source: StudySource,
        *,
        folder: str | None = None,
        database: bool = False,
        interval_s: float = 1.0,
        linger_s: float = LINGER_S,
    ) -> None:
        self._source = source
        self._folder = folder
        self._database = database
        self._interval_s = interval_s
        self._linger_s = linger_s
        self.studies: dict[str, ServedStudy] = {}
        self.index = Index(source, lambda name: self.study(name).reader, self._close_unrequested)
        self.events = EventStream(self._look, interval_s)
        self._looking = asyncio.Lock()
        self._reading: asyncio.Task[Parts] | None = None

    def study(self, name: str) -> ServedStudy:
        """Return a study by name. Whether it exists shows when it is read."""
        if name not in self.studies:
            reader = Reader(self._source, name, self._interval_s)
            shown = f"DATABASE#{name}" if self._database else name
            self.studies.setdefault(
                name, ServedStudy(reader, shown, self._folder, self._interval_s)
            )
        return self.studies[name]

    async def refresh(self) -> None:
        """Read all changed studies for the page of all studies; wait two seconds at most."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._look())
        done, _ = await asyncio.wait([self._reading], timeout=_FIRST_PAGE_S)
        for reading in done:
            self.events.update(reading.result())

    async def _look(self) -> Parts:
        async with self._looking:
            return await asyncio.to_thread(self.index.look)

    def _close_unrequested(self, name: str) -> None:
        study = self.studies.get(name)
        if study and not study.is_requested:
            study.reader.close()

    async def close_idle(self) -> None:
        """Close studies without clients, forever."""
        while True:
            await asyncio.sleep(min(1.0, self._linger_s))
            before = time.monotonic() - self._linger_s
            for name, study in list(self.studies.items()):
                if not study.events.listeners and study.reader.used < before:
                    del self.studies[name]
                    await asyncio.to_thread(study.reader.close)

    def end(self) -> None:
        """End all event streams, so that the server can stop."""
        self.events.end()
        for study in self.studies.values():
            study.events.end()

    def close(self) -> None:
        """Close all studies and the source."""
        for study in self.studies.values():
            study.reader.close()
        self._source.close()


def application(registry: StudyRegistry, access: Access) -> Starlette:
    """Return the application. It answers GET, and POST for signing in."""

    async def index(request: Request) -> Response:
        await registry.refresh()
        return page(await asyncio.to_thread(registry.index.page))

    async def index_events(request: Request) -> Response:
        return _stream(request, registry.events)

    async def study_page(request: Request) -> Response:
        return await _answer(request, registry.study(_name(request)).page())

    async def study_events(request: Request) -> Response:
        study = registry.study(_name(request))
        await study.reading_id()
        return _stream(request, study.events)

    async def study_records(request: Request) -> Response:
        since = request.query_params.get("since", "")
        return await _answer(request, registry.study(_name(request)).records(since))

    async def study_summary(request: Request) -> Response:
        return await _answer(request, registry.study(_name(request)).summary_sections())

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        closing = asyncio.create_task(registry.close_idle())
        try:
            yield
        finally:
            closing.cancel()
            with suppress(asyncio.CancelledError):
                await closing
            await asyncio.to_thread(registry.close)

    app = Starlette(
        routes=[
            Route("/", index),
            Route("/events", index_events),
            Route("/studies/{name}", study_page),
            Route("/studies/{name}/events", study_events),
            Route("/studies/{name}/records.json", study_records),
            Route("/studies/{name}/story.json", study_summary),
        ],
        middleware=[Middleware(AccessMiddleware, access=access)],
        exception_handlers={HTTPError: _http_error, HTTPException: _framework_error},
        lifespan=life,
    )
    app.router.redirect_slashes = False
    return app


def _name(request: Request) -> str:
    return unquote(request.path_params["name"], errors="surrogateescape")


async def _answer(request: Request, answering: Awaitable[Answer]) -> Response:
    """Return an answer as a response, or status 304 if the browser already has it."""
    answer = await answering
    known = request.headers.get("if-none-match", "").replace("W/", "").split(",")
    if answer.etag in (tag.strip() for tag in known):
        return Response(status_code=304, headers=answer.headers)
    headers, body = answer.headers, answer.body
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers, body = {**headers, "Content-Encoding": "gzip"}, answer.small
    return Response(body, headers=headers, media_type=answer.media_type)


def _stream(request: Request, events: EventStream) -> Response:
    # nginx buffers responses by default, which would delay events.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        return Response(headers=headers, media_type="text/event-stream")
    return StreamingResponse(events.events(), media_type="text/event-stream", headers=headers)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPError)
    return _error_response(request, error.status, error.line)


def _framework_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    line = not_found(request.url.path).line if error.status_code == 404 else error.detail
    answer = _error_response(request, error.status_code, line)
    answer.headers.update(error.headers or {})
    return answer


def _error_response(request: Request, status: int, line: str) -> Response:
    if "text/html" in request.headers.get("accept", ""):
        title = "Not found" if status == 404 else "Not readable now" if status == 503 else "Refused"
        return page(plain_page(title, f"{line[:1].upper()}{line[1:]}."), status)
    return JSONResponse({"error": line}, status)
