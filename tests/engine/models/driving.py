"""Token ids of what a core generates, which its outputs do not say."""

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
    """A core whose answers no stop string ends, as `generate` knows none."""
    core = EngineCore(model, EngineConfig(**limits))
    core._stop_strings = ()
    return core


def make_request(
    model: VisionLanguageModel,
    picture: Image.Image,
    text: str,
    options: GenerationOptions,
    *,
    digest: str = "",
    turns: bool = False,
) -> PreparedRequest:
    """A prompt as it is, about a picture that is called by its digest."""
    prompt = prompt_of(model.preparation, text, digest or str(id(picture)))
    return PreparedRequest(model.spec, prompt, (model.preparation.pixels(picture, options),), options, turns)


def prompt_of(preparation: Any, text: str, digest: str) -> Prompt:
    """The text as it is, behind the image of that digest; of a model that was taught by turns, as the first question
    about it."""
    if not isinstance(preparation, ImageFirstPreparation):
        given = GenerationOptions(max_new_tokens=1)
        chat: Prompt = preparation.prepare([ImageInfo(digest)], (), text, language="en", options=given)
        return chat
    composed = ComposedPrompt(text, tuple(preparation.encode(text)), (), ())
    return preparation.build_prompt(composed, digest)


def add(core: EngineCore, asked: PreparedRequest) -> Sequence:
    """The sequence of a request that is added."""
    return core._sequences[core.add(asked)]


def finish(core: EngineCore) -> None:
    """Step until nothing is left."""
    now = 0.0
    while core.has_work:
        now += 1.0
        core.step(now)


def generate_alone(model: VisionLanguageModel, asked: PreparedRequest) -> list[int]:
    """The new tokens of a request that nobody runs beside."""
    core = make_core(model)
    sequence = add(core, asked)
    finish(core)
    assert sequence.error is None or isinstance(sequence.error, EmptyAnswerError)
    return sequence.ids
