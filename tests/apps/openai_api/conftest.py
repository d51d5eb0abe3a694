"""OpenAI's own client for the server of all apps' tests, and messages with an image."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from tests.example_images import blue_circles

IMAGE = blue_circles()


def data_url(image: bytes = IMAGE) -> str:
    """An image as it stands in a message."""
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def ask(prompt: str, image: bytes | None = IMAGE) -> Any:
    """A message of the user about an image."""
    parts: list[Any] = [{"type": "text", "text": prompt}]
    if image is not None:
        parts.append({"type": "image_url", "image_url": {"url": data_url(image), "detail": "auto"}})
    return {"role": "user", "content": parts}


def answer(text: str) -> Any:
    """A message of the assistant."""
    return {"role": "assistant", "content": text}


def new_client(url: str, *, key: str = "none") -> OpenAI:
    """The official client, which does not repeat refused requests."""
    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=30)


@pytest.fixture
def openai(url: str) -> Iterator[OpenAI]:
    """A client of the server with the fake engine."""
    with new_client(url) as client:
        yield client
