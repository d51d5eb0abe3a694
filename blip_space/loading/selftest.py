"""Checks that a loaded model uses the image, the right tokenizer and its own head.

A checkpoint can load without an error and still ignore the image, because its weights are zero or its image positions
are not filled: two different images must give different logits of the first token. It can also have the tokenizer of
another model, or a wrong head. Must not depend on how a model is loaded.
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

MIN_DIFFERENCE = 1e-5
"""The minimum difference of two images' features, relative to their norm. It is 0 if the model ignores the image."""

PROMPT = "a photo of"
HEAD_ROWS = 64


def check_image_is_used(model: VisionLanguageModel) -> None:
    """Raise `ModelError` unless two test images give finite and different features and logits of the first token."""
    options, preparation = GenerationOptions(max_new_tokens=1), model.preparation
    pixels = [preparation.pixels(image, options) for image in make_test_images()]
    prompt = _shortest_prompt(preparation, model.spec, options)
    features = torch.stack(model.encode_images(pixels))
    logits = torch.cat([first_logits(model.decoder, model.embed(prompt, [item])) for item in features])
    if not (features.isfinite().all() and logits.isfinite().all()):
        raise ModelError(
            f"{model.spec.name} computes numbers that are not finite in {model.precision.name}, so its answers would "
            "be noise. Choose another precision or, if that does not help, another checkpoint."
        )
    if relative_difference(features) <= MIN_DIFFERENCE or torch.equal(logits[0], logits[1]):
        raise ModelError(
            f"{model.spec.name} ignores the image: two different ones give the same first token. "
            "Its weights are damaged or were not trained; download the checkpoint again, or choose another model."
        )


def _shortest_prompt(preparation: Preparation, spec: ModelSpec, options: GenerationOptions) -> Prompt:
    try:
        return preparation.prepare([ImageInfo()], (), PROMPT, language=spec.languages[0], options=options)
    except PromptError as error:
        raise ModelError(
            f"{spec.name} has a window of {spec.context_tokens} tokens, of which an image takes "
            f"{preparation.image_positions(0, 0, options)}: no question fits after it. Correct "
            "max_position_embeddings in its config.json or context_tokens in its blip_space.json, or choose another "
            "model."
        ) from error


def check_tokenizer(preparation: Preparation) -> None:
    """Raise `ModelError` unless the tokenizer encodes and decodes the words and language names of prompts unchanged."""
    spec = preparation.spec
    names = [LANGUAGES[code].prompt_name for code in spec.languages] if preparation.style.multilingual else []
    for text in (PROMPT, "Question: how many? Short answer:", *names):
        if preparation.decode(preparation.encode(text)).split() != text.split():
            raise ModelError(
                f"The tokenizer of {spec.name} cannot encode {text!r}, so prompts would be garbled. "
                "Its files belong to another model; copy them again from where the checkpoint came from."
            )


def check_lm_head(
    hf_model: Any, weights: Sequence[Path], family: Family, *, name: str, names: WeightNames | None = None
) -> None:
    """Raise `ModelError` if the checkpoint stores a head and the loaded model has another one.

    transformers 5 ties a T5's head to its embedding unless it finds that the stored weights of the two differ. `names`
    maps stored names of weights to names in memory; None if they are the same.
    """
    for path in weights:
        with safe_open(path, "pt") as file:
            keys = file.keys()  # the file itself cannot be iterated
            stored_name = next(
                (key for key in keys if (names.parameter_name(key) if names else key) in family.lm_head_weights), None
            )
            if stored_name is None:
                continue
            stored = file.get_slice(stored_name)[:HEAD_ROWS]
        used = family.lm_head(hf_model).weight[:HEAD_ROWS].detach().cpu()
        if not used.dtype.is_floating_point:  # a quantized head cannot be the embedding, which is never quantized
            continue
        if not torch.equal(stored.to(used.dtype), used):
            raise ModelError(
                f"transformers replaced the output layer of {name} by its input embedding, so answers would be noise. "
                "This is a bug of blip-space with this transformers version; install one that requirements.txt allows."
            )


def check_image_token(config: Any, *, name: str) -> None:
    """Raise `ModelError` if the image token is outside the language model's vocabulary."""
    token, vocabulary = getattr(config, "image_token_index", None), int(config.text_config.vocab_size)
    if token is not None and token >= vocabulary:
        raise ModelError(
            f"The image token in config.json of {name} is {token}, and its vocabulary has {vocabulary} tokens. "
            "Its files belong to two models; copy config.json and the weights from the same source."
        )


@torch.inference_mode()
def first_logits(decoder: DecoderOnly | EncoderDecoder, prompt: Embedded) -> torch.Tensor:
    """The logits of the first token after the prompt: float32 (1, vocabulary)."""
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
    """The distance between the two rows of `pair`, divided by the larger of their norms; 0 if both are zero."""
    first, second = pair.to(torch.float32)
    scale = max(float(first.norm()), float(second.norm()))
    return float((first - second).norm()) / scale if scale else 0.0


def make_test_images(size: int = 224) -> list[Image.Image]:
    """Two clearly different images: a red disc on white, and blue and yellow bars on black."""
    disc, bars = Image.new("RGB", (size, size), "white"), Image.new("RGB", (size, size), "black")
    ImageDraw.Draw(disc).ellipse((size // 4, size // 4, size * 3 // 4, size * 3 // 4), fill="red")
    draw = ImageDraw.Draw(bars)
    draw.rectangle((0, 0, size // 3, size), fill="blue")
    draw.rectangle((0, size * 2 // 3, size, size), fill="yellow")
    return [disc, bars]
