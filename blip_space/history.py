"""Earlier turns of a conversation, as clients send them.

Depends on JSON values only; must not import `prompts`, which builds a prompt from the turns.
"""

from __future__ import annotations

from typing import Any

from blip_space.errors import PromptError, quote

Turn = tuple[str, str]
"""A user's question and the assistant's answer."""

MAX_MESSAGES = 1_000
MAX_HISTORY_BYTES = 1_000_000
NON_TEXT_PARTS = ("file", "image", "image_url", "input_image", "audio", "video", "component")
"""Types of message parts, in Gradio and in OpenAI's two APIs, that are ignored even if they have a `text`."""

ROLES = ("user", "assistant")
HISTORY_FORMAT = (
    'Send whole turns, oldest first: [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}, …].'
)


def parse_history(messages: Any) -> tuple[Turn, ...]:
    """The turns in a list of messages `{"role": "user" | "assistant", "content": …}`, which alternate, oldest first.

    `content` is a string, or a list of strings and of parts such as `{"type": "text", "text": str}`, whose texts are
    joined; other parts, and other keys of a message, are ignored. Raises `PromptError` for anything else, and for more
    than `MAX_MESSAGES` messages or `MAX_HISTORY_BYTES` of text.
    """
    if not isinstance(messages, list):
        raise PromptError(f"The history must be a list of messages. {HISTORY_FORMAT}", code="invalid_history")
    if len(messages) > MAX_MESSAGES:
        raise PromptError(
            f"The history has {len(messages):,} messages and at most {MAX_MESSAGES:,} are read. Send the newest only.",
            code="prompt_too_long",
        )
    contents = [_text_of(message, "assistant" if index % 2 else "user") for index, message in enumerate(messages)]
    if len(contents) % 2:
        raise PromptError(
            f"The history ends with a question that has no answer. {HISTORY_FORMAT}", code="invalid_history"
        )
    if sum(len(content.encode("utf-8", "replace")) for content in contents) > MAX_HISTORY_BYTES:
        sentence = f"The history is larger than {MAX_HISTORY_BYTES // 10**6} MB. Send the newest turns only."
        raise PromptError(sentence, code="prompt_too_long")
    return tuple(zip(contents[::2], contents[1::2], strict=True))


def _text_of(message: Any, expected_role: str) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    if isinstance(role, str) and role not in ROLES:
        raise PromptError(
            f"The history does not alternate between user and assistant: it holds a message of the role "
            f"{quote(role)}, which is not supported. Remove it, or move its text into the prompt.",
            code="invalid_history",
        )
    if role != expected_role:
        raise PromptError(
            f"The history does not alternate between user and assistant. {HISTORY_FORMAT}", code="invalid_history"
        )
    return _text_of_content(message.get("content"))


def _text_of_content(content: Any) -> str:
    """The text in a message's content: a string, or a list of parts (Gradio 6, OpenAI) whose texts are joined."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [text for part in parts if (text := _text_of_part(part)) is not None]
    if not texts:
        raise PromptError(
            "A message of the history has no text. Only the text of earlier turns is used: remove messages that hold "
            f"only a file, and send the image as the image of the call. {HISTORY_FORMAT}",
            code="invalid_history",
        )
    return " ".join(texts)


def _text_of_part(part: Any) -> str | None:
    """The text of a message part; None for a file, an image or a component, since earlier turns are text only."""
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type") not in NON_TEXT_PARTS and isinstance(part.get("text"), str):
        return str(part["text"])
    return None
