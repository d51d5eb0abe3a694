"""Parses the raw, untrusted values of a call into requests. An invalid value raises `UserError`.

Depends on the rules for prompts, history, options and uploads only. Must not import the page.
"""

from __future__ import annotations

from typing import Any

from blip_space import options
from blip_space.apps.gradio_api.upload_security import parse_image
from blip_space.engine.request import Request
from blip_space.errors import ModelError, PromptError, UserError
from blip_space.history import parse_history
from blip_space.jobs.records import CaptionTask
from blip_space.prompts import check_characters, clean


def parse_request(
    image: Any, prompt: Any, *, language: Any, history: Any, model: Any, use_history: Any, **decoding: Any
) -> Request:
    """The request of a `/chat` call. `decoding` has the decoding options by name."""
    text = parse_prompt(prompt)
    generation = options.check(**decoding)
    turns = parse_history([] if history is None else history)
    if not isinstance(use_history, bool):
        raise UserError("use_history must be true or false.")
    return Request(parse_image(image), text, language, turns if use_history else (), parse_model(model), generation)


def parse_caption_request(image: Any, language: Any, model: Any, **decoding: Any) -> Request:
    """The request of a `/caption` call. `decoding` has the decoding options by name."""
    return Request(
        image=parse_image(image), language=language, model=parse_model(model), options=options.check(**decoding)
    )


def parse_task(prompt: Any, language: Any, model: Any, **decoding: Any) -> CaptionTask:
    """The task of a `/batch` call. Its precision is empty until the job knows it."""
    return CaptionTask(parse_model(model), "", language, clean(parse_prompt(prompt)), options.check(**decoding))


def parse_prompt(value: Any) -> str:
    """The prompt of a call. None becomes empty, which asks for a caption. Raises `PromptError` if it is no string, or
    too long for any model."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise PromptError("The prompt must be a string. Leave it empty to ask for a caption.")
    check_characters(value)
    return value


def parse_model(value: Any) -> str:
    """The model's name. None becomes the empty name, the default. Raises `ModelError` if it is no string."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ModelError("The model must be one of the names that /models lists.", code="unknown_model")
    return value
