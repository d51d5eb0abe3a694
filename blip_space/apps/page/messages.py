"""Between the messages of the page's conversation and the turns of a request.

Knows how Gradio's Chatbot writes a message; knows nothing of engines or of the page's layout.
"""

from __future__ import annotations

from typing import Any

from blip_space.apps.page import strings
from blip_space.errors import PromptError
from blip_space.history import MAX_HISTORY_BYTES, MAX_MESSAGES

Message = dict[str, Any]

LITERAL = (("&", "&\u2060"), ("<", "<\u2060"))
"""Gradio writes messages as HTML; a word joiner keeps these two from beginning anything. `page.js` takes it out of what
is shown."""


def user_message(words: str) -> Message:
    """A question as the conversation shows it; without words it is a request for a caption."""
    return _message("user", words if words.strip() else strings.CAPTION_REQUEST)


def assistant_message(text: str) -> Message:
    """A reply as the conversation shows it."""
    return _message("assistant", text)


def text_of(message: Any) -> str:
    """What was really said: a request for a caption has no words, and neither has a reply that never began."""
    text = _text(message)
    return "" if text in (strings.CAPTION_REQUEST, strings.WAITING) else text


def parse_messages(value: Any) -> list[Message]:
    """The conversation as a raw call holds it; `PromptError` when it is none."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise PromptError("The conversation cannot be read. Reload the page and ask again.")
    return value


def to_history(messages: list[Message]) -> list[dict[str, str]]:
    """The newest whole turns, as many as a request may hold, as the API writes a history."""
    whole = messages[: len(messages) // 2 * 2][-MAX_MESSAGES:]
    written = [{"role": str(message.get("role")), "content": text_of(message)} for message in whole]
    sizes = [len(message["content"].encode("utf-8", "replace")) for message in written]
    size, first = sum(sizes), 0
    while size > MAX_HISTORY_BYTES:
        size, first = size - sum(sizes[first : first + 2]), first + 2
    return written[first:]


def _message(role: str, text: str) -> Message:
    text = _plainly(text)  # an edited message comes back with its joiners
    for plainly, shown in LITERAL:
        text = text.replace(plainly, shown)
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _text(message: Any) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    known = [text for text in texts if isinstance(text, str)]
    if not known or len(known) < len(texts):
        raise PromptError("The conversation holds a message without text. Clear it and ask again.")
    return _plainly("".join(known))


def _plainly(text: str) -> str:
    for plainly, shown in LITERAL:
        text = text.replace(shown, plainly)
    return text
