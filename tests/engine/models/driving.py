"""Cores, requests and the token ids that a core generates, which are not in its outputs."""

from __future__ import annotations

from typing import Any

from PIL import Image

from blip_space.engine.core import EngineCore
from blip_space.engine.request import EngineConfig, PreparedRequest
from blip_space.engine.sequence import Sequence
from blip_space.errors import EmptyAnswerError
from blip_space.models.interface import VisionLanguageModel
from blip_space.models.preparation import ImageFirstPreparation, ImageInfo, Prompt
from blip_space.options import GenerationOptions
from blip_space.prompts import ComposedPrompt


def make_core(model: VisionLanguageModel, **limits: Any) -> EngineCore:
    """A core without stop strings, which `generate` does not have."""
    core = EngineCore(model, EngineConfig(**limits))
    core._stop_strings = ()
    return core


def make_request(
    model: VisionLanguageModel,
    image: Image.Image,
    text: str,
    options: GenerationOptions,
    *,
    digest: str = "",
    turns: bool = False,
) -> PreparedRequest:
    """A request with a prompt without template; by default each image has its own digest."""
    prompt = prompt_of(model.preparation, text, digest or str(id(image)))
    return PreparedRequest(model.spec, prompt, (model.preparation.pixels(image, options),), options, turns)


def prompt_of(preparation: Any, text: str, digest: str) -> Prompt:
    """The image, then the text without template; for a chat model, the text as the first question."""
    if not isinstance(preparation, ImageFirstPreparation):
        options = GenerationOptions(max_new_tokens=1)
        chat: Prompt = preparation.prepare([ImageInfo(digest)], (), text, language="en", options=options)
        return chat
    composed = ComposedPrompt(text, tuple(preparation.encode(text)), (), ())
    return preparation.build_prompt(composed, digest)


def add(core: EngineCore, request: PreparedRequest) -> Sequence:
    """Add a request; its sequence."""
    return core._answers.unfinished[core.add(request)]


def finish(core: EngineCore) -> None:
    """Step until no request is left."""
    now = 0.0
    while core.has_work:
        now += 1.0
        core.step(now)


def generate_alone(model: VisionLanguageModel, request: PreparedRequest) -> list[int]:
    """The new tokens of a request that runs alone."""
    core = make_core(model)
    sequence = add(core, request)
    finish(core)
    assert sequence.error is None or isinstance(sequence.error, EmptyAnswerError)
    return sequence.ids
