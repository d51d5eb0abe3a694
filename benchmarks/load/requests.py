"""Single requests of at most 30 MB that once cost a server much, or could. Each passes a limit by a little."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
from PIL import Image

from benchmarks.load.caller import API, Caller

CHAT = f"{API}/call/v2/chat"
JOIN = f"{API}/queue/join"
JSON = {"Content-Type": "application/json"}
MAX_BYTES = 30_000_000


def bodies(image: dict[str, Any]) -> Iterator[tuple[str, str, bytes]]:
    """Each with its name, its path and its body."""
    files = json.dumps({"image": [image] * 60_000, "prompt": ""}).encode()
    yield "60,000 file references", CHAT, files[:MAX_BYTES]
    yield "as many as the limit of a body allows", CHAT, json.dumps({"image": [image] * 990, "prompt": ""}).encode()
    for name, part in (("empty lists", b"[],"), ("numbers", b"1,"), ("strings", b'"",')):
        body = b'{"image":[' + part * (MAX_BYTES // len(part) - 10) + b"1]}"
        yield f"30 MB of {name}", CHAT, body
        yield f"30 MB of {name} to the queue", JOIN, body
        size = 55_000 // part.count(b",") // (3 if b"[" in part else 1)
        yield f"{name}, just within the limit", CHAT, b'{"image":[' + part * size + b"1]}"
    yield "30 MB in one string", CHAT, json.dumps({"prompt": "a" * (MAX_BYTES - 100)}).encode()
    yield "3.9 MB in one string", CHAT, json.dumps({"image": image, "prompt": "word " * 780_000}).encode()
    yield "3.9 MB of escapes in one string", CHAT, b'{"image":[],"prompt": "' + rb"\u00e4" * 640_000 + b'"}'
    yield "a history of 1 MB", CHAT, json.dumps({"image": image, "prompt": "?", "history": history()}).encode()
    yield "lists in lists, 20,000 deep", CHAT, b'{"image":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    yield "a number of 3 MB", CHAT, b'{"seed": ' + b"1" * 3_000_000 + b"}"


def send(caller: Caller, path: str, body: bytes) -> str:
    """The status of the response, or that the server ended the connection while it was sent."""
    try:
        response = caller.web.post(path, content=body, headers=JSON)
    except httpx.HTTPError as error:
        return type(error).__name__
    if response.status_code != 200:
        return f"{response.status_code} {response.headers.get('X-Error-Code', '')}"
    with caller.listen("chat", response.json()["event_id"]) as messages:
        kind, data = next((item for item in messages if item[0] in ("complete", "error")), ("", None))
    return f"{kind} {data['title'] if isinstance(data, dict) and data.get('title') else ''}".strip()


def history(size: int = 990_000) -> list[dict[str, str]]:
    """Alternating messages of that many bytes in all."""
    text = "what is this and what is that " * (size // 30 // 100)
    return [{"role": role, "content": text} for _ in range(50) for role in ("user", "assistant")]


def large_image(number: int, side: int = 8_000) -> bytes:
    """A PNG of one colour, with transparency: as many pixels as are allowed, in a small file."""
    file = io.BytesIO()
    Image.new("RGBA", (side, side), (number % 256, 90, 160, 200)).save(file, "PNG", compress_level=1)
    return file.getvalue()
