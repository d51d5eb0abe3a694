"""The model cards' loop: processor, then `generate`, for one request after another, everything anew at every turn.

What the benchmarks compare ours with, and the pictures and questions that both are asked.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import StoppingCriteria, StoppingCriteriaList

from benchmarks import random_weights
from blip_space import catalogue, images
from blip_space.engine.request import Request
from blip_space.loading import loader
from blip_space.loading.device import cpu_has_bf16
from blip_space.models import families
from blip_space.models.cpu_kernels import use_cpu_kernels
from blip_space.models.interface import VisionLanguageModel
from blip_space.models.preparation import PLACEHOLDER, ImageInfo, Prompt
from blip_space.options import GenerationOptions

QUESTIONS = ("What is in the picture?", "What colour is it?", "And what is beside it?", "How many are there?")


@dataclass(frozen=True)
class Turn:
    """One question as it was asked, and what came of it."""

    request: Request
    ids: tuple[int, ...]
    seconds: float
    first_seconds: float


def converse(
    network: Any, tokenizer: Any, model: VisionLanguageModel, user: int, turns: int, new_tokens: int
) -> list[Turn]:
    """One conversation as the model cards have it: everything anew at every turn."""
    shown = picture(user)
    history: list[tuple[str, str]] = []
    held = []
    for turn in range(turns):
        options = GenerationOptions(max_new_tokens=new_tokens)
        asked = Request(shown, QUESTIONS[turn % len(QUESTIONS)], turns=tuple(history), options=options)
        prompt = composed(model, asked.prompt, asked.turns, options)
        clock = _FirstToken()
        started = time.monotonic()
        inputs = processed(network, model, shown, prompt)
        ids = network.generate(
            **inputs,
            do_sample=False,
            min_new_tokens=new_tokens,
            max_new_tokens=new_tokens,
            stopping_criteria=StoppingCriteriaList([clock]),
        )[0].tolist()[-new_tokens:]
        seconds = time.monotonic() - started
        held.append(Turn(asked, tuple(ids), seconds, clock.first - started))
        history.append((asked.prompt, tokenizer.decode(ids, skip_special_tokens=True)))
    return held


def composed(
    model: VisionLanguageModel, question: str, turns: Sequence[tuple[str, str]], options: GenerationOptions
) -> Prompt:
    """What our model would be sent, in English."""
    return model.preparation.prepare([ImageInfo()], turns, question, language="en", options=options)


def opened(name: str, precision: str) -> tuple[Any, Any, VisionLanguageModel]:
    """The network, its tokenizer and ours, on the same weights."""
    if name in random_weights.SHAPES:
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        return random_weights.build(name, dtype=dtype)
    spec = catalogue.find_model(name, folders=True)
    model = loader.load_model(spec, precision)
    return model._hf_model, transformers.AutoTokenizer.from_pretrained(spec.source), model


def as_loaded(network: Any, model: VisionLanguageModel) -> None:
    """Make of a shape what the loader would have made of it; for after the cards' loop, which has none of it."""
    if model.spec.name in random_weights.SHAPES and model.precision.name == "bf16" and cpu_has_bf16():
        family = families.load_family(model.spec.family)
        use_cpu_kernels(network, family)
        model.decoder = family.build(network, model.preparation, model.precision).decoder  # with the packed layers


def make_endless(network: Any, model: VisionLanguageModel) -> None:
    """Answers never end before they are as long as asked, and what the engine says is the tokens themselves."""
    model.stop_token_ids = frozenset()
    for part in (network, getattr(network, "language_model", None)):
        if settings := getattr(part, "generation_config", None):
            settings.eos_token_id = None
    model.decode = lambda ids: " ".join(map(str, ids))


def processed(network: Any, model: VisionLanguageModel, shown: images.SafeImage, prompt: Prompt) -> dict[str, Any]:
    """What a processor gives `generate`: pixels, and ids with the image's positions among them."""
    pixels = model.preparation.pixels(shown.pixels, GenerationOptions()).to(next(network.parameters()).dtype)
    token = network.config.image_token_id
    ids = torch.tensor([[token if one == PLACEHOLDER else one for one in prompt.ids]])
    return {"pixel_values": pixels, "input_ids": ids, "attention_mask": torch.ones_like(ids)}


def picture(user: int) -> images.SafeImage:
    """Another picture for every user."""
    dice = np.random.default_rng(user)
    coarse = Image.fromarray(dice.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return images.SafeImage(coarse.resize((224, 224)), digest=f"{user:064d}")


class _FirstToken(StoppingCriteria):  # type: ignore[misc]  # transformers has no types here
    """Notes when the first token came, and stops nothing."""

    def __init__(self) -> None:
        self.first = 0.0

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:  # noqa: ARG002  # its signature
        self.first = self.first or time.monotonic()
        return torch.zeros(len(input_ids), dtype=torch.bool)
