"""Every failed request is answered by one sentence of ours and a code, and no caller can fill the log."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from blip_space.apps import server
from blip_space.apps.http.errors import ErrorSentences
from blip_space.apps.repeated_errors import RepeatedErrors
from blip_space.errors import CODES
from tests.apps.conftest import free_port
from tests.apps.fake_engine import BUSY, PARROT, FakeEngine
from tests.example_images import blue_circles
from tests.security.coroutines import run_in_thread

JOIN = "/gradio_api/queue/join"
FOREIGN = ("Traceback", "Error:", "pydantic", "Internal Server", "Queue is", "Input should", "site-packages", "bytes")


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """The status and code of a refused request, whose body is checked to be a sentence."""
    body = answer.json()
    sentence: str = body["detail"]
    assert sentence == body["error"]
    assert sentence.endswith(".")
    assert not any(word in sentence for word in FOREIGN)
    assert body["code"] == answer.headers["x-error-code"]
    assert body["code"] in CODES
    return answer.status_code, body["code"]


def join(web: httpx.Client, event: Any = 4, session: Any = "s", data: Any = ()) -> httpx.Response:
    """The response to a raw call of an event."""
    return web.post(
        JOIN,
        content=json.dumps({"data": data, "fn_index": event, "session_hash": session}),
        headers={"Content-Type": "application/json"},
    )


@pytest.mark.parametrize("event", [-1, 9_999, 2**70, None, 2])
def test_an_event_that_there_is_not_is_refused(web: httpx.Client, event: Any) -> None:
    """Event 2 runs in the browser only."""
    assert refusal(join(web, event)) == (404, "not_found")


@pytest.mark.parametrize("session", ["", "x" * 129, "\ud800", "a b", 5])
def test_a_session_without_a_usable_name_is_refused(web: httpx.Client, session: Any) -> None:
    assert refusal(join(web, session=session))[1] == "invalid_value"


def test_a_call_without_a_session_is_refused_by_the_queue(web: httpx.Client) -> None:
    assert refusal(join(web, session=None)) == (400, "invalid_value")


@pytest.mark.parametrize("path", ["call/nothing", "call/v2/nothing", "call/v2/chat", "run/nothing", "nothing"])
def test_an_endpoint_that_there_is_not_is_refused(web: httpx.Client, path: str) -> None:
    body: Any = {"data": []} if "v2" not in path else {"nothing": 1}
    assert refusal(web.post(f"/gradio_api/{path}", json=body)) == (404, "not_found")


@pytest.mark.parametrize("body", [
    b"{", b"[]", b"{}", b'"a"', b'{"data": 5, "session_hash": "s"}', b'{"data":[%s]}' % (b"1" * 5_000),
    b'{"data":[],"fn_index":"a","session_hash":"s"}',
])  # fmt: skip
def test_a_body_of_the_wrong_form_is_refused(web: httpx.Client, body: bytes) -> None:
    answer = web.post(JOIN, content=body, headers={"Content-Type": "application/json"})
    assert refusal(answer)[1] == "invalid_value"


def test_other_methods_and_addresses_are_refused(web: httpx.Client) -> None:
    assert refusal(web.get(JOIN)) == (405, "not_found")
    assert refusal(web.get("/nothing")) == (404, "not_found")
    assert refusal(web.get("/gradio_api/file=/etc/passwd")) == (403, "forbidden")


def test_a_refused_upload_is_a_sentence_that_the_page_can_show(web: httpx.Client) -> None:
    """Gradio's page shows the whole text of the response."""
    large = web.post("/gradio_api/upload", files={"files": ("a.png", b"x" * (server.MAX_STORED_BYTES + 1))})
    assert (large.status_code, large.text) == (
        413,
        "A file is larger than 20 MB. Send a smaller or more strongly compressed copy.",
    )
    empty = web.post("/gradio_api/upload")
    assert (empty.status_code, empty.headers["x-error-code"]) == (400, "invalid_value")
    assert empty.text.endswith(".")


@pytest.mark.parametrize(("text", "sentence"), [("\ud800", "surrogate"), (2**65, "more than 64 bits")])
def test_what_cannot_be_sent_back_is_refused(web: httpx.Client, text: Any, sentence: str) -> None:
    functions = web.get("/config").json()["dependencies"]
    (save,) = [function for function in functions if function["api_name"] == "save"]
    session = f"values-{sentence[:4]}"
    join(web, save["id"], session, [[text]] * len(save["inputs"]))
    assert sentence in web.get(f"/gradio_api/queue/data?session_hash={session}").text


