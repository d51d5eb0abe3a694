"""Asks every request for a key: programs send it as a bearer token, the page as a cookie that its form has set.

The cookie has a digest of the key, so it stays valid when the server starts again, and ends with the key. It never
counts for programs' routes, which other programs of a browser could call with it. Depends on Starlette, and on the
page's texts for the form.
"""

from __future__ import annotations

import hashlib
import hmac
import html
from collections.abc import Sequence
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from blip_space.apps import locales
from blip_space.apps.http.clients import with_key
from blip_space.apps.http.refusals import Refusal, route_path

OPEN_ROUTES = ("/healthz", "/readyz", "/gradio_api/startup-events")
"""Routes without a key: what restarts and routes servers asks for the first two, Gradio itself for the third."""

TOKEN_ONLY = ("/v1/", "/mcp/", "/metrics/")
"""Routes of programs: no cookie counts there."""

SIGN_IN = "/sign-in"
COOKIE = "blip_space_key"
FRAMES = ("iframe", "frame")
"""The Sec-Fetch-Dest of a page in a frame, as a Space is on the hub. Browsers send no strict cookie there. They send
a partitioned one, only in frames of the page in which it was set, so other sites cannot use it. They send the header
only where they accept secure cookies."""

COOKIE_SECONDS = 30 * 24 * 3600
MAX_FORM_BYTES = 4_096

NO_KEY = Refusal(
    401,
    "unauthorized",
    "This server needs a key. Send it in the header Authorization: Bearer KEY, or sign in on the page.",
    {"WWW-Authenticate": "Bearer"},
)
PAGE = """<!doctype html>
<html lang="{tag}" dir="{direction}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>{sign_in}</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; margin: 15vh auto; max-width: 24rem; padding: 0 1rem }}
input, button {{ box-sizing: border-box; font: inherit; margin-top: .5rem; padding: .5rem; width: 100% }}
p {{ color: #b00020; min-height: 1.5em }}</style></head>
<body><main><h1>{sign_in}</h1><form method="post" action="{action}"><label>{label}
<input name="key" type="password" autocomplete="current-password" required autofocus></label>
<button>{sign_in}</button></form><p role="alert">{message}</p></main></body></html>
"""


class Keys:
    """ASGI middleware: passes on only requests that have one of `keys`, and has the page's form."""

    def __init__(self, app: ASGIApp, keys: Sequence[str], *, root_path: str = "") -> None:
        self._app, self._root_path = app, root_path
        self._keys = list(keys)
        self._tokens = [_digest("token", key) for key in keys]
        self._cookies = [_digest("cookie", key) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with the form or a refusal."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        path = route_path(scope)
        if scope["type"] == "http" and path == SIGN_IN:
            await (await self._sign_in(scope, receive))(scope, receive, send)
        elif key := self._find_key(scope, path):
            await self._app(with_key(scope, key), receive, send)
        elif path in OPEN_ROUTES:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif path == "/" and "text/html" in Headers(scope=scope).get("accept", ""):
            await self._form(scope, 401)(scope, receive, send)
        else:
            await NO_KEY.send(scope, receive, send)

    def _find_key(self, scope: Scope, path: str) -> str:
        """The key that a request has; empty if it has none."""
        headers = Headers(scope=scope)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._compare(_digest("token", token.strip()), self._tokens)
        if f"{path}/".startswith(TOKEN_ONLY):
            return ""
        return self._compare(_read_cookie(headers), self._cookies)

    def _compare(self, given: str, expected: Sequence[str]) -> str:
        """The key of the digest, after comparing it with all of them, so that the time says nothing of a key."""
        equal = [hmac.compare_digest(given.encode(), digest.encode()) for digest in expected]
        return self._keys[equal.index(True)] if any(equal) else ""

    async def _sign_in(self, scope: Scope, receive: Receive) -> Response:
        if scope["method"] != "POST":
            return self._form(scope, 200)
        form = await _read_form(receive)
        key = self._compare(_digest("token", form.get("key", [""])[0].strip()), self._tokens)
        if not key:
            return self._form(scope, 401, "sign_in_wrong_key")
        response = RedirectResponse(f"{self._root_path}/", status_code=303)
        is_framed = Headers(scope=scope).get("sec-fetch-dest", "") in FRAMES
        response.set_cookie(
            COOKIE,
            _digest("cookie", key),
            max_age=COOKIE_SECONDS,
            path=f"{self._root_path}/",
            secure=is_framed or scope.get("scheme") == "https",
            httponly=True,
            samesite="none" if is_framed else "strict",
        )
        if is_framed:  # Starlette sets this attribute from Python 3.14 on only
            response.headers["set-cookie"] += "; Partitioned"
        return response

    def _form(self, scope: Scope, status: int, message: str = "") -> Response:
        """The form in the user's language; `message` is the key of a text, or empty."""
        locale = locales.locale_of(Headers(scope=scope), scope["query_string"].decode("latin-1"))
        values = {
            "tag": locale.tag,
            "direction": locale.direction,
            "action": f"{self._root_path}{SIGN_IN}",
            "sign_in": locale.text("sign_in"),
            "label": locale.text("sign_in_key"),
            "message": locale.text(message) if message else "",
        }
        page = PAGE.format(**{name: html.escape(value) for name, value in values.items()})
        return HTMLResponse(page, status, {"Cache-Control": "no-store", "Vary": "Accept-Language, Cookie"})


def _digest(purpose: str, key: str) -> str:
    return hmac.new(key.encode("utf-8", "replace"), f"blip-space {purpose}".encode(), hashlib.sha256).hexdigest()


def _read_cookie(headers: Headers) -> str:
    for text in headers.getlist("cookie"):
        for part in text.split(";"):
            name, _, value = part.strip().partition("=")
            if name == COOKIE:
                return value
    return ""


async def _read_form(receive: Receive) -> dict[str, list[str]]:
    """The fields of a small form; none if it is larger."""
    body, more = b"", True
    while more and len(body) <= MAX_FORM_BYTES:
        message = await receive()
        body += message.get("body", b"")
        more = message["type"] == "http.request" and message.get("more_body", False)
    return {} if more or len(body) > MAX_FORM_BYTES else parse_qs(body.decode("latin-1"), max_num_fields=10)
