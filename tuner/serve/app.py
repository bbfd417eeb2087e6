"""The application: which address answers with what."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tuner.serve.access import Access
from tuner.serve.guard import Guard, page
from tuner.serve.index import Index, plain_page
from tuner.serve.kept import Answer
from tuner.serve.reader import Reader
from tuner.serve.shelf import Shelf, Trouble, gone
from tuner.serve.study import Study
from tuner.serve.topic import Parts, Topic

# A study that nobody has asked for this long is closed.
LINGER_S = 30.0
# The first page of all studies waits this long for them to be read; the rest comes as it is read.
_FIRST_S = 2.0


class Desk:
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
        shelf: Shelf,
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
        self.topic = Topic(self._look, interval_s)
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


def application(desk: Desk, access: Access) -> Starlette:
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
        return await _answer(request, desk.study(_name(request)).story())

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
        exception_handlers={Trouble: _trouble, HTTPException: _refused},
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


def _stream(request: Request, topic: Topic) -> Response:
    # nginx would gather events before it hands them on.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        return Response(headers=headers, media_type="text/event-stream")
    return StreamingResponse(topic.events(), media_type="text/event-stream", headers=headers)


def _trouble(request: Request, error: Exception) -> Response:
    assert isinstance(error, Trouble)
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
