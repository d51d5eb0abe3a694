"""The tools that agents find: their names, descriptions and schemas, and how their arguments become a request.

Arguments are plain texts and numbers, so that every client can write them. Depends on requests and images only; must
not import mcp, Gradio or the page.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blip_space import options
from blip_space.engine.request import Request
from blip_space.errors import ImageError, PromptError, UserError, quote
from blip_space.images import FORMAT_NAMES, MAX_UPLOAD_BYTES
from blip_space.images.uploaded import UploadedImageFile
from blip_space.languages import LANGUAGES, find_language
from blip_space.prompts import check_characters
from blip_space.serving.protocol import EngineProtocol

SEND_DATA = 'Send the file\'s bytes as base64, alone or as a data URL such as "data:image/png;base64,…".'
NOT_FETCHED = "That is an address or a path, and this server opens neither."
DATA_URL = re.compile(r"data:[\w.+-]*/?[\w.+-]*(;[\w=.-]+)*;base64,", re.IGNORECASE)
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://|[./~]|[a-z]:\\", re.IGNORECASE)
MAX_BASE64 = MAX_UPLOAD_BYTES * 4 // 3 + 1_000
MAX_SHOWN = 80


@dataclass(frozen=True)
class Tool:
    """A tool: its name, what it does, and the JSON schema of its arguments."""

    name: str
    title: str
    description: str
    schema: Mapping[str, Any]


def list_tools(engine: EngineProtocol) -> list[Tool]:
    """The tools of an engine, with its models."""
    image = {"type": "string", "description": f"The image ({FORMAT_NAMES}). {SEND_DATA} No address is fetched."}
    shared = {
        "language": {
            "type": "string",
            "enum": list(LANGUAGES),
            "default": "en",
            "description": "The code of the answer's language.",
        },
        "model": {
            "type": "string",
            "enum": list(engine.specs),
            "default": engine.default.name,
            "description": "The model that answers.",
        },
    }
    question = {
        "type": "string",
        "minLength": 1,
        "description": "A question or an instruction about the image, such as: What is on the table?",
    }
    limits = options.RANGES["max_new_tokens"]
    length = {
        "type": "integer",
        "minimum": int(limits.low),
        "maximum": int(limits.high),
        "default": options.GenerationOptions.max_new_tokens,
        "description": "The most tokens of the answer; a word has one to three.",
    }
    return [
        Tool(
            "ask_image",
            "Ask about an image",
            "Answers one question about one image, in one of 96 languages. Keeps nothing between two calls.",
            _schema({"image": image, "question": question, **shared, "max_new_tokens": length}, "image", "question"),
        ),
        Tool(
            "caption_image",
            "Caption an image",
            "Describes one image in a short sentence, in one of 96 languages.",
            _schema({"image": image, **shared}, "image"),
        ),
    ]


def parse_call(tool: Tool, arguments: Mapping[str, Any]) -> Request:
    """The request of a call. Raises `UserError` for arguments that the tool does not take, or with wrong values."""
    properties = tool.schema["properties"]
    if unknown := next((name for name in arguments if name not in properties), None):
        raise UserError(f"{tool.name} takes no {quote(unknown)}; it takes {', '.join(properties)}.")
    if missing := next((name for name in tool.schema["required"] if arguments.get(name) in (None, "")), None):
        if missing == "image":
            raise ImageError(f"There is no image. {SEND_DATA}", code="no_image")
        raise PromptError("There is no question. Ask one, or call caption_image for a caption.")
    language = _text(arguments, "language", "en")
    find_language(language)
    question = _text(arguments, "question", "")
    check_characters(question)
    if tool.name == "caption_image":
        decoding = options.CAPTION
    else:
        length = arguments.get("max_new_tokens", options.GenerationOptions.max_new_tokens)
        decoding = options.check(max_new_tokens=length)
    image = UploadedImageFile(parse_image(_text(arguments, "image", "")))
    return Request(image, question, language, model=_text(arguments, "model", ""), options=decoding)


def parse_image(text: str) -> bytes:
    """The bytes of an image that was sent as base64, perhaps as a data URL. Raises `ImageError` for any other text."""
    text = text.strip()
    start = DATA_URL.match(text[:200])
    if not start and ADDRESS.match(text[:200]) and not text.startswith("/9j/"):  # how every JPEG begins
        raise ImageError(f"{NOT_FETCHED} {SEND_DATA}", code="not_uploaded")
    data = text[start.end() :] if start else text
    if len(data) > MAX_BASE64:
        sentence = f"The image is larger than {MAX_UPLOAD_BYTES // 10**6} MB. Send a smaller copy."
        raise ImageError(sentence, code="too_large")
    is_for_urls = "-" in data or "_" in data
    try:
        return base64.b64decode("".join(data.split()), altchars=b"-_" if is_for_urls else None, validate=True)
    except (binascii.Error, ValueError):
        shown = quote(text, MAX_SHOWN)
        raise ImageError(f"The image is {shown}, which is no base64. {SEND_DATA}", code="not_uploaded") from None


def _schema(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _text(arguments: Mapping[str, Any], name: str, default: str) -> str:
    value = arguments.get(name)
    value = default if value is None else value
    if not isinstance(value, str):
        raise UserError(f"{name} must be a text.")
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{name} is not valid Unicode: it has half of a surrogate pair.") from None
    return value
