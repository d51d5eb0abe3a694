"""The headers by which browsers learn where the parts of a response may come from, and who may show or read it.

The policy is as strict as Gradio's page bears: it has inline scripts and styles, compiles the small scripts of its
events, and shows images from memory. No other site's page may read a response or send a call; a proxy in front can
allow it.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip_space.apps.http.refusals import Refusal, route_path

HUB = "https://huggingface.co https://*.huggingface.co https://*.hf.space"
"""Pages that may show this one in a frame: those of the Hugging Face hub, which shows a Space so."""

POLICY = "; ".join((
    "default-src 'self'",
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "media-src 'self' data: blob:",
    "font-src 'self' data:",
    "connect-src 'self' data: blob:",
    "worker-src 'self' blob:",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
    f"frame-ancestors 'self' {HUB}",
))  # fmt: skip

FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'self'"
"""For what users have uploaded: shown as an image, never run."""

FILE_ROUTES = ("/gradio_api/file=", "/gradio_api/file/")

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
    "Cross-Origin-Resource-Policy": "same-origin",
}
CORS = b"access-control-"

FOREIGN_PAGE = Refusal(
    403,
    "forbidden",
    "This server takes no requests from another site's page. Call it from a program, or open its page.",
)


class SecurityHeaders:
    """ASGI middleware: sets these headers, removes those of CORS, and refuses what other sites' pages send."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and its response back with these headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        policy = FILE_POLICY if route_path(scope).startswith(FILE_ROUTES) else POLICY
        own = [(b"content-security-policy", policy.encode())]
        own += [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
        replaced = {name for name, _ in own}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [
                    (name, value)
                    for name, value in message.get("headers", [])
                    if name.lower() not in replaced and not name.lower().startswith(CORS)
                ]
                message = {**message, "headers": [*kept, *own]}
            await send(message)

        is_foreign = scope["method"] not in ("GET", "HEAD", "OPTIONS") and _is_cross_site(scope)
        await (FOREIGN_PAGE.send if is_foreign else self._app)(scope, receive, send_with_headers)


def _is_cross_site(scope: Scope) -> bool:
    """Whether a browser says that another site's page sends this. Programs say nothing."""
    return Headers(scope=scope).get("sec-fetch-site", "") == "cross-site"
