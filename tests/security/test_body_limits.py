"""Bodies are refused by their bytes while they arrive, and by their values before they are parsed."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from blip_space.apps.http import body_limits
from blip_space.apps.http.body_limits import CALL_BYTES, MAX_DEPTH, MAX_VALUES, SMALL_BYTES, BodyLimits, byte_limit
from tests.security.coroutines import run_in_thread

CALL = "/gradio_api/call/budget"
JSON = {"Content-Type": "application/json"}


def call(text: str) -> bytes:
    """A valid call of /budget with this prompt."""
    return json.dumps({"data": [text, "en", [], "parrot", 64]}).encode()


def values(count: int) -> bytes:
    """JSON that has this many brackets, commas and colons."""
    return b"[" + b"0," * (count - 1) + b"0]"


@pytest.mark.parametrize("is_announced", [True, False])
def test_a_call_over_its_limit_is_refused(web: httpx.Client, is_announced: bool) -> None:
    body = call("x" * CALL_BYTES)
    content: Any = body if is_announced else (body[start : start + 65_536] for start in range(0, len(body), 65_536))
    answer = web.post(CALL, content=content, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert answer.json()["detail"].startswith("The request has more than 4 MB. Upload images as files")


def test_a_call_below_its_limit_reaches_its_handler(web: httpx.Client) -> None:
    answer = web.post(CALL, content=call("x" * (CALL_BYTES - 1_000)), headers=JSON)
    assert answer.status_code == 200
    assert "characters" in web.get(f"{CALL}/{answer.json()['event_id']}").text


def test_other_routes_take_small_bodies_only(web: httpx.Client) -> None:
    for path in ("/gradio_api/cancel", "/login", "/healthz", "/nothing"):
        answer = web.post(path, content=b"x" * (SMALL_BYTES + 1))
        assert answer.json()["detail"] == "The request has more than 64 kB. Nothing here takes as much."


def test_a_body_is_refused_before_it_is_sent(url: str) -> None:
    """A client that announces too much, and waits for permission, gets none."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        head = f"POST {CALL} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {10**12}\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(4_096).startswith(b"HTTP/1.1 413 ")


def test_too_many_values_are_refused_before_they_are_parsed(web: httpx.Client) -> None:
    answer = web.post(CALL, content=b'{"data":' + values(MAX_VALUES) + b"}", headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "more than 60,000 values" in answer.json()["detail"]


@pytest.mark.parametrize("body", [
    values(MAX_VALUES + 1), b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), b"[" * (MAX_DEPTH + 1),
    b"[" + b"{}," * (MAX_VALUES // 2 + 1), b'"' * (4 * MAX_VALUES + 1), b'"\\\\"' + values(MAX_VALUES + 1),
    b'"\\"",' + values(MAX_VALUES + 1),
])  # fmt: skip
def test_what_passes_a_bound_by_a_little_is_found(body: bytes) -> None:
    assert not body_limits.has_bounded_values(body)


@pytest.mark.parametrize("body", [
    b"", b"no JSON", values(MAX_VALUES), b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, b"[[]]" * 100,
    json.dumps("[{,:" * MAX_VALUES).encode(), json.dumps('"[\\"' * MAX_VALUES).encode(),
    json.dumps({"data": [[{"role": "user", "content": [{"type": "text", "text": 'a, [b] "c" \\'}]}] * 1_000]}).encode(),
])  # fmt: skip
def test_what_stands_in_strings_does_not_count(body: bytes) -> None:
    assert body_limits.has_bounded_values(body)


def test_routes_have_their_limits() -> None:
    assert byte_limit("/gradio_api/queue/join") == byte_limit("/gradio_api/run/chat") == 4_000_000
    assert byte_limit("/v1/chat/completions") == byte_limit("/mcp") == 30_000_000
    assert byte_limit("/gradio_api/component_server") == 65_536


class Connection:
    """A request without a server: what the client sends, and what it receives."""

    def __init__(self, *chunks: bytes, ends: bool = True, path: str = CALL, root_path: str = "") -> None:
        more = [*[True] * (len(chunks) - 1), not ends]
        self._messages: Iterator[Message] = iter(
            {"type": "http.request", "body": chunk, "more_body": is_more}
            for chunk, is_more in zip(chunks, more, strict=True)
        )
        self.scope: Scope = {
            "type": "http", "method": "POST", "path": path, "root_path": root_path,
            "headers": [(b"transfer-encoding", b"chunked")],
        }  # fmt: skip
        self.sent: list[Message] = []
        self.bodies: list[bytes] = []

    async def receive(self) -> Message:
        """The next message; after the last one nothing, for ever."""
        if message := next(self._messages, None):
            return message
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: Message) -> None:
        """Keep what the client receives."""
        self.sent.append(message)

    async def app(self, _scope: Scope, receive: Receive, _send: Send) -> None:
        """The app behind the limits."""
        self.bodies.append((await receive())["body"])

    def run(self) -> Connection:
        """Send the request through the limits."""
        run_in_thread(BodyLimits(self.app)(self.scope, self.receive, self.send))
        return self


def test_an_app_receives_the_whole_body_at_once() -> None:
    assert Connection(b"[1,", b"", b"2]").run().bodies == [b"[1,2]"]


def test_a_path_below_a_proxys_has_the_same_limit() -> None:
    long = b" " * (SMALL_BYTES + 1)
    assert Connection(long, path=f"/space{CALL}", root_path="/space").run().bodies == [long]


def test_a_body_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limits, "BODY_SECONDS", 0.01)
    connection = Connection(b"[", ends=False).run()
    assert (connection.sent[0]["status"], connection.bodies) == (408, [])


def test_a_body_over_its_limit_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limits, "MAX_DISCARDED_BYTES", 0)
    chunks = [b"x" * (CALL_BYTES // 2)] * 5
    connection = Connection(*chunks, ends=False).run()
    assert (connection.sent[0]["status"], connection.bodies) == (413, [])
