"""Puts the user's language into the page before the browser sees it.

The layout has a marker wherever a text stands, since Gradio builds it once for all users. This middleware replaces
the markers in the page of one user, sets the page's language and direction, and gives the page's script its
texts. It stands inside Gradio's compression. What the page says about the server's state is rendered at each request,
so that it does not change, and move the rest, after the page is shown. Must not import Gradio.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip_space.apps import locales
from blip_space.apps.http.refusals import route_path
from blip_space.apps.language_names import search_names
from blip_space.apps.locales import Locale
from blip_space.apps.page import static

PAGES = ("/", "/config")
"""The routes whose responses have markers: the page, and what Gradio's script reads again when it reconnects."""


Current = Mapping[str, Callable[[], str]]
"""By name: what renders a part of the page as it is now, in the language of `current_locale`."""

CURRENT = re.compile(r"⟦now:(\w+)⟧")


def current(name: str) -> str:
    """The marker of a part of the page that is rendered at each request."""
    return f"⟦now:{name}⟧"


class LocalizedPage:
    """ASGI middleware that replaces the markers of the page by the texts of the user's language, and by the `current`
    parts."""

    def __init__(self, app: ASGIApp, current: Current | None = None) -> None:
        self._app, self._current = app, current or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and its response back in the user's language."""
        if scope["type"] != "http" or scope["method"] != "GET" or route_path(scope) not in PAGES:
            await self._app(scope, receive, send)
            return
        is_page = route_path(scope) == "/"
        locale = locales.locale_of(Headers(scope=scope), scope["query_string"].decode("latin-1") if is_page else None)
        render = _render_page if is_page else _replace_markers

        def rewrite(body: str) -> str:
            return render(_replace_current(body, locale, self._current), locale)

        await self._app(scope, receive, _Rewriter(send, rewrite, locale))


class _Rewriter:
    """Collects a response, and sends it rewritten."""

    def __init__(self, send: Send, rewrite: Callable[[str], str], locale: Locale) -> None:
        self._send, self._rewrite, self._locale = send, rewrite, locale
        self._start: Message | None = None
        self._parts: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._parts.append(message.get("body", b""))
        if message.get("more_body") or self._start is None:
            return
        body = self._rewrite(b"".join(self._parts).decode()).encode()
        headers = MutableHeaders(scope=self._start)
        headers["content-length"] = str(len(body))
        headers["content-language"] = self._locale.tag
        headers.add_vary_header("Accept-Language, Cookie")
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body})


def _render_page(html: str, locale: Locale) -> str:
    """The page in a language. Gradio's own words follow the browser's language, which the script lets be ours."""
    data = {
        "tag": locale.tag,
        "texts": {**locales.english().texts, **locale.texts},
        "languages": {code: [locale.language_name(code), *names] for code, names in search_names().items()},
    }
    script = f"<script>window.blipSpaceLocale = {_for_script(data)};\n{static.first_script()}</script>"
    html = re.sub(r'<html\s+lang="en"', f'<html lang="{locale.tag}" dir="{locale.direction}"', html, count=1)
    return _replace_markers(html, locale).replace("<head>", f"<head>{script}", 1)


def _replace_current(text: str, locale: Locale, parts: Current) -> str:
    """`text` with the current parts, which stand in JSON strings, rendered once each."""
    token = locales.current_locale.set(locale)
    try:
        rendered = {name: _for_script(parts[name]())[1:-1] for name in set(CURRENT.findall(text))}
    finally:
        locales.current_locale.reset(token)
    return CURRENT.sub(lambda match: rendered[match[1]], text)


def _replace_markers(text: str, locale: Locale) -> str:
    """`text` with the texts for its markers, which all stand in JSON strings."""
    return locales.MARKER.sub(lambda match: _for_script(locale.replace_markers(match[0]))[1:-1], text)


def _for_script(value: object) -> str:
    """`value` as JSON that may stand in a script of a page."""
    return re.sub("[<>&'\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))
