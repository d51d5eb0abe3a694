"""Our middleware is in front of every route, those of Gradio, ours, and none."""

from __future__ import annotations

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from blip_space.apps import http, server
from tests.apps.conftest import free_port
from tests.apps.fake_engine import PARROT, FakeEngine


def test_middleware_sees_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def spy(app: ASGIApp, *_: object) -> ASGIApp:
        async def see(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(f"{scope['method']} {scope['path']}" if scope["type"] == "http" else scope["type"])
            await app(scope, receive, send)

        return see

    monkeypatch.setattr(http, "wrap", spy)
    running = server.launch(FakeEngine(PARROT), host="127.0.0.1", port=free_port())
    try:
        with httpx.Client(base_url=running.url) as client:
            for path in ("healthz", "config", "nothing"):
                client.get(path)
            client.options("gradio_api/upload", headers={"Origin": "http://other.example"})
    finally:
        running.close()
    assert {"GET /healthz", "GET /config", "GET /nothing", "OPTIONS /gradio_api/upload"} <= set(seen)
