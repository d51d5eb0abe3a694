"""The messages of Gradio's event streams that report an error of its own, in a sentence of ours.

Each chunk is one event. Only its error is replaced: what clients decide by, such as `session_not_found`, stays.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.types import Message

from blip_space.errors import Code

STOPPING = "The server stops, and the answer was cut off. Try again when it runs again."
NO_SESSION = "There is no such session any more. Reload the page, or send the call again."
FAILED = "An internal error occurred; the server's log has the details. Try again."

TITLES: dict[str, Code] = {STOPPING: "stopping", NO_SESSION: "not_found", FAILED: "internal_error"}

KIND = b'"unexpected_error"'
"""In a string its quotes would be escaped; as a whole string it may also be a value of a user."""

CALL_ERROR = b'event: error\ndata: "'


def with_sentences(message: Message) -> Message:
    """The message of a response, or one with our sentence where it has an error of Gradio's."""
    chunk: bytes = message.get("body", b"")
    if chunk.startswith(b"data: ") and KIND in chunk:
        event = _parse(chunk[6:])
        if isinstance(event, dict) and event.get("msg") == "unexpected_error":
            event["message"] = _sentence(event.get("message"), is_missing=event.get("session_not_found") is True)
            return {**message, "body": as_event(event)}
    if chunk.startswith(CALL_ERROR):
        text = _parse(chunk[len(CALL_ERROR) - 1 :])
        sentence = _sentence(text, is_missing=str(text).startswith("404"))
        return {**message, "body": _call_error(sentence)}
    return message


def stopping_event(path: str) -> bytes:
    """The last event of a stream of answers that ends because the server stops."""
    if path.startswith("/gradio_api/call/"):
        return _call_error(STOPPING)
    event = {"msg": "unexpected_error", "message": STOPPING, "session_not_found": False, "success": False}
    return as_event(event)


def as_event(value: dict[str, Any]) -> bytes:
    """An event without a name; clients of OpenAI's protocol take a named one for an ordinary chunk."""
    return f"data: {json.dumps(value)}\n\n".encode()


def _call_error(sentence: str) -> bytes:
    """The error event of a call, in the form that errors of endpoints have there: with a code as its title."""
    error = {"error": sentence, "title": TITLES[sentence], "visible": True, "duration": 15}
    return f"event: error\ndata: {json.dumps(error)}\n\n".encode()


def _parse(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _sentence(text: Any, *, is_missing: bool) -> str:
    if is_missing:
        return NO_SESSION
    return STOPPING if text == "Server stopped unexpectedly." else FAILED
