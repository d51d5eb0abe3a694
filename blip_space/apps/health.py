"""`/healthz`, the state of a server, and `/readyz`, whether it can answer now.

What restarts a server asks for the first, and what sends it requests for the second.

Depends on `EngineProtocol` and Starlette only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from blip_space.apps.http.open_requests import STOPPING
from blip_space.apps.http.refusals import Refusal
from blip_space.serving.protocol import EngineProtocol, EngineStatus

LOADING = Refusal(503, "busy", "The server still loads its model. Try again in a minute.", {"Retry-After": "10"})
FAILED = Refusal(503, "model_unavailable", "The server has no model that works. Its log and /healthz say why.")


def routes(engine: EngineProtocol, is_stopping: Callable[[], bool]) -> list[Route]:
    """The routes, for an engine and for what says whether the server stops."""

    def healthz(_request: Request) -> JSONResponse:
        return JSONResponse(describe(engine.status(), is_stopping=is_stopping()))

    def readyz(request: Request) -> Response:
        refusal = find_obstacle(engine.status(), is_stopping=is_stopping())
        return refusal.response(request.scope) if refusal else JSONResponse({"status": "ready"})

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


def find_obstacle(status: EngineStatus, *, is_stopping: bool) -> Refusal | None:
    """Why the server cannot answer; None if it can, also while it loads a further model."""
    if is_stopping:
        return STOPPING
    if status.status == "failed":
        return FAILED
    return None if status.status == "ready" or status.loaded else LOADING


def describe(status: EngineStatus, *, is_stopping: bool) -> dict[str, Any]:
    """The state of a server."""
    names = ("status", "model", "precision", "device", "waiting", "running")
    body = {name: getattr(status, name) for name in names} | asdict(status.metrics)
    if status.decode:
        body |= {"decode": status.decode, "decode_reason": status.decode_reason}
    if status.load_progress:
        body["progress"] = asdict(status.load_progress)
    if status.replicas is not None:
        body["replicas"] = status.replicas
    if status.status == "failed":
        body["error"] = status.error
    if is_stopping:
        body["status"] = "stopping"
    return body
