"""Access control: the token, its cookie, and the checks and headers of every request."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuner.errors import InvalidInput
from tuner.serve.index import sign_in_page
from tuner.serve.streaming import policy_of

TOKEN_VARIABLE = "QUARTERTURN_SERVE_TOKEN"
COOKIE_S = 30 * 24 * 3600
_SHORTEST = 16  # characters of a token that the user chose
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Access:
    """The rules that a request must meet.

    Attributes:
        token: the token; None admits every request.
        hosts: allowed names in the Host header, against DNS rebinding; None allows any.
        cookie: the name of the session cookie. It contains the port, which cookies ignore.
        now: returns seconds since the epoch.
    """

    token: str | None
    hosts: frozenset[str] | None
    cookie: str
    now: Callable[[], float] = time.time

    def is_addressed(self, host: str) -> bool:
        """Return whether the Host header names this server."""
        name, colon, port = host.rpartition(":")
        name = name if colon and port.isdigit() else host
        return self.hosts is None or name.lower() in self.hosts

    def is_token(self, given: str) -> bool:
        """Return whether a text is the token, in constant time."""
        return self.token is not None and _same(given, self.token)

    def admits(self, authorization: str, cookie: str) -> bool:
        """Return whether a request with this Authorization header or this cookie is admitted."""
        if self.token is None:
            return True
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return self.is_token(given.strip())
        until, _, sign = cookie.partition(".")
        signed = _same(sign, self._sign(until))
        return signed and until.isascii() and until.isdigit() and int(until) > self.now()

    def session(self) -> str:
        """Return a session cookie: its signed expiry time. It does not contain the token."""
        until = str(int(self.now()) + COOKIE_S)
        return f"{until}.{self._sign(until)}"

    def _sign(self, until: str) -> str:
        message = f"quarterturn serve {until}".encode("utf-8", "replace")
        return hmac.new((self.token or "").encode(), message, hashlib.sha256).hexdigest()


def access(token: str | None, host: str, port: int, *, loopback: bool) -> Access:
    """Return the access rules of a server that is bound to a host and port."""
    hosts = frozenset({*_LOOPBACK, host.lower()}) if loopback else None
    return Access(token, hosts, f"quarterturn-{port}")


class Token(NamedTuple):
    """A token and its origin.

    Attributes:
        text: the token.
        where: the place of the token, in words.
        own: whether this program generated the token.
    """

    text: str
    where: str
    own: bool


def find_token(file: Path | None) -> Token:
    """Return the token.

    It is read from `file`, if given; else from the environment variable; else from a file in the
    user's home. The first call generates that file with a random token.

    Raises:
        InvalidInput: other users may read the file, it cannot be read, or the token is too weak.
    """
    if file is not None:
        return _checked(_read(file), f"in {file}", own=False)
    if given := os.environ.get(TOKEN_VARIABLE):
        return _checked(given.strip(), f"in {TOKEN_VARIABLE}", own=False)
    own = Path.home() / ".quarterturn" / "serve_token"
    if not own.exists():
        _make(own)
    return _checked(_read(own), f"in {own}", own=True)


def _read(file: Path) -> str:
    try:
        with file.expanduser().open(encoding="utf-8") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            if mode & 0o077:
                raise InvalidInput(
                    f"only its owner may read the file of the token, {str(file)!r} has mode "
                    f"{mode:04o}; chmod 600 it, and change the token if others may have read it"
                )
            return opened.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"--token-file must name a text file that can be read, got {str(file)!r} "
            f"({getattr(error, 'strerror', None) or 'not text'}); make one, or leave it out"
        ) from error


def _make(file: Path) -> None:
    """Write a file with a new token, atomically. A file of another process stays."""
    new = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(f"{secrets.token_urlsafe(32)}\n")
        try:
            os.link(new, file)
        except FileExistsError:
            pass
        finally:
            new.unlink()
    except OSError as error:
        raise InvalidInput(
            f"the file of the token must be writable, {str(file)!r} cannot be written "
            f"({error.strerror}); give one with --token-file or {TOKEN_VARIABLE}"
        ) from error


def _checked(token: str, where: str, *, own: bool) -> Token:
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidInput(
            f"a token must be at least {_SHORTEST} characters of ASCII without spaces, the one "
            f"{where} is not; make one with: openssl rand -hex 32"
        )
    return Token(token, where, own)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(
        one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape")
    )


_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_POLICY = "Content-Security-Policy"
_LARGEST_FORM = 4096  # bytes


class AccessMiddleware:
    """Refuses requests without the token or to another host, and sets the security headers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                # `frame-ancestors` has no effect in the head of a page, only as a header.
                own = headers.get(_POLICY, "default-src 'none'")
                headers[_POLICY] = f"{own}; frame-ancestors 'none'"
                headers.setdefault("Cache-Control", "private, no-cache")
            await send(message)

        answer = await self._refusal(scope, receive)
        # Route by the encoded path: then a name with a slash is one segment. Decode it later.
        scope = {**scope, "path": scope["raw_path"].decode("ascii", "replace")}
        await (answer or self._app)(scope, receive, guarded)

    async def _refusal(self, scope: Scope, receive: Receive) -> Response | None:
        headers = Headers(scope=scope)
        if not self._access.is_addressed(headers.get("host", "")):
            return PlainTextResponse("this server has another name\n", 421)
        if scope["path"] == "/sign-in" and scope["method"] == "POST":
            return await self._sign_in(Request(scope, receive))
        cookie = cookie_parser(headers.get("cookie", "")).get(self._access.cookie, "")
        if self._access.admits(headers.get("authorization", ""), cookie):
            return None
        return _unauthorized(headers, "")

    async def _sign_in(self, request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LARGEST_FORM:
                return PlainTextResponse("the form is too large for a token\n", 413)
        given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]
        if not self._access.is_token(given.strip()):
            return _unauthorized(request.headers, "That is not the token.")
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            self._access.cookie,
            self._access.session(),
            max_age=COOKIE_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer


def page(text: str, status: int = 200) -> Response:
    """Return a page as a response, with the page's policy as a header too."""
    content = text.encode("utf-8", "backslashreplace")
    answer = HTMLResponse(content, status)
    answer.headers[_POLICY] = policy_of(text)
    return answer


def _unauthorized(headers: Headers, line: str) -> Response:
    wants_page = "text/html" in headers.get("accept", "")
    answer = page(sign_in_page(line), 401) if wants_page else PlainTextResponse("no token\n", 401)
    answer.headers["WWW-Authenticate"] = "Bearer"
    return answer
