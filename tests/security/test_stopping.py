"""Laws of a stop: open streams end with a sentence, answers may finish first, and nothing new is begun."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from blip_space.apps import server
from blip_space.apps.http import event_streams
from blip_space.apps.http.refusals import CODE_HEADER
from blip_space.serving.protocol import STOPPED_RUNNING
from tests.apps.conftest import free_port
from tests.apps.fake_engine import PARROT, FakeEngine
from tests.example_images import blue_circles
from tests.serving.fakes import wait_until

STREAMS = 24
SENTENCES = (STOPPED_RUNNING, event_streams.STOPPING)
PROMPT = "one two three"


@pytest.fixture
def running(_own_uploads: None) -> Iterator[server.Server]:
    """A server of its own for each test, since it is stopped."""
    running = server.launch(FakeEngine(PARROT), host="127.0.0.1", port=free_port())
    yield running
    running.engine.stop()
    running.demo.close(verbose=False)


@pytest.fixture
def web(running: server.Server) -> Iterator[httpx.Client]:
    """Clients of that server."""
    limits = httpx.Limits(max_connections=None)
    with httpx.Client(base_url=running.url, timeout=30, limits=limits) as client:
        yield client


def ask(web: httpx.Client) -> str:
    """The path of the stream with the answer to a question about an image."""
    (path,) = web.post("/gradio_api/upload", files={"files": ("a.png", blue_circles())}).raise_for_status().json()
    image = {"path": path, "meta": {"_type": "gradio.FileData"}}
    event = web.post("/gradio_api/call/v2/chat", json={"image": image, "prompt": PROMPT}).raise_for_status().json()
    return f"/gradio_api/call/chat/{event['event_id']}"


def read(web: httpx.Client, path: str) -> str:
    """All of a stream, to its regular end: httpx raises an error if the connection is cut."""
    return web.get(path).raise_for_status().text


def last_data(stream: str) -> Any:
    """The value of the last event of a stream, or the sentence of its error."""
    data = json.loads(stream.strip().splitlines()[-1].removeprefix("data: "))
    return data["error"] if isinstance(data, dict) else data


def hold_all(running: server.Server) -> FakeEngine:
    """From now on answers stay at their first word."""
    engine = running.engine
    assert isinstance(engine, FakeEngine)
    engine.hold()
    return engine


def test_each_of_many_open_answers_ends_with_a_sentence(running: server.Server, web: httpx.Client) -> None:
    """They were cut off, or ended in another program's words."""
    engine = hold_all(running)
    with ThreadPoolExecutor(STREAMS) as threads, ExitStack() as stack:
        heartbeat = stack.enter_context(web.stream("GET", "/gradio_api/heartbeat/abc"))
        streams = [threads.submit(read, web, path) for path in [ask(web) for _ in range(STREAMS)]]
        wait_until(lambda: len(engine.responses) == STREAMS)
        running.close()
        assert {last_data(stream.result()) for stream in streams} <= set(SENTENCES)
        assert "ALIVE" in heartbeat.read().decode()
    with pytest.raises(httpx.ConnectError):
        web.get("/healthz")


def test_an_answer_that_does_not_end_by_itself_is_ended(
    running: server.Server, web: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one whose image is still being decoded: the engine does not know it yet."""
    engine = hold_all(running)
    monkeypatch.setattr(engine, "stop", lambda: None)
    monkeypatch.setattr(server, "END_SECONDS", 0.1)
    path = ask(web)
    with ThreadPoolExecutor(1) as threads:
        stream = threads.submit(read, web, path)
        wait_until(lambda: len(engine.responses) == 1)
        running.close()
        assert last_data(stream.result()) == event_streams.STOPPING


def test_running_answers_finish_first_and_nothing_new_is_begun(running: server.Server, web: httpx.Client) -> None:
    engine = hold_all(running)
    assert web.get("/readyz").json() == {"status": "ready"}
    with ThreadPoolExecutor(1) as threads:
        stream = threads.submit(read, web, ask(web))
        wait_until(lambda: len(engine.responses) == 1)
        closing = threading.Thread(target=running.close, kwargs={"drain_seconds": 60})
        closing.start()
        wait_until(lambda: running.open_requests.is_stopping)
        for path in ("/gradio_api/queue/join", "/gradio_api/call/chat", "/gradio_api/upload"):
            refused = web.post(path, json={"data": []})
            assert (refused.status_code, refused.headers[CODE_HEADER]) == (503, "stopping")
        assert web.get("/readyz").json()["code"] == "stopping"
        assert web.get("/healthz").json()["status"] == "stopping"
        engine.release()
        assert last_data(stream.result())[0] == PROMPT
        closing.join()


def test_what_was_accepted_finishes_first(running: server.Server, web: httpx.Client) -> None:
    """A call whose client does not listen yet, and an upload that still arrives."""
    engine = hold_all(running)
    data, parts = blue_circles(), threading.Event()
    head = b'--B\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'

    def slowly() -> Iterator[bytes]:
        yield head + data[:50]
        parts.wait(20)
        yield data[50:] + b"\r\n--B--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    with ThreadPoolExecutor(1) as threads:
        path = ask(web)
        wait_until(lambda: len(engine.responses) == 1)
        upload = threads.submit(web.post, "/gradio_api/upload", content=slowly(), headers=headers)
        wait_until(lambda: any(request.is_work for request in running.open_requests._open))
        closing = threading.Thread(target=running.close, kwargs={"drain_seconds": 60})
        closing.start()
        wait_until(lambda: running.open_requests.is_stopping)
        parts.set()
        assert upload.result().status_code == 200
        engine.release()
        wait_until(lambda: engine.responses[0].done)
        assert last_data(read(web, path))[0] == PROMPT
        closing.join()


def test_a_server_is_ready_once_it_can_answer(running: server.Server, web: httpx.Client) -> None:
    engine = hold_all(running)
    engine.set_status(status="loading", loaded=())
    loading = web.get("/readyz")
    assert (loading.status_code, loading.json()["code"]) == (503, "busy")
    assert web.get("/healthz").status_code == 200
    engine.set_status(status="failed", loaded=())
    failed = web.get("/readyz")
    assert (failed.status_code, failed.json()["code"]) == (503, "model_unavailable")
    engine.set_status(status="loading", loaded=(PARROT.name,))  # it loads a second model
    assert web.get("/readyz").status_code == 200
