"""Earlier turns of a conversation, as clients send them.

Depends on JSON values only; must not import prompts, which is what becomes of them.
"""

from __future__ import annotations

from typing import Any

from blip_space.errors import PromptError, quote

Turn = tuple[str, str]
"""What a user asked and what the assistant answered."""

MAX_MESSAGES = 1_000
MAX_HISTORY_BYTES = 1_000_000
NO_TEXT_PARTS = ("file", "image", "image_url", "input_image", "audio", "video", "component")
"""How Gradio and OpenAI's two interfaces call a part of a message that is no text, whatever words it carries."""

ROLES = ("user", "assistant")
HISTORY_FORMAT = (
    'Send whole turns, oldest first: [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}, …].'
)


def parse_history(messages: Any) -> tuple[Turn, ...]:
    """Turns of a list of `{"role": "user" | "assistant", "content": …}`, alternating, oldest first, whole turns.

    `content` is a string, or a list of strings and of parts such as `{"type": "text", "text": str}`, whose texts are
    joined; other parts, and other keys of a message, are passed over. Raises `PromptError` for anything else, beyond
    `MAX_MESSAGES`, and beyond `MAX_HISTORY_BYTES` of words.
    """
    if not isinstance(messages, list):
        raise PromptError(f"The history must be a list of messages. {HISTORY_FORMAT}")
    if len(messages) > MAX_MESSAGES:
        raise PromptError(
            f"The history has {len(messages):,} messages and at most {MAX_MESSAGES:,} are read. Send the newest only."
        )
    contents = [_content(message, "assistant" if place % 2 else "user") for place, message in enumerate(messages)]
    if len(contents) % 2:
        raise PromptError(f"The history ends with a question that has no answer. {HISTORY_FORMAT}")
    if sum(len(content.encode("utf-8", "replace")) for content in contents) > MAX_HISTORY_BYTES:
        raise PromptError(f"The history is larger than {MAX_HISTORY_BYTES // 10**6} MB. Send the newest turns only.")
    return tuple(zip(contents[::2], contents[1::2], strict=True))


def _content(message: Any, role: str) -> str:
    found = message.get("role") if isinstance(message, dict) else None
    if isinstance(found, str) and found not in ROLES:
        raise PromptError(
            f"The history does not alternate between user and assistant: it holds a message of the role "
            f"{quote(found)}, which is not read. Leave it out, or put what it says into the prompt."
        )
    if found != role:
        raise PromptError(f"The history does not alternate between user and assistant. {HISTORY_FORMAT}")
    return _text_of(message.get("content"))


def _text_of(content: Any) -> str:
    """The text of a message: a string, or the parts of text among a list of parts, as Gradio 6 and OpenAI write it."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [text for part in parts if (text := _text_of_part(part)) is not None]
    if not texts:
        raise PromptError(
            "A message of the history has no text. Only text is read of earlier turns: leave out messages that hold a "
            f"file alone, and send the picture as the image of the call. {HISTORY_FORMAT}"
        )
    return " ".join(texts)


def _text_of_part(part: Any) -> str | None:
    """The text that a part is or holds; None for a file, a picture or a component, which earlier turns have no use
    for."""
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type") not in NO_TEXT_PARTS and isinstance(part.get("text"), str):
        return str(part["text"])
    return None
