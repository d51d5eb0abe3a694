"""Tools for agents: the official client lists and calls them, and each mistake is a sentence that says what to send."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from jsonschema import Draft202012Validator
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from blip_space.languages import LANGUAGES
from blip_space.settings import Settings
from tests.apps.conftest import free_port
from tests.apps.fake_engine import BROKEN, BUSY, PARROT, POLYGLOT, FakeEngine
from tests.example_images import blue_circles
from tests.serving.fakes import wait_until

KEY = "a-key-of-the-tests-0123456789"
BASE64 = base64.b64encode(blue_circles()).decode()
IMAGE = f"data:image/png;base64,{BASE64}"
HEADERS = {"Authorization": f"Bearer {KEY}", "Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def tool_engine() -> FakeEngine:
    return FakeEngine(PARROT, POLYGLOT)


@pytest.fixture(scope="module")
def tool_url(_own_uploads: None, tool_engine: FakeEngine) -> Iterator[str]:
    """The address of the tools of a server that asks for a key."""
    from blip_space.apps import server

    settings = Settings(mcp=True, keys=(KEY,))
    running = server.launch(tool_engine, host="127.0.0.1", port=free_port(), settings=settings)
    yield f"{running.url.rstrip('/')}/mcp"
    running.close()


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    """An event loop in a thread."""
    with start_blocking_portal() as portal:
        yield portal


Ask = Callable[..., Any]


@pytest.fixture
def session(portal: BlockingPortal, tool_url: str, tool_engine: FakeEngine) -> Iterator[Ask]:
    """Calls a method of the official client's session, such as `call_tool`."""
    tool_engine.reset()

    async def call(method: str, *arguments: Any, **options: Any) -> Any:
        async with (
            httpx.AsyncClient(headers=HEADERS, timeout=30) as http,
            streamable_http_client(tool_url, http_client=http) as (reading, writing, _),
            ClientSession(reading, writing) as client,
        ):
            await client.initialize()
            return await getattr(client, method)(*arguments, **options)

    yield lambda method, *arguments, **options: portal.call(lambda: call(method, *arguments, **options))
    tool_engine.reset()


def text(result: Any) -> str:
    """The text of a result."""
    (content,) = result.content
    return str(content.text)


def test_the_tools_have_valid_schemas_and_descriptions(session: Ask) -> None:
    tools = {tool.name: tool for tool in session("list_tools").tools}
    assert list(tools) == ["ask_image", "caption_image"]
    for tool in tools.values():
        Draft202012Validator.check_schema(tool.inputSchema)
        assert tool.description
        assert tool.annotations.readOnlyHint
        for argument in tool.inputSchema["properties"].values():
            assert argument["description"]
            assert argument["type"] in ("string", "integer")
    assert tools["ask_image"].inputSchema["required"] == ["image", "question"]
    assert tools["ask_image"].inputSchema["properties"]["language"]["enum"] == list(LANGUAGES)
    assert tools["ask_image"].inputSchema["properties"]["model"]["enum"] == ["parrot", "polyglot"]


@pytest.mark.parametrize("image", [IMAGE, BASE64, f"data:;base64,{BASE64}", f" {BASE64[:60]}\n{BASE64[60:]}\n"])
def test_an_image_is_asked_about(session: Ask, tool_engine: FakeEngine, image: str) -> None:
    result = session("call_tool", "ask_image", {"image": image, "question": "one two", "language": "de"})
    assert (result.isError, text(result)) == (False, "one two")
    assert (tool_engine.requests[-1].language, tool_engine.requests[-1].caller.address) == ("de", "127.0.0.1")
    assert tool_engine.image_sizes[-1] == (400, 200)


def test_an_image_is_captioned_by_the_chosen_model(session: Ask, tool_engine: FakeEngine) -> None:
    result = session("call_tool", "caption_image", {"image": IMAGE, "model": "polyglot", "language": "sw"})
    assert text(result) == "an image of 400 by 200"
    assert (tool_engine.requests[-1].model, tool_engine.requests[-1].options.quality) == ("polyglot", "best")


