"""Middleware of our own in front of every route, Gradio's and ours: what is allowed at all, and how it is refused.

Each concern is a module with one pure ASGI middleware; `wrap` composes them. Depends on Starlette, the settings,
images, errors and the page's texts. Must not import Gradio, whose guards cover none of the routes that are ours.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp

from blip_space.apps import uploads
from blip_space.apps.http.body_limits import BodyLimits
from blip_space.apps.http.callers import CallerAddresses
from blip_space.apps.http.closed_routes import ClosedRoutes
from blip_space.apps.http.errors import ErrorSentences
from blip_space.apps.http.keys import Keys
from blip_space.apps.http.open_requests import OpenRequests
from blip_space.apps.http.page_files import PageFiles
from blip_space.apps.http.rate_limits import RateLimits
from blip_space.apps.http.refusals import Refusal
from blip_space.apps.http.response_counts import ResponseCounts
from blip_space.apps.http.root_path import RootPath
from blip_space.apps.http.security_headers import SecurityHeaders
from blip_space.apps.http.upload_limits import UploadLimits
from blip_space.settings import Settings, upload_folder

__all__ = ["OpenRequests", "Refusal", "wrap"]


def wrap(app: ASGIApp, settings: Settings, open_requests: OpenRequests, count: Callable[[str, int], object]) -> ASGIApp:
    """`app` behind all middleware of this package. The last one that is added here is the first to see a request.
    `count` is called with the route and the status of each response."""
    app = ErrorSentences(PageFiles(app))
    app = UploadLimits(app, uploads.UploadStorage(upload_folder(), uploads.LIMITS))
    app = BodyLimits(app)
    app = ClosedRoutes(app)
    if settings.requests_per_minute:
        app = RateLimits(app, settings.requests_per_minute)
    if settings.keys:
        app = Keys(app, settings.keys, root_path=settings.root_path)
    app = open_requests.wrap(app)
    app = ResponseCounts(app, count)
    app = SecurityHeaders(app)
    app = CallerAddresses(app, settings.trusted_proxies)
    return RootPath(app, settings.root_path) if settings.root_path else app
