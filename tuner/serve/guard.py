"""What every request has to pass, and what every answer carries."""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuner.serve.access import COOKIE_S, Access
from tuner.serve.index import sign_in_page
from tuner.serve.kept import policy_of

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_POLICY = "Content-Security-Policy"
_LARGEST_FORM = 4096  # bytes


class Guard:
    """Lets in who has the token, addressed as this server is; nothing else is answered."""

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
                # The policy in a page's head cannot say who may frame it.
                own = headers.get(_POLICY, "default-src 'none'")
                headers[_POLICY] = f"{own}; frame-ancestors 'none'"
                headers.setdefault("Cache-Control", "private, no-cache")
            await send(message)

        answer = await self._refusal(scope, receive)
        # A name in a path is one segment, whatever is in it: it is decoded when it is looked up.
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
        return _ask(headers, "")

    async def _sign_in(self, request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LARGEST_FORM:
                return PlainTextResponse("a token is shorter\n", 413)
        given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]
        if not self._access.is_token(given.strip()):
            return _ask(request.headers, "That is not the token.")
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
    """Return a page, with the policy that it has in itself as a header too."""
    content = text.encode("utf-8", "backslashreplace")
    answer = HTMLResponse(content, status)
    answer.headers[_POLICY] = policy_of(text)
    return answer


def _ask(headers: Headers, line: str) -> Response:
    wants_page = "text/html" in headers.get("accept", "")
    answer = page(sign_in_page(line), 401) if wants_page else PlainTextResponse("no token\n", 401)
    answer.headers["WWW-Authenticate"] = "Bearer"
    return answer
