"""Bodies with images share a bounded memory: one that does not fit waits, and is refused after a while."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from blip_space.apps.http import body_memory
from blip_space.apps.http.body_limits import BodyLimits
from blip_space.apps.http.body_memory import BodyMemory, release_body
from tests.security.coroutines import run_in_thread

ONE, OTHER, THIRD = "10.0.0.1", "10.0.0.2", "10.0.0.3"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for 100 bytes, 50 of one address."""
    monkeypatch.setattr(body_memory, "MAX_TOTAL_BYTES", 100)
    monkeypatch.setattr(body_memory, "WAIT_SECONDS", 0.05)


def test_a_body_waits_until_its_address_has_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_memory, "WAIT_SECONDS", 60)

    async def run() -> None:
        memory = BodyMemory()
        free = await memory.reserve(ONE, 50)
        waiting = asyncio.ensure_future(memory.reserve(ONE, 1))
        await memory.reserve(OTHER, 50)
        assert not waiting.done()
        free()
        free()  # counts once
        await waiting
        await memory.reserve(ONE, 49)

    run_in_thread(run())


def test_a_body_without_memory_in_time_is_refused() -> None:
    async def run() -> None:
        memory = BodyMemory()
        for address in (ONE, OTHER):
            await memory.reserve(address, 50)
        with pytest.raises(TimeoutError):
            await memory.reserve(THIRD, 1)

    run_in_thread(run())


@pytest.mark.parametrize(("path", "is_announced", "statuses"), [
    ("/v1/chat/completions", True, [200, 503, 200]),
    ("/v1/chat/completions", False, [200, 503, 200]),
    ("/gradio_api/call/chat", True, [200, 200, 200]),
])  # fmt: skip
def test_a_request_holds_its_memory_until_it_releases_it(
    monkeypatch: pytest.MonkeyPatch, path: str, is_announced: bool, statuses: list[int]
) -> None:
    """The second one arrives while the first one has its image, the third one when it only waits for tokens."""
    body = b"x" * 50
    sent: list[int] = []

    async def run() -> None:
        may_release, may_end = asyncio.Event(), asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert (await receive())["body"] == body
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await may_release.wait()
            release_body(scope)
            await may_end.wait()

        limits = BodyLimits(app)

        def start() -> asyncio.Future[None]:
            header = (b"content-length", b"50") if is_announced else (b"transfer-encoding", b"chunked")
            scope: Scope = {"type": "http", "method": "POST", "path": path, "headers": [header], "client": (ONE, 1)}

            async def receive() -> Message:
                return {"type": "http.request", "body": body, "more_body": False}

            async def send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    sent.append(message["status"])

            return asyncio.ensure_future(limits(scope, receive, send))

        requests = []
        for _ in range(2):
            requests.append(start())
            while len(sent) < len(requests):
                await asyncio.sleep(0)
        may_release.set()
        await asyncio.sleep(0)
        requests.append(start())
        while len(sent) < len(requests):
            await asyncio.sleep(0)
        may_end.set()
        await asyncio.gather(*requests)

    if not is_announced:  # the most that it may have is reserved
        monkeypatch.setattr(body_memory, "MAX_TOTAL_BYTES", 60_000_000)
    run_in_thread(run())
    assert sent == statuses
