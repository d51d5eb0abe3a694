"""The baseline: processor, then transformers' `generate`, one request at a time, without a cache between turns.

It is the loop in the models' cards. The images and questions of the benchmarks are here too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import StoppingCriteria, StoppingCriteriaList

from benchmarks import devices, random_weights
from blip_space import catalogue, images
from blip_space.engine.request import Request
from blip_space.loading.device import cpu_has_bf16
from blip_space.models import families
from blip_space.models.cpu_kernels import use_cpu_kernels
from blip_space.models.interface import VisionLanguageModel
from blip_space.models.preparation import PLACEHOLDER, ImageInfo, Prompt
from blip_space.options import GenerationOptions

QUESTIONS = ("What is in the image?", "What colour is it?", "And what is next to it?", "How many are there?")


@dataclass(frozen=True)
class Turn:
    """A question, its answer and its times."""

    request: Request
    ids: tuple[int, ...]
    seconds: float
    first_seconds: float


def run_conversation(
    hf_model: Any, tokenizer: Any, model: VisionLanguageModel, user: int, turns: int, new_tokens: int
) -> list[Turn]:
    """One user's conversation with the baseline."""
    image = make_image(user)
    history: list[tuple[str, str]] = []
    conversation = []
    for turn in range(turns):
        options = GenerationOptions(max_new_tokens=new_tokens)
        request = Request(image, QUESTIONS[turn % len(QUESTIONS)], turns=tuple(history), options=options)
        prompt = compose_prompt(model, request.prompt, request.turns, options)
        clock = _FirstToken()
        started = time.monotonic()
        inputs = process(hf_model, model, image, prompt)
        ids = hf_model.generate(
            **inputs,
            do_sample=False,
            min_new_tokens=new_tokens,
            max_new_tokens=new_tokens,
            stopping_criteria=StoppingCriteriaList([clock]),
        )[0].tolist()[-new_tokens:]
        seconds = time.monotonic() - started
        conversation.append(Turn(request, tuple(ids), seconds, clock.first - started))
        history.append((request.prompt, tokenizer.decode(ids, skip_special_tokens=True)))
    return conversation


def compose_prompt(
    model: VisionLanguageModel, question: str, turns: Sequence[tuple[str, str]], options: GenerationOptions
) -> Prompt:
    """The prompt that blip-space would send, in English."""
    return model.preparation.prepare([ImageInfo()], turns, question, language="en", options=options)


def load(name: str, precision: str, device: str = "auto") -> tuple[Any, Any, VisionLanguageModel]:
    """transformers' model and tokenizer, and blip-space's model on the same weights."""
    if name in random_weights.NAMES:
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        return random_weights.build(name, dtype=dtype, device=devices.resolve(device))
    spec = replace(catalogue.find_model(name, folders=True), photo_encoder=False)  # transformers does not have it
    model = devices.load_model(spec, precision, device)
    return model._hf_model, transformers.AutoTokenizer.from_pretrained(spec.source), model


def optimize(hf_model: Any, model: VisionLanguageModel) -> None:
    """Apply the loader's CPU kernels to a model of random weights; call it after the baseline, which has none."""
    if model.precision.device != "cpu" or model.spec.name not in random_weights.NAMES:
        return
    if model.precision.name == "bf16" and cpu_has_bf16():
        family = families.load_family(model.spec.family)
        use_cpu_kernels(hf_model, family)
        model.decoder = family.build(hf_model, model.preparation, model.precision).decoder  # with the packed layers


def disable_stopping(hf_model: Any, model: VisionLanguageModel) -> None:
    """Every answer has the maximum length, and the engine's text is the token ids."""
    model.stop_token_ids = frozenset()
    for module in (hf_model, getattr(hf_model, "language_model", None)):
        if config := getattr(module, "generation_config", None):
            config.eos_token_id = None
    model.decode = lambda ids: " ".join(map(str, ids))


def process(hf_model: Any, model: VisionLanguageModel, image: images.SafeImage, prompt: Prompt) -> dict[str, Any]:
    """The inputs of `generate` as a processor makes them, on the model's device: pixel values, and ids with image
    tokens."""
    weight = next(hf_model.parameters())
    pixels = model.preparation.pixels(image.pixels, GenerationOptions()).to(weight.device)
    image_token = hf_model.config.image_token_id
    ids = torch.tensor([[image_token if token == PLACEHOLDER else token for token in prompt.ids]], device=weight.device)
    return {
        "pixel_values": model.preparation.normalize(pixels, weight.dtype),
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
    }


def make_image(user: int, side: int = 224) -> images.SafeImage:
    """A different image for every user."""
    rng = np.random.default_rng(user)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return images.SafeImage(coarse.resize((side, side)), digest=f"{user:064d}")


class _FirstToken(StoppingCriteria):  # type: ignore[misc]  # transformers has no types here
    """Records the time of the first token, and never stops."""

    def __init__(self) -> None:
        self.first = 0.0

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:  # noqa: ARG002  # its signature
        if not self.first:
            devices.synchronize(input_ids.device)  # a GPU may not have computed the token yet
            self.first = time.monotonic()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
