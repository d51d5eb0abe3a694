"""What a call's raw values mean, which anybody may have written: each is checked, and a mistake is a sentence.

Knows the contract's parameters; knows no engine and nothing of the page.
"""

from __future__ import annotations

from typing import Any

from blip_space import options
from blip_space.apps.gradio_api.upload_security import parse_image
from blip_space.engine.request import Request
from blip_space.errors import ModelError, PromptError, UserError
from blip_space.history import parse_history
from blip_space.jobs.records import CaptionTask
from blip_space.prompts import clean


def parse_request(
    image: Any,
    prompt: Any,
    language: Any,
    history: Any,
    model: Any,
    max_new_tokens: Any,
    temperature: Any,
    top_p: Any,
    repetition_penalty: Any,
    seed: Any,
    quality: Any,
    use_history: Any,
) -> Request:
    """The request that `/chat` makes of its values."""
    words = parse_prompt(prompt)
    chosen = options.check(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        quality=quality,
    )
    turns = parse_history([] if history is None else history)
    kept = turns if parse_bool("use_history", use_history) else ()
    return Request(
        image=parse_image(image),
        prompt=words,
        language=language,
        turns=kept,
        model=parse_model(model),
        options=chosen,
    )


def parse_caption_request(image: Any, language: Any, model: Any, **decoding: Any) -> Request:
    """The request that `/caption` makes of its values; `decoding` is checked by its names."""
    return Request(
        image=parse_image(image), language=language, model=parse_model(model), options=options.check(**decoding)
    )


def parse_task(prompt: Any, language: Any, model: Any, **decoding: Any) -> CaptionTask:
    """What `/batch` asks of every picture; in which precision is known once there is an answer."""
    return CaptionTask(parse_model(model), "", language, clean(parse_prompt(prompt)), options.check(**decoding))


def parse_prompt(value: Any) -> str:
    """The words of a call; none are a request for a caption."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise PromptError("The prompt must be a text. Leave it empty to ask for a caption.")
    return value


def parse_model(value: Any) -> str:
    """The model's name of a call; none is the server's default."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ModelError("The model must be one of the names that /models lists.")
    return value


def parse_bool(name: str, value: Any) -> bool:
    """A choice of yes or no."""
    if not isinstance(value, bool):
        raise UserError(f"{name} must be true or false.")
    return value
