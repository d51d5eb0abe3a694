"""Requests for the engine tests, and the models that answer them."""

from __future__ import annotations

from typing import Any

from PIL import Image

from blip_space.engine.request import Request
from blip_space.images import SafeImage
from blip_space.options import GenerationOptions
from blip_space.serving.threaded import ThreadedEngine
from tests.engine.fake_model import spec
from tests.serving.fakes import GIGABYTE

IMAGE = SafeImage(Image.new("RGB", (2, 2)), digest="a" * 64)
BEST = GenerationOptions(quality="best")
ANSWER = "Question: What is it? Short answer in English:"

ONE, TWO, THREE = (spec(name, parameters=100_000_000) for name in ("one", "two", "three"))
"""Each takes 0.4 GB."""

HUGE = spec("huge", parameters=400_000_000)
FOR_ONE, FOR_TWO = int(0.5 * GIGABYTE), int(0.95 * GIGABYTE)
"""Bytes of memory in which one or two of them fit."""


def ask(prompt: str = "What is it?", **changes: Any) -> Request:
    return Request(IMAGE, prompt, **changes)


def answer(engine: ThreadedEngine, *models: str) -> None:
    """Submit a request to one model after another, and check the answers."""
    for model in models:
        assert list(engine.submit(ask(model=model)))[-1].endswith("English:")
