"""Every invalid call is refused with one sentence: never a traceback, a path of the server or a message of Gradio's.

Through `gradio_client`, and over plain HTTP, which reaches every function of the page by its number.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from blip_space.apps.server import MAX_STORED_BYTES
from tests.apps.fake_engine import BROKEN, BUSY, FakeEngine
from tests.example_images import blue_circles

META = {"_type": "gradio.FileData"}
FORBIDDEN = ("Traceback", "upstream", "/work", "/tmp", "/opt", "/etc", "site-packages", "pydantic", "NoneType")
HOSTILE: list[Any] = [
    {"path": "/etc/passwd"},
    {"path": "/etc/passwd", "meta": META},
    5,
    ["x"],
    None,
    True,
    {"language": []},
]
TURN = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def checked_sentence(text: Any) -> str:
    """The text, checked to be a sentence for users."""
    assert isinstance(text, str)
    assert text.endswith((".", "].", "…]."))
    assert not any(word in text for word in FORBIDDEN)
    return text


def refusal(client: Client, *values: Any, api_name: str = "/chat", **named: Any) -> str:
    """The sentence with which a call is refused."""
    with pytest.raises(AppError) as raised:
        client.predict(*values, api_name=api_name, **named)
    return checked_sentence(str(raised.value))


def server_events(web: httpx.Client, path: str) -> list[Any]:
    """The data of a stream of server-sent events."""
    lines = web.get(f"/gradio_api/{path}").text.splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def raw_refusal(web: httpx.Client, name: str, values: list[Any]) -> str:
    """The sentence with which a plain HTTP call is refused."""
    started = web.post(f"/gradio_api/call/{name}", json={"data": values})
    (data,) = server_events(web, f"call/{name}/{started.json()['event_id']}")
    return checked_sentence(data["error"])


def huge_png(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes with that size in its header."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * (1 + width // 8) * height, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


BROKEN_FILES = {
    "text.png": (b"I am a text", "that can be read"),
    "empty.png": (b"", "empty"),
    "cut.png": (blue_circles()[:300], "damaged or was cut off"),
    "bomb.png": (huge_png(12_000, 12_000), "144 megapixels"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_file_that_is_not_an_image_is_refused(client: Client, tmp_path: Path, name: str) -> None:
    data, sentence = BROKEN_FILES[name]
    (tmp_path / name).write_bytes(data)
    for api_name in ("/chat", "/caption"):
        assert sentence in refusal(client, handle_file(tmp_path / name), api_name=api_name)


def test_a_file_over_20_megabytes_is_not_even_stored(web: httpx.Client) -> None:
    answer = web.post("/gradio_api/upload", files={"files": ("big.png", b"x" * (MAX_STORED_BYTES + 1))})
    assert answer.status_code == 413


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000)])
def test_images_of_extreme_shapes_are_answered(client: Client, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "thin.png")
    assert client.predict(handle_file(tmp_path / "thin.png"), "seen", api_name="/chat") == "seen"


NOT_UPLOADED = {
    "none": (None, "no image yet"),
    "a server's path": ("/etc/passwd", "a path or a text, not an uploaded image"),
    "a URL": ("http://127.0.0.1:9/a.png", "a URL, not an uploaded image, and this server fetches none. Download"),
    "a path without meta": ({"path": "/etc/passwd"}, "not an uploaded image"),
    "a path with meta": ({"path": "/etc/passwd", "meta": META}, "not an uploaded image"),
    "a path with another meta": ({"path": "/etc/passwd", "meta": {"_type": "x"}}, "not an uploaded image"),
    "a path out of the uploads": ({"path": "../../../../../../etc/passwd", "meta": META}, "not an uploaded image"),
    "a URL with meta": ({"path": "http://127.0.0.1:9/a.png", "meta": META}, "That is a URL"),
    "a URL alone": ({"url": "http://127.0.0.1:9/a.png"}, "That is a URL"),
    "a URL with another scheme": ({"path": "FILE:///etc/passwd", "meta": META}, "That is a URL"),
    "a stream": ({"path": "/etc/passwd", "meta": META, "is_stream": True}, "not an uploaded image"),
    "a zero byte": ({"path": "/tmp/\0", "meta": META}, "not an uploaded image"),
    "a path that is a number": ({"path": 5, "meta": META}, "not an uploaded image"),
    "a number": (7, "not an uploaded image"),
    "a list": ([{"path": "/etc/passwd", "meta": META}], "not an uploaded image"),
}


@pytest.mark.parametrize("kind", NOT_UPLOADED)
def test_only_uploaded_files_are_read(web: httpx.Client, engine: FakeEngine, kind: str) -> None:
    value, sentence = NOT_UPLOADED[kind]
    chat = [value, "hi", "en", [], "parrot", 64, 0, 1, 1, 0, "stream", True]
    assert sentence in raw_refusal(web, "chat", chat)
    assert sentence in raw_refusal(web, "caption", [value, "en", "parrot", "best"])
    if value is not None:
        for files in (value, [value]):
            assert sentence in raw_refusal(web, "batch", [files, "", "en", "parrot", "best", 50])
    assert engine.requests == []


VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "prompt is a number": ({"prompt": 5}, "prompt must be a string"),
    "prompt is a list": ({"prompt": ["hi"]}, "prompt must be a string"),
    "prompt of 100 000 characters": ({"prompt": "word " * 20_000}, "it has 99,999 characters, and at most about"),
    "prompt of 300 000 characters": ({"prompt": "x" * 300_000}, "300,000 characters"),
    "unknown language": ({"language": "tlh"}, "no language 'tlh'"),
    "language is a list": ({"language": ["en"]}, "no language"),
    "an unsupported language": ({"language": "sw"}, "mblip-mt0-xl"),
    "unknown model": ({"model": "gpt"}, "Choose among parrot, polyglot"),
    "a path as a model": ({"model": "../../model"}, "Choose among"),
    "model is a dict": ({"model": {"name": "parrot"}}, "names that /models lists"),
    "history is a string": ({"history": "hello"}, "must be a list"),
    "history is a dict": ({"history": {"role": "user", "content": "a"}}, "must be a list"),
    "history of half a turn": ({"history": TURN[:1]}, "has no answer"),
    "history begins with an answer": ({"history": TURN[::-1]}, "alternate"),
    "history with a system": ({"history": [{"role": "system", "content": "a"}, *TURN]}, "role 'system'"),
    "history of 10 000 messages": ({"history": TURN * 5_000}, "10,000 messages"),
    "history of 2 MB": ({"history": [{"role": "user", "content": "x" * 2_000_000}, TURN[1]]}, "1 MB"),
    "history with images": ({"history": [{"role": "user", "content": [{"type": "image"}]}, TURN[1]]}, "no text"),
    "history of numbers": ({"history": [{"role": "user", "content": [5]}, TURN[1]]}, "no text"),
    "a number as a string": ({"max_new_tokens": "64"}, "max_new_tokens must be a whole number from 1 to 512"),
    "no new tokens": ({"max_new_tokens": 0}, "from 1 to 512"),
    "a million new tokens": ({"max_new_tokens": 10**6}, "from 1 to 512"),
    "half a token": ({"max_new_tokens": 1.5}, "whole number"),
    "negative temperature": ({"temperature": -1}, "from 0 to 2"),
    "huge top_p": ({"top_p": 1e300}, "top_p"),
    "repetition_penalty is true": ({"repetition_penalty": True}, "repetition_penalty"),
    "huge seed": ({"seed": 1e30}, "seed"),
    "seed of 400 digits": ({"seed": 10**400}, "more than 64 bits"),
    "unknown quality": ({"quality": "superb"}, "'stream' or 'best'"),
    "beam search that samples": ({"quality": "best", "temperature": 1}, "does not sample"),
    "use_history is a string": ({"use_history": "yes"}, "true or false"),
    "the server is busy": ({"prompt": BUSY}, "busy"),
    "the answer breaks off": ({"prompt": BROKEN}, "broke off"),
}


@pytest.mark.parametrize("kind", VALUES)
def test_an_invalid_value_is_refused(client: Client, image_file: Path, kind: str) -> None:
    values, sentence = VALUES[kind]
    assert sentence in refusal(client, handle_file(image_file), **values)


@pytest.mark.parametrize(
    "content",
    [
        {"path": "/etc/passwd", "meta": META},
        [{"type": "text", "text": "a"}, {"type": "file", "file": {"path": "/etc/passwd", "meta": META}}],
        [{"type": "component", "component": "image", "value": {"path": "/etc/passwd"}}],
    ],
)
def test_a_file_in_a_history_is_refused(web: httpx.Client, content: Any) -> None:
    history = [{"role": "user", "content": content}, TURN[1]]
    assert "not an uploaded image" in raw_refusal(web, "budget", ["hi", "en", history, "parrot", 64])


def test_a_url_from_handle_file_is_refused_with_the_way_out(client: Client) -> None:
    """The sentence asked for handle_file, which the caller had used."""
    sentence = refusal(client, handle_file("http://127.0.0.1:9/a.png"), "hi")
    assert 'Download the image first, then send the file: handle_file("image.png")' in sentence


def test_numbers_that_json_does_not_have_are_refused(web: httpx.Client) -> None:
    body = '{"data": [null, "hi", "en", [], "parrot", NaN, Infinity, 1, 1, 0, "stream", true]}'
    answer = web.post("/gradio_api/call/chat", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 422)
    assert "Traceback" not in answer.text


def test_control_characters_become_spaces(client: Client) -> None:
    budget = client.predict("what\0is\x1b[2Jit?", api_name="/budget")
    assert "what is [2Jit?" in budget["prompt"]


@pytest.mark.parametrize("values", [[], [None], ["a", "b"]])
def test_too_few_values_are_counted(web: httpx.Client, values: list[Any]) -> None:
    assert f"has {len(values)} of 12 values" in raw_refusal(web, "chat", values)


def test_deep_nesting_is_refused(web: httpx.Client) -> None:
    deep: Any = "x"
    for _ in range(60):
        deep = [deep]
    assert "type or shape" in raw_refusal(web, "budget", [deep, "en", [], "parrot", 64])


def test_every_function_of_the_page_refuses_every_hostile_value(
    web: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Raw HTTP reaches private events by number, with values that the page never sends."""
    functions = [function for function in web.get("/config").json()["dependencies"] if function["backend_fn"]]
    assert len(functions) > 10
    for number, value in enumerate(HOSTILE):
        for function in functions:
            body = {"data": [value] * len(function["inputs"]), "fn_index": function["id"], "event_data": value}
            web.post("/gradio_api/queue/join", json=body | {"session_hash": f"session{number}"})
        messages = server_events(web, f"queue/data?session_hash=session{number}")
        results = [message for message in messages if "success" in message]
        assert {result["event_id"] for result in results if result["msg"] == "process_completed"}
        for result in results:
            assert "root:" not in json.dumps(result)
            assert result["success"] or checked_sentence(result["output"]["error"])
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
