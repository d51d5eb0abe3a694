"""Many programs over OpenAI's protocol, beside others over Gradio's, and before a server that refuses or stops."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from openai import OpenAI

from blip_space.apps import server
from blip_space.apps.openai_api.completions import ENDPOINT
from blip_space.serving.protocol import STOPPED_RUNNING
from blip_space.settings import Settings
from tests.apps.conftest import free_port
from tests.apps.fake_engine import PARROT, FakeEngine
from tests.apps.openai_api.conftest import ask, new_client
from tests.apps.openai_api.test_protocol import CHAT, PROMPT, check_error
from tests.security.test_metrics import scrape, total
from tests.serving.fakes import wait_until

PROGRAMS, PAGES = 32, 8


def test_many_programs_beside_pages_are_not_mixed_up(
    openai: OpenAI, url: str, web: httpx.Client, engine: FakeEngine, image_file: Path
) -> None:
    def run(number: int) -> bool:
        prompt = f"program {number} of {PROGRAMS}"
        stream = openai.chat.completions.create(model="parrot", messages=[ask(prompt)], stream=number % 2 == 0)
        if isinstance(stream, httpx.Response | str) or hasattr(stream, "choices"):
            return bool(stream.choices[0].message.content == prompt)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream) == prompt

    pages = [Client(url, verbose=False, httpx_kwargs={"timeout": 60}) for _ in range(PAGES)]

    def call(number: int) -> bool:
        prompt = f"page {number} of {PAGES}"
        return bool(pages[number].predict(handle_file(image_file), prompt, api_name="/chat") == prompt)

    before = scrape(web)
    with ThreadPoolExecutor(PROGRAMS + PAGES) as pool:
        programs, calls = pool.map(run, range(PROGRAMS)), pool.map(call, range(PAGES))
        assert all(programs)
        assert all(calls)
    after = scrape(web)

    def grown(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    assert grown("blip_space_requests_total", endpoint=ENDPOINT, outcome="answered") == PROGRAMS
    assert grown("blip_space_answers_total", endpoint=ENDPOINT, outcome="answered") == PROGRAMS
    assert grown("blip_space_answers_total") == PROGRAMS + PAGES
    assert grown("blip_space_generated_tokens_total") == 4 * (PROGRAMS + PAGES)
    assert grown("blip_space_http_responses_total", route="v1", status="200") == PROGRAMS
    assert len(engine.requests) == PROGRAMS + PAGES


def test_the_middleware_refuses_in_the_protocols_form() -> None:
    settings = Settings(keys=("a-key-for-programs",), requests_per_minute=2, answers_at_once=1)
    engine = FakeEngine(PARROT)
    running = server.launch(engine, host="127.0.0.1", port=free_port(), settings=settings)
    body = {"model": "parrot", "messages": [ask(PROMPT)], "stream": True}
    try:
        with httpx.Client(base_url=running.url, timeout=20) as web, ThreadPoolExecutor(1) as pool:
            assert check_error(web.get("/v1/models"))[:2] == (401, "invalid_api_key")
            assert check_error(web.post(CHAT, content=b"x" * 31_000_000))[0] == 401
            web.headers["Authorization"] = "Bearer a-key-for-programs"
            with new_client(running.url.rstrip("/"), key="a-key-for-programs") as client:
                assert len(list(client.models.list())) == 1
            engine.hold()
            stream = pool.submit(web.post, CHAT, json=body)
            wait_until(lambda: len(engine.responses) == 1)
            second = web.post(CHAT, json=body)
            assert check_error(second)[:2] == (429, "rate_limit_exceeded")
            assert "answers running" in second.json()["error"]["message"]
            third = web.post(CHAT, json=body)
            assert check_error(third)[:2] == (429, "rate_limit_exceeded")
            assert "in a minute" in third.json()["error"]["message"]
            assert int(third.headers["retry-after"]) > 0
            closing = threading.Thread(target=running.close, kwargs={"drain_seconds": 60})
            closing.start()
            wait_until(lambda: running.open_requests.is_stopping)
            assert check_error(web.post(CHAT, json=body))[:2] == (503, "stopping")
            assert not stream.done()  # it may finish
            engine.release()
            assert stream.result().text.rstrip().endswith("[DONE]")
            closing.join()
    finally:
        running.close()


def _close_while_answering(
    running: server.Server, engine: FakeEngine, *, drain_seconds: float = 0.0
) -> tuple[list[str], httpx.Response]:
    """Close the server during a stream and a whole answer, which may finish if it drains; returns the stream's last
    events and the other reply."""
    with httpx.Client(base_url=running.url, timeout=20) as web, ThreadPoolExecutor(1) as pool:
        body = {"messages": [ask(PROMPT)]}
        with web.stream("POST", CHAT, json={**body, "stream": True}) as stream:
            events = stream.iter_lines()
            next(event for event in events if '"content": "one"' in event)
            whole = pool.submit(web.post, CHAT, json=body)
            wait_until(lambda: len(engine.responses) == 2)
            closing = threading.Thread(target=running.close, kwargs={"drain_seconds": drain_seconds})
            closing.start()
            if drain_seconds:
                wait_until(lambda: running.open_requests.is_stopping)
                engine.release()
            ended = list(events), whole.result()
            closing.join()
            return ended


def test_a_stopping_server_ends_answers_with_an_error() -> None:
    engine = FakeEngine(PARROT)
    running = server.launch(engine, host="127.0.0.1", port=free_port())
    engine.hold()
    events, whole = _close_while_answering(running, engine)
    assert STOPPED_RUNNING in "".join(events)
    assert check_error(whole)[2] is None


def test_a_draining_server_finishes_streams_and_whole_answers() -> None:
    engine = FakeEngine(PARROT)
    running = server.launch(engine, host="127.0.0.1", port=free_port())
    engine.hold()
    events, whole = _close_while_answering(running, engine, drain_seconds=60)
    assert [event for event in events if event][-1] == "data: [DONE]"
    assert "error" not in "".join(events)
    assert whole.json()["choices"][0]["message"]["content"] == PROMPT
    assert whole.json()["choices"][0]["finish_reason"] == "stop"


def test_answers_that_do_not_end_by_themselves_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(PARROT)
    running = server.launch(engine, host="127.0.0.1", port=free_port())
    engine.hold()
    monkeypatch.setattr(engine, "stop", lambda: None)
    monkeypatch.setattr(server, "END_SECONDS", 0.1)
    events, whole = _close_while_answering(running, engine)
    (last,) = [event for event in events if event]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "stopping"
    assert check_error(whole)[:2] == (503, "stopping")
    engine.release()