@pytest.mark.parametrize(("name", "arguments", "code", "sentence"), [
    ("ask_image", {"image": "https://example.org/a.png"}, "not_uploaded", "this server opens neither"),
    ("ask_image", {"image": "/etc/hostname"}, "not_uploaded", "this server opens neither"),
    ("ask_image", {"image": "file:///etc/hostname"}, "not_uploaded", "this server opens neither"),
    ("ask_image", {"image": "C:\\photo.jpg"}, "not_uploaded", "this server opens neither"),
    ("ask_image", {"image": "photo.jpg"}, "not_uploaded", "is no base64"),
    ("ask_image", {"image": "data:image/svg+xml,<svg/>"}, "not_uploaded", "is no base64"),
    ("ask_image", {"image": base64.b64encode(b"no image at all").decode()}, "unreadable_image", "not an image"),
    ("ask_image", {"image": 5}, "invalid_value", "image must be a text"),
    ("ask_image", {"image": ""}, "no_image", "There is no image"),
    ("ask_image", {"question": ""}, "invalid_prompt", "call caption_image for a caption"),
    ("ask_image", {"language": "xx"}, "unknown_language", "There is no language 'xx'"),
    ("ask_image", {"language": "fi"}, "unsupported_language", "parrot does not support Finnish"),
    ("ask_image", {"model": "openai:http://x/v1#y"}, "unknown_model", "Choose among parrot, polyglot"),
    ("ask_image", {"max_new_tokens": 0}, "invalid_value", "max_new_tokens must be a whole number"),
    ("ask_image", {"history": []}, "invalid_value", "ask_image takes no 'history'; it takes image, question"),
    ("ask_image", {"question": "word " * 100}, "prompt_too_long", "The question is too long"),
    ("ask_image", {"question": BUSY}, "busy", "The server is busy"),
    ("ask_image", {"question": BROKEN}, "invalid_value", "The answer broke off. Ask again."),
    ("caption_image", {"question": "Why?"}, "invalid_value", "caption_image takes no 'question'"),
    ("match_image", {}, "invalid_value", "The tools are ask_image, caption_image"),
])  # fmt: skip
def test_a_mistake_is_a_sentence_with_a_code(
    session: Ask, name: str, arguments: dict[str, Any], code: str, sentence: str
) -> None:
    valid = {"image": IMAGE} | ({"question": "Why?"} if name == "ask_image" else {})
    result = session("call_tool", name, valid | arguments)
    assert result.isError
    assert sentence in text(result)
    assert result.meta == {"code": code}


def test_a_client_hears_of_an_answer_that_grows(session: Ask, tool_engine: FakeEngine) -> None:
    tool_engine.hold()
    messages: list[str] = []

    async def hear(_progress: float, _total: float | None, message: str | None) -> None:
        messages.append(message or "")
        tool_engine.release()

    arguments = {"image": IMAGE, "question": "one two three"}
    assert text(session("call_tool", "ask_image", arguments, progress_callback=hear)) == "one two three"
    assert messages[0] == "one"


def body(question: str) -> dict[str, Any]:
    """A call as the protocol writes it."""
    parameters = {"name": "ask_image", "arguments": {"image": IMAGE, "question": question}}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": parameters}


def test_a_client_that_leaves_ends_its_answer(tool_url: str, session: Ask, tool_engine: FakeEngine) -> None:
    tool_engine.hold()
    with (
        httpx.Client(headers=HEADERS, timeout=20) as client,
        client.stream("POST", tool_url, json=body("one two")) as response,
    ):
        assert response.status_code == 200
        wait_until(lambda: bool(tool_engine.responses))
    wait_until(lambda: tool_engine.responses[0].done)
    assert session("list_tools").tools


def test_calls_at_once_are_not_mixed_up(portal: BlockingPortal, tool_url: str, tool_engine: FakeEngine) -> None:
    tool_engine.reset()
    answers: dict[int, str] = {}

    async def ask(client: ClientSession, number: int) -> None:
        arguments = {"image": IMAGE, "question": f"question number {number}"}
        answers[number] = text(await client.call_tool("ask_image", arguments))

    async def ask_all() -> None:
        async with (
            httpx.AsyncClient(headers=HEADERS, timeout=30) as http,
            streamable_http_client(tool_url, http_client=http) as (reading, writing, _),
            ClientSession(reading, writing) as client,
        ):
            await client.initialize()
            async with anyio.create_task_group() as group:
                for number in range(16):
                    group.start_soon(ask, client, number)

    portal.call(ask_all)
    assert answers == {number: f"question number {number}" for number in range(16)}


def test_a_key_is_needed_and_a_cookie_is_none(tool_url: str) -> None:
    with httpx.Client(base_url=tool_url.removesuffix("/mcp"), headers={"Accept": HEADERS["Accept"]}) as web:
        assert web.post("/sign-in", data={"key": KEY}).status_code == 303
        refused = web.post("/mcp", json=body("Why?"))
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
        assert web.get("/mcp", headers=HEADERS).status_code == 405


def test_metrics_count_calls_of_tools(session: Ask, tool_url: str) -> None:
    session("call_tool", "ask_image", {"image": IMAGE, "question": "Why?"})
    text = httpx.get(tool_url.replace("/mcp", "/metrics"), headers=HEADERS).text
    assert 'blip_space_requests_total{endpoint="ask_image",outcome="answered"}' in text
    assert 'blip_space_http_responses_total{route="mcp",status="200"}' in text


def test_a_server_has_no_tools_unless_it_is_asked_to(web: httpx.Client) -> None:
    assert web.post("/mcp", json=body("Why?"), headers=HEADERS).status_code in (404, 405)