def test_an_unknown_session_gets_a_sentence_and_leaves_no_traceback(
    web: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    stream = web.get("/gradio_api/queue/data?session_hash=unknown").text
    message = json.loads(stream.removeprefix("data: "))
    assert (message["session_not_found"], message["message"].split(".")[0]) == (
        True,
        "There is no such session any more",
    )
    last = json.loads(web.get("/gradio_api/call/chat/unknown").text.strip().splitlines()[-1].removeprefix("data: "))
    assert last["title"] == "not_found"
    assert last["error"].startswith("There is no such session any more.")
    assert not [record for record in caplog.records if record.exc_info]


def test_a_program_learns_the_code_of_an_error(url: str) -> None:
    client = Client(url, verbose=False)
    calls: list[tuple[str, dict[str, Any], str]] = [
        ("/chat", {"image": None}, "no_image"),
        ("/budget", {"language": "tlh"}, "unknown_language"),
        ("/budget", {"language": "sw"}, "unsupported_language"),
        ("/budget", {"model": "gpt"}, "unknown_model"),
        ("/budget", {"prompt": "x" * 300_000}, "prompt_too_long"),
        ("/budget", {"history": [{"role": "user", "content": "a"}]}, "invalid_history"),
        ("/budget", {"max_new_tokens": 0}, "invalid_value"),
    ]
    for name, arguments, code in calls:
        with pytest.raises(AppError) as raised:
            client.predict(api_name=name, **arguments)
        assert raised.value.title == code


def test_a_full_queue_and_a_stopped_one_say_so() -> None:
    running = server.launch(FakeEngine(PARROT), host="127.0.0.1", port=free_port())
    try:
        with httpx.Client(base_url=running.url) as web:
            running.demo._queue.max_size = 0
            answer = web.post("/gradio_api/call/models", json={"data": []})
            assert (refusal(answer), answer.headers["retry-after"]) == ((503, "busy"), "5")
            running.demo._queue.max_size = 10
            running.demo._queue.stopped = True
            assert refusal(web.post("/gradio_api/call/models", json={"data": []})) == (503, "stopping")
            running.demo._queue.stopped = False
    finally:
        running.close()


async def _raise(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise ZeroDivisionError


async def _raise_late(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("Internal Server Error", 500)(scope, receive, send)
    raise ZeroDivisionError


async def _raise_in_stream(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    raise ZeroDivisionError


def call(app: ASGIApp, path: str = "/config") -> httpx.Response:
    """The response to a request that goes through `ErrorSentences` only."""
    transport = httpx.ASGITransport(ErrorSentences(app), raise_app_exceptions=True)

    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as web:
            return await web.get(path)

    return run_in_thread(get())


@pytest.mark.parametrize("app", [_raise, _raise_late])
def test_an_error_of_the_server_is_a_sentence_and_is_logged(app: ASGIApp, caplog: pytest.LogCaptureFixture) -> None:
    assert refusal(call(app)) == (500, "internal_error")
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


def test_a_stream_that_fails_ends(caplog: pytest.LogCaptureFixture) -> None:
    assert call(_raise_in_stream).text == "data: 1\n\n"
    assert [record.levelname for record in caplog.records] == ["ERROR"]


STOPPED = "Server stopped unexpectedly."
EVENTS = (
    f'event: error\ndata: "{STOPPED}"\n\n',
    f'data: {{"msg":"unexpected_error","message":"{STOPPED}"}}\n\n',
    'data: {"msg":"process_completed","output":{"data":["unexpected_error"]}}\n\n',
)


async def _stream(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for event in EVENTS:
        await send({"type": "http.response.body", "body": event.encode(), "more_body": event != EVENTS[-1]})


def test_a_stopping_server_ends_streams_with_a_sentence() -> None:
    text = call(_stream).text
    assert text.count("The server stops, and the answer was cut off.") == 2
    assert text.endswith(EVENTS[-1])


@pytest.mark.parametrize("path", ["/readyz", "/v1/models"])
def test_routes_of_ours_keep_their_form(path: str) -> None:
    body = {"status": "loading"} if path == "/readyz" else {"error": {"message": "x"}}

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(json.dumps(body), 503)(scope, receive, send)

    assert call(answer, path).json() == body


def test_equal_tracebacks_are_counted(tmp_path: Path) -> None:
    handler = logging.FileHandler(tmp_path / "log", encoding="utf-8")
    handler.addFilter(RepeatedErrors())
    log = logging.Logger("repeated")
    log.addHandler(handler)
    for index in range(100):
        try:
            int("x" if index != 50 else [])  # type: ignore[call-overload]
        except (TypeError, ValueError):
            log.exception("call %d failed", index)
    log.error("no traceback")
    text = (tmp_path / "log").read_text("utf-8")
    assert text.count("Traceback") == 2
    assert "ValueError, 10 times so far" in text
    assert text.splitlines()[-1] == "no traceback"
    assert len(text.splitlines()) < 20


def test_a_busy_server_has_its_code(url: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(blue_circles())
    with pytest.raises(AppError) as raised:
        Client(url, verbose=False).predict(handle_file(tmp_path / "a.png"), BUSY, api_name="/chat")
    assert raised.value.title == "busy"
