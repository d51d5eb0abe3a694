"""Messages of a chat become what a model here reads: one image, earlier turns about it, and the newest question.

System messages are not read, since these models were trained without. Depends on history and prompts; must not decode
an image.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field

from blip_space.apps.openai_api.body import Message, Part
from blip_space.apps.openai_api.statuses import ParameterError
from blip_space.errors import ImageError, PromptError, quote
from blip_space.history import Turn, parse_history
from blip_space.prompts import check_characters

NO_IMAGE = (
    "The messages have no image, and these models answer about one. Send a part "
    '{"type": "image_url", "image_url": {"url": "data:image/png;base64,…"}} in a message of the user.'
)
NO_URLS = (
    "The URL of an image must be a data URL, as this server fetches none. Download the image, and send "
    "data:image/png;base64, followed by its bytes in base64."
)
NO_BASE64 = "The data URL of an image is not valid base64. Encode the bytes of the file again."
SEVERAL_IMAGES = "A message has several images, and these models take one. Send one image in a message."
NO_QUESTION = "The last message must be one of the user. Send the question as the last message."
NO_TOOLS = "Messages of the roles tool and function are not supported. Leave them out."
MAX_HEAD = 200
"""How much of a data URL is read for its beginning, which names a media type."""


@dataclass(frozen=True)
class Conversation:
    """The bytes of the image, the turns about it, oldest first, and the newest question."""

    image: bytes
    turns: tuple[Turn, ...]
    prompt: str


@dataclass
class _Exchange:
    """Messages of the user that follow each other, and those of the assistant after them."""

    questions: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    is_answered: bool = False


def parse_messages(messages: Sequence[Message]) -> Conversation:
    """The conversation about the newest image: turns about an earlier one are left out.

    Messages of one role that follow each other are joined. Raises `UserError`.
    """
    exchanges = _exchanges(messages)
    if not exchanges or exchanges[-1].is_answered:
        raise PromptError(NO_QUESTION, code="invalid_history")
    start, url = _newest_image(exchanges)
    turns = [_turn(exchange) for exchange in exchanges[start:-1] if any(exchange.answers)]
    prompt = " ".join(exchanges[-1].questions)
    check_characters(prompt)
    history = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    return Conversation(decode_data_url(url), parse_history(history), prompt)


def decode_data_url(url: str) -> bytes:
    """The bytes in a data URL of base64. Raises `ImageError`."""
    comma = url.find(",", 0, MAX_HEAD)
    head = url[: max(comma, 0)].strip().lower()
    if not url[:MAX_HEAD].strip().lower().startswith("data:"):
        raise ImageError(NO_URLS, code="not_uploaded")
    if not head.endswith(";base64"):
        raise ImageError(NO_BASE64)
    try:
        return base64.b64decode(url[comma + 1 :], validate=True)
    except (binascii.Error, ValueError):
        pass
    text = "".join(url[comma + 1 :].split()).rstrip("=")  # some clients break its lines, or leave out its end
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=None, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError(NO_BASE64) from None


def _exchanges(messages: Sequence[Message]) -> list[_Exchange]:
    exchanges: list[_Exchange] = []
    for index, message in enumerate(messages):
        texts, urls = _read_parts(message, f"messages[{index}]")
        if message.role == "user":
            if not exchanges or exchanges[-1].is_answered:
                exchanges.append(_Exchange())
            exchanges[-1].questions += texts
            exchanges[-1].urls += urls
        elif message.role in ("tool", "function"):
            raise ParameterError(f"messages[{index}].role", NO_TOOLS)
        elif message.role == "assistant" and exchanges:  # before the first question it is a greeting
            exchanges[-1].answers += texts
            exchanges[-1].is_answered = True
    return exchanges


def _read_parts(message: Message, name: str) -> tuple[list[str], list[str]]:
    """The texts of a message, without white space around them, and the URLs of its images."""
    parts = [message.content] if isinstance(message.content, str) else message.content or []
    texts: list[str] = []
    urls: list[str] = []
    for index, part in enumerate(parts):
        if isinstance(part, str):
            texts.append(part)
        elif part.type in ("text", "refusal"):
            texts.append(part.text or "")
        elif part.type == "image_url" and message.role == "user":
            urls.append(_url(part, f"{name}.content[{index}].image_url"))
        else:
            sentence = f"A part of the type {quote(part.type)} is not supported in a message of the {message.role}."
            raise ParameterError(f"{name}.content[{index}].type", f"{sentence} Leave it out.")
    return [text.strip() for text in texts if text.strip()], urls


def _url(part: Part, name: str) -> str:
    url = part.image_url if isinstance(part.image_url, str | None) else part.image_url.url
    if not url:
        raise ParameterError(name, f"{name} has no URL. Send a data URL.")
    return url


def _newest_image(exchanges: Sequence[_Exchange]) -> tuple[int, str]:
    """The URL of the newest image, and the first exchange after those about another one."""
    newest = next((exchange.urls for exchange in reversed(exchanges) if exchange.urls), None)
    if newest is None:
        raise ImageError(NO_IMAGE, code="no_image")
    if len(set(newest)) > 1:
        raise ImageError(SEVERAL_IMAGES, code="invalid_value")
    start = 0
    for index, exchange in enumerate(exchanges):
        if any(url != newest[0] for url in exchange.urls):
            start = index + 1
    first = next(index for index in range(start, len(exchanges)) if exchanges[index].urls)
    return (first if start else 0), newest[0]


def _turn(exchange: _Exchange) -> Turn:
    return " ".join(exchange.questions), " ".join(exchange.answers)
