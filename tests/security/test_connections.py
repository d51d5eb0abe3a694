"""One address has so many connections, and one without a request is closed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from blip_space.apps import server
from blip_space.apps.http import connections
from blip_space.apps.http.connections import limit_connections, max_connections
from blip_space.settings.proxies import parse_trusted_proxies
from blip_space.settings.values import Value
from tests.apps.conftest import free_port
from tests.apps.fake_engine import PARROT, FakeEngine
from tests.serving.fakes import wait_until

LIMIT = 3
PROXY = "127.0.0.9"


@pytest.fixture(scope="module")
def running(_own_uploads: None) -> Iterator[Any]:
    """A server that lets an address have few connections."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "max_connections", lambda: LIMIT)
        running = server.launch(FakeEngine(PARROT), host="127.0.0.1", port=free_port())
    yield running
    running.close()


def connect(running: Any, address: str) -> socket.socket:
    """A connection from an address of this machine, on which nothing is sent yet."""
    target = httpx.URL(running.url)
    return socket.create_connection((target.host, target.port or 80), timeout=20, source_address=(address, 0))


def start_request(connection: socket.socket) -> None:
    """Send a head without its end, which keeps the connection open."""
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n")


def status(running: Any, address: str) -> int:
    """The status of a request on a connection of its own."""
    with httpx.Client(transport=httpx.HTTPTransport(local_address=address), timeout=20) as client:
        return client.get(f"{running.url}healthz").status_code


def test_one_address_has_few_connections(running: Any) -> None:
    held = [connect(running, "127.0.0.2") for _ in range(LIMIT)]
    for connection in held:
        start_request(connection)
    with closing(connect(running, "127.0.0.2")) as refused:
        answer = refused.recv(4_096).decode()
    assert answer.startswith("HTTP/1.1 503 ")
    assert "There are too many connections from your address." in answer
    assert status(running, "127.0.0.3") == 200
    for connection in held:
        connection.close()
    wait_until(lambda: status(running, "127.0.0.2") == 200)


def test_a_trusted_proxy_brings_everybodys_connections(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = running.demo.server.config
    base = config.http_protocol_class.__mro__[1]
    changed = SimpleNamespace(http_protocol_class=base, ws_protocol_class=None)
    limit_connections(changed, parse_trusted_proxies(Value(PROXY, "test")), limit=LIMIT)
    monkeypatch.setattr(config, "http_protocol_class", changed.http_protocol_class)
    held = [connect(running, PROXY) for _ in range(LIMIT + 1)]
    for connection in held:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(4_096).startswith(b"HTTP/1.1 200 ")
        connection.close()


def test_a_connection_without_a_request_is_closed(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose first request was answered has to send the next one in the same time."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.05)
    with closing(connect(running, "127.0.0.4")) as connection:
        start_request(connection)
        assert connection.recv(4_096) == b""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    with closing(connect(running, "127.0.0.4")) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(4_096).startswith(b"HTTP/1.1 200 ")
        start_request(connection)
        while connection.recv(4_096):
            pass


def test_a_request_that_runs_keeps_its_connection(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    with closing(connect(running, "127.0.0.5")) as kept:
        kept.sendall(b"POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
        for _ in range(3):
            with closing(connect(running, "127.0.0.5")) as closed:
                start_request(closed)
                assert closed.recv(4_096) == b""
        kept.sendall(b"{}")
        assert kept.recv(4_096).startswith(b"HTTP/1.1 404 ")


def test_the_limit_is_a_part_of_the_files_that_may_be_open() -> None:
    assert 16 <= max_connections() <= 1_024
