"""Converts between the messages of the page's conversation and the turns of a request.

A message carries facts about itself, a JSON object in the `log` of its metadata, which Gradio keeps and does not show:

- a reply has `model`, `language` (its code), `options` (the settings that differ from their defaults, by name), and
  once it is complete `tokens` and `seconds`, the time in the queue included;
- a question of an example has the `language` in which it is answered `instead_of` the chosen one;
- a question that was asked in several ways has its other versions (see `versions`).

The browser keeps the messages, so their facts are untrusted here. Depends on the format of Gradio's Chatbot. Must not
depend on engines or on the page's layout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from blip_space.apps.locales import text as localized
from blip_space.errors import PromptError
from blip_space.history import MAX_HISTORY_BYTES, MAX_MESSAGES

Message = dict[str, Any]

ESCAPES = (("&", "&\u2060"), ("<", "<\u2060"))
"""Gradio renders messages as HTML. A word joiner after one of these characters keeps it from starting an entity or a
tag; `messages.js` removes the joiners from shown and copied text."""


PLACEHOLDER = "\u2063"
"""An invisible character, with which each text of the conversation begins that is the page's own, and no message."""


def user_message(prompt: str) -> Message:
    """The message of a question. An empty `prompt` is shown as a request for a caption."""
    prompt = prompt.lstrip(PLACEHOLDER)
    return _message("user", prompt if prompt.strip() else PLACEHOLDER + localized("caption_request"))


def edited_message(message: Message, content: Any) -> Message:
    """A question with other raw `content`, as it had before it was edited; itself if that is no text."""
    if not isinstance(content, str):
        return message
    prompt = "" if content.startswith(PLACEHOLDER) else content
    return with_facts(user_message(prompt), facts_of(message))


def waiting_message(ahead: int | None, loading: str = "") -> Message:
    """What stands in place of a reply before its first text. `ahead` is how many requests are ahead of it; `loading` is
    the model that is being loaded, if one is."""
    sentence = localized("waiting_for_model", model=loading) if loading else "…"
    return _message("assistant", PLACEHOLDER + (localized("waiting", n=ahead) if ahead else sentence))


def notice_message(sentence: str) -> Message:
    """What stands in place of a reply that failed."""
    return with_facts(_message("assistant", PLACEHOLDER + sentence), {"notice": True})


def assistant_message(text: str, facts: Mapping[str, Any] | None = None) -> Message:
    """The message of a reply, with facts about it."""
    return with_facts(_message("assistant", text), facts or {})


def with_facts(message: Message, facts: Mapping[str, Any]) -> Message:
    """The message with these facts in place of its own."""
    bare = {name: value for name, value in message.items() if name != "metadata"}
    return {**bare, "metadata": {"log": json.dumps(facts, ensure_ascii=False)}} if facts else bare


def facts_of(message: Message) -> dict[str, Any]:
    """The facts that a message carries. Empty if it has none that can be read."""
    metadata = message.get("metadata")
    log = metadata.get("log") if isinstance(metadata, dict) else None
    try:
        facts = json.loads(log) if isinstance(log, str) else {}
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def text_of(message: Any) -> str:
    """The prompt or reply in a message. Empty for a request for a caption, and for a reply that is still waiting."""
    text = _unescape(content_of(message))
    return "" if text.startswith(PLACEHOLDER) else text


def parse_messages(value: Any) -> list[Message]:
    """The messages in a raw `value`; None has no messages. Raises `PromptError` if it is not a list of messages."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise PromptError("The conversation cannot be read. Reload the page and ask again.")
    return value


def to_history(messages: list[Message]) -> list[dict[str, str]]:
    """The newest complete turns in the API's history format, at most as many as a request may contain."""
    newest = messages[: len(messages) // 2 * 2][-MAX_MESSAGES:]
    history = [{"role": str(message.get("role")), "content": text_of(message)} for message in newest]
    sizes = [len(message["content"].encode("utf-8", "replace")) for message in history]
    size, first = sum(sizes), 0
    while size > MAX_HISTORY_BYTES:
        size, first = size - sum(sizes[first : first + 2]), first + 2
    return history[first:]


def _message(role: str, text: str) -> Message:
    text = _unescape(text)  # an edited message still has its joiners
    for character, escaped in ESCAPES:
        text = text.replace(character, escaped)
    return {"role": role, "content": [{"type": "text", "text": text}]}


def content_of(message: Any) -> str:
    """The text of a message as Gradio has it, with its joiners. Raises `PromptError` if it has anything but text."""
    content = message.get("content") if isinstance(message, dict) else None
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    strings_only = [text for text in texts if isinstance(text, str)]
    if not strings_only or len(strings_only) < len(texts):
        raise PromptError("The conversation contains a message without text. Clear it and ask again.")
    return "".join(strings_only)


def _unescape(text: str) -> str:
    for character, escaped in ESCAPES:
        text = text.replace(escaped, character)
    return text
