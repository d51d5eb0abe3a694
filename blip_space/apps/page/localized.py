"""Puts the user's language into the page before the browser sees it.

The layout has a marker wherever a text stands, since Gradio builds it once for all users. This middleware replaces
the markers in the page of one user, sets the page's language and direction, and gives the page's script its
texts; then it compresses the page, which Gradio does for files with certain endings only. What the page says about the
server's state is rendered at each request, so that it does not change, and move the rest, after the page is shown. Must
not import Gradio.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
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

CURRENT = re.compile(r"⟦now:(\w+)⟧".encode())


def current(name: str) -> str:
    """The marker of a part of the page that is rendered at each request."""
    return f"⟦now:{name}⟧"


COMPRESSION = 5
"""The level of gzip, which takes some 5 ms and leaves a fifth of the page."""

MAX_KEPT = 32
"""How many pages are kept, before the current parts are filled in: one for each language and address of the server."""

ADDRESS_HEADERS = ("host", "x-forwarded-host", "x-forwarded-proto", "x-gradio-server")
"""The headers by which Gradio knows the server's address, the one thing in its page that differs between users."""

PAGE_PARAMETERS = {"deep_link", "page"}
"""Parameters of the address for which Gradio makes another page."""

CONFIG = "window.gradio_config = "
ONLY_FOR_THE_SERVER = ("api_info", "api_info_as_input", "api_info_as_output", "example_inputs")
"""What Gradio says of each component and its page's script never reads: a quarter of the page."""

ENDPOINTS = "endpoints"
"""The `elem_id` of what holds the inputs and outputs of the API's endpoints, which the page never shows."""


class LocalizedPage:
    """ASGI middleware that replaces the markers of the page by the texts of the user's language, and by the `current`
    parts."""

    def __init__(self, app: ASGIApp, current: Current | None = None) -> None:
        self._app, self._current = app, current or {}
        self._compressed = GZipMiddleware(self._respond, compresslevel=COMPRESSION)
        self._kept: dict[tuple[object, ...], _Response] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and its response back in the user's language."""
        is_page = scope["type"] == "http" and scope["method"] == "GET" and route_path(scope) in PAGES
        await (self._compressed if is_page else self._app)(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, query, is_page = (
            Headers(scope=scope),
            scope["query_string"].decode("latin-1"),
            route_path(scope) == "/",
        )
        locale = locales.locale_of(headers, query if is_page else None)
        key = locale.tag, scope["scheme"], scope.get("root_path"), *map(headers.get, ADDRESS_HEADERS)
        is_kept = is_page and not PAGE_PARAMETERS & parse_qs(query).keys()
        response = self._kept.get(key) if is_kept else None
        if response is None:
            response = _Response()
            await self._app(scope, receive, response)
            response.body = (_render_page if is_page else _replace_markers)(response.body.decode(), locale).encode()
            if is_kept and response.status == HTTPStatus.OK:
                self._keep(key, response)
        await response.send(send, _replace_current(response.body, locale, self._current), locale)

    def _keep(self, key: tuple[object, ...], response: _Response) -> None:
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[key] = response


class _Response:
    """Collects a response."""

    def __init__(self) -> None:
        self.status, self.body = 0, b""
        self._start: Message = {}

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start, self.status = message, message["status"]
        else:
            self.body += message.get("body", b"")

    async def send(self, send: Send, body: bytes, locale: Locale) -> None:
        """Send the response with another body, which is in this language."""
        start = {**self._start, "headers": list(self._start["headers"])}
        headers = MutableHeaders(scope=start)
        headers["content-length"] = str(len(body))
        headers["content-language"] = locale.tag
        headers.add_vary_header("Accept-Language, Cookie")
        await send(start)
        await send({"type": "http.response.body", "body": body})


def _render_page(html: str, locale: Locale) -> str:
    """The page in a language. Gradio's own words follow the browser's language, which the script lets be ours."""
    data = {
        "tag": locale.tag,
        "texts": {**locales.english().texts, **locale.texts},
        "languages": {code: [locale.language_name(code), *names] for code, names in search_names().items()},
    }
    script = f"<script>window.blipSpaceLocale = {_for_script(data)};\n{static.first_script()}</script>"
    html = re.sub(r'<html\s+lang="en"', f'<html lang="{locale.tag}" dir="{locale.direction}"', html, count=1)
    early = "".join(f'<link rel="modulepreload" crossorigin href=".{path}">' for path in static.gradio_scripts())
    html = _without_server_parts(html).replace("</head>", f"{early}</head>", 1)
    return _replace_markers(html, locale).replace("<head>", f"<head>{script}", 1)


def _without_server_parts(html: str) -> str:
    """The page without what its configuration has for the server and the API only."""
    start = html.find(CONFIG) + len(CONFIG)
    if start < len(CONFIG):
        return html
    config, end = json.JSONDecoder().raw_decode(html, start)
    only_for_calls = {one["id"] for one in config["components"] if one["props"].get("elem_id") == ENDPOINTS}
    for part in (config, *config["page"].values()):
        layout = part["layout"]
        layout["children"] = [node for node in layout["children"] if node["id"] not in only_for_calls]
    shown = set(_ids(config["layout"]))
    config["components"] = [
        {key: value for key, value in component.items() if key not in ONLY_FOR_THE_SERVER}
        for component in config["components"]
        if component["id"] in shown
    ]
    return html[:start] + _for_script(config) + html[end:]


def _ids(node: dict[str, Any]) -> Iterator[int]:
    """The ids of a node of the layout and of all below it."""
    yield node["id"]
    for child in node.get("children") or []:
        yield from _ids(child)


def _replace_current(body: bytes, locale: Locale, parts: Current) -> bytes:
    """`body` with the current parts, which stand in JSON strings, rendered once each."""
    token = locales.current_locale.set(locale)
    try:
        rendered = {name: _for_script(parts[name.decode()]())[1:-1].encode() for name in set(CURRENT.findall(body))}
    finally:
        locales.current_locale.reset(token)
    return CURRENT.sub(lambda match: rendered[match[1]], body)


def _replace_markers(text: str, locale: Locale) -> str:
    """`text` with the texts for its markers, which all stand in JSON strings."""
    return locales.MARKER.sub(lambda match: _for_script(locale.replace_markers(match[0]))[1:-1], text)


def _for_script(value: object) -> str:
    """`value` as JSON that may stand in a script of a page."""
    return re.sub("[<>&'\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))
