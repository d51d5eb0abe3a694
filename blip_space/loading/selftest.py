"""Does a freshly loaded model see, read and write?

A checkpoint can load without a word and answer as if blind: weights that were zeroed, image slots that nobody filled.
Two pictures that differ must reach the first token differently. It can also read its prompts garbled, by a tokenizer of
another model, or write with a head that is not its own. Knows nothing of how a model was loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from safetensors import safe_open

from blip_space.catalogue import ModelSpec
from blip_space.catalogue.weight_names import WeightNames
from blip_space.errors import ModelError, PromptError
from blip_space.languages import LANGUAGES
from blip_space.models.family import Family
from blip_space.models.interface import DecoderOnly, Embedded, EncoderDecoder, VisionLanguageModel
from blip_space.models.preparation import ImageInfo, Preparation, Prompt
from blip_space.options import GenerationOptions

LEAST_DIFFERENCE = 1e-5
"""Between the prefixes of two pictures, relative to their size; a blind model has 0."""

PROMPT = "a photo of"
HEAD_ROWS = 64


def check_image_is_used(model: VisionLanguageModel) -> None:
    """Raise `ModelError` unless two made pictures give finite and different prefixes and first-token logits."""
    options, preparation = GenerationOptions(max_new_tokens=1), model.preparation
    pixels = [preparation.pixels(picture, options) for picture in make_test_images()]
    prompt = _shortest_prompt(preparation, model.spec, options)
    features = model.encode_images(pixels)
    prefixes = torch.stack(features)
    logits = torch.cat([first_logits(model.decoder, model.embed(prompt, [own])) for own in features])
    if not (prefixes.isfinite().all() and logits.isfinite().all()):
        raise ModelError(
            f"{model.spec.name} computes numbers that are not finite in {model.precision.name}, so its answers would "
            "be noise. Choose another precision or, where that does not help, another checkpoint."
        )
    if relative_difference(prefixes) <= LEAST_DIFFERENCE or torch.equal(logits[0], logits[1]):
        raise ModelError(
            f"{model.spec.name} ignores the picture: two different ones give the same first word. "
            "Its weights are damaged or were not trained; download the checkpoint again, or choose another model."
        )


def _shortest_prompt(preparation: Preparation, spec: ModelSpec, options: GenerationOptions) -> Prompt:
    try:
        return preparation.prepare([ImageInfo()], (), PROMPT, language=spec.languages[0], options=options)
    except PromptError as error:
        raise ModelError(
            f"{spec.name} has a window of {spec.context_tokens} tokens, of which an image takes "
            f"{preparation.image_positions(0, 0, options)}: no question fits behind it. Correct "
            "max_position_embeddings in its config.json or context_tokens in its blip_space.json, or choose another "
            "model."
        ) from error


def check_tokenizer(preparation: Preparation) -> None:
    """Raise `ModelError` unless the tokenizer gives back what prompts are made of: their words and language names."""
    spec = preparation.spec
    names = [LANGUAGES[code].prompt_name for code in spec.languages] if preparation.style.multilingual else []
    for text in (PROMPT, "Question: how many? Short answer:", *names):
        if preparation.decode(preparation.encode(text)).split() != text.split():
            raise ModelError(
                f"The tokenizer of {spec.name} cannot write {text!r}, so its prompts would arrive garbled. "
                "Its files belong to another model; copy them again from where the checkpoint came from."
            )


def check_lm_head(
    network: Any, weights: Sequence[Path], family: Family, *, name: str, names: WeightNames | None = None
) -> None:
    """Raise `ModelError` where the checkpoint stores a head of its own and the network writes with another.

    transformers 5 ties the head of a T5 to its embedding unless it sees that the stored ones differ. `names` tells what
    the weights are called in the files, where that is not what they are called in the network.
    """
    for file in weights:
        with safe_open(file, "pt") as opened:
            keys = opened.keys()  # it is no dict
            stored_name = next(
                (key for key in keys if (names.parameter_name(key) if names else key) in family.lm_head_weights), None
            )
            if stored_name is None:
                continue
            stored = opened.get_slice(stored_name)[:HEAD_ROWS]
        used = family.lm_head(network).weight[:HEAD_ROWS].detach().cpu()
        if not used.dtype.is_floating_point:  # quantised, which no embedding is
            continue
        if not torch.equal(stored.to(used.dtype), used):
            raise ModelError(
                f"{name} was loaded with its embedding in the place of its own head, so it would write noise. "
                "This is a fault of this program with your version of transformers; install the one it asks for."
            )


def check_image_token(config: Any, *, name: str) -> None:
    """Raise `ModelError` where the token that stands for a picture lies outside the language model's embedding."""
    token, rows = getattr(config, "image_token_index", None), int(config.text_config.vocab_size)
    if token is not None and token >= rows:
        raise ModelError(
            f"config.json of {name} says that token {token} stands for the picture, and there are {rows} tokens. "
            "Its files belong to two models; copy config.json and the weights from the same place."
        )


@torch.inference_mode()
def first_logits(decoder: DecoderOnly | EncoderDecoder, prompt: Embedded) -> torch.Tensor:
    """Float32 of shape (1, vocabulary): what the first new token after the prompt may be."""
    embeddings, positions = prompt.embeddings[None], prompt.positions[:, None]
    mask = torch.ones(embeddings.shape[:2], dtype=torch.long, device=embeddings.device)
    if isinstance(decoder, DecoderOnly):
        return decoder.forward(embeddings=embeddings, positions=positions, mask=mask, key_values=None)
    start = torch.tensor([prompt.start], device=embeddings.device)
    return decoder.forward(
        start,
        positions=torch.arange(start.shape[1], device=embeddings.device).expand(decoder.axes, 1, -1),
        mask=torch.ones_like(start),
        states=decoder.encode(embeddings, mask),
        prompt_mask=mask,
        self_attention=None,
        cross_attention=None,
    )


def relative_difference(pair: torch.Tensor) -> float:
    """How far the two rows of a tensor are apart, relative to the larger."""
    first, second = pair.to(torch.float32)
    scale = max(float(first.norm()), float(second.norm()))
    return float((first - second).norm()) / scale if scale else 0.0


def make_test_images(size: int = 224) -> list[Image.Image]:
    """Two pictures that no model can take for one: a red disc on white, and blue and yellow bars on black."""
    disc, bars = Image.new("RGB", (size, size), "white"), Image.new("RGB", (size, size), "black")
    ImageDraw.Draw(disc).ellipse((size // 4, size // 4, size * 3 // 4, size * 3 // 4), fill="red")
    draw = ImageDraw.Draw(bars)
    draw.rectangle((0, 0, size // 3, size), fill="blue")
    draw.rectangle((0, size * 2 // 3, size, size), fill="yellow")
    return [disc, bars]
