"""LLaVA: a vision encoder and a projector make features from an image, and the language model reads them in the middle
of a conversation, where the checkpoint's chat template puts the image.

Depends on transformers' model; must not import the loader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from transformers import AutoTokenizer, LlavaConfig

from blip_space import languages
from blip_space.catalogue import ModelSpec
from blip_space.errors import ModelError
from blip_space.history import Turn
from blip_space.models.chat_template import ChatTemplate, load_chat_template
from blip_space.models.decoders import CausalDecoder
from blip_space.models.family import Family
from blip_space.models.image_processor import TransformersImageProcessor, load_transformers_image_processor
from blip_space.models.interface import Embedded, Precision, VisionLanguageModel, merge_image_features
from blip_space.models.preparation import PLACEHOLDER, ImageInfo, ImageSpan, Preparation, Prompt
from blip_space.models.tokenizer import FastTokenizer, Tokenizer, stop_tokens
from blip_space.models.transfer import pixels_to_device
from blip_space.options import GenerationOptions
from blip_space.prompts import STYLES, compose_chat

EXTRA_POSITIONS = {"clip_vision_model": 1, "siglip_vision_model": 0}
"""How many positions a vision encoder has besides one per patch; CLIP's class token comes first."""


@dataclass(frozen=True, eq=False)
class LlavaPreparation(Preparation):
    """The tokenizer, the chat template and the image processor of one LLaVA; an image takes `positions` positions.

    `eos_token_ids` are the tokens that end an answer according to the tokenizer's files.
    """

    spec: ModelSpec
    tokenizer: Tokenizer
    chat_template: ChatTemplate
    image_processor: TransformersImageProcessor
    positions: int
    eos_token_ids: frozenset[int]

    def image_positions(self, width: int, height: int, options: GenerationOptions) -> int:  # noqa: ARG002
        """The number of features of an image, which is the same for every image."""
        return self.positions

    def prepare(
        self,
        images: Sequence[ImageInfo],
        turns: Sequence[Turn],
        question: str,
        *,
        language: str,
        options: GenerationOptions,
    ) -> Prompt:
        """See `Preparation`; `images` has exactly one, for the template's one placeholder."""
        (image,) = images
        composed = compose_chat(
            turns,
            question,
            style=self.style,
            language=languages.LANGUAGES[language],
            budget_tokens=self.budget_tokens(self.positions, options),
            render=self.chat_template.render,
        )
        (start,) = composed.image_positions
        ids = (*composed.ids[:start], *(PLACEHOLDER,) * self.positions, *composed.ids[start:])
        span = ImageSpan(start, self.positions, self.feature_key(image.digest, options))
        return Prompt(composed.text, ids, (span,), composed.kept_turns, composed.dropped_turns)

    def pixels(self, image: Image.Image, options: GenerationOptions) -> torch.Tensor:  # noqa: ARG002
        """The pixel values (1, 3, size, size), on the CPU: bytes, if the image processor can make them, or float32."""
        return self.image_processor.pixels(image)

    def normalize(self, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """See `Preparation`."""
        return self.image_processor.normalize(pixels, dtype)

    def encode(self, text: str) -> list[int]:
        """See `Preparation`."""
        return self.tokenizer.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """See `Preparation`."""
        return self.tokenizer.decode(ids)


class Llava(VisionLanguageModel):
    """A `LlavaForConditionalGeneration` with its preparation."""

    decoder: CausalDecoder

    def __init__(self, hf_model: Any, preparation: LlavaPreparation, *, precision: Precision) -> None:
        stop = stop_tokens(hf_model) | preparation.eos_token_ids
        super().__init__(hf_model, preparation, precision=precision, stop=stop)
        self.decoder = CausalDecoder(hf_model.model.language_model, hf_model.lm_head)

    def load_pixels(self, pixels: Sequence[Any]) -> torch.Tensor:
        """Pixel values (images, 3, size, size), from those of single images, each (1, 3, size, size)."""
        encoder = self._hf_model.model.vision_tower
        batch: torch.Tensor = self.preparation.normalize(pixels_to_device(pixels, encoder.device), encoder.dtype)
        return batch

    @torch.inference_mode()
    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features (images, positions, hidden)."""
        features = self._hf_model.get_image_features(pixel_values=pixels, return_dict=True).pooler_output
        table = self._hf_model.get_input_embeddings().weight
        return torch.stack([own.to(table.device, table.dtype) for own in features])

    @torch.inference_mode()
    def embed(self, prompt: Prompt, features: Sequence[torch.Tensor]) -> Embedded:
        """The embedded conversation, with the features at the image's positions; all positions are consecutive."""
        table, device = self._hf_model.get_input_embeddings(), self.decoder.device
        embeddings = merge_image_features(prompt, features, table, device=device)
        positions = torch.arange(len(embeddings), device=device)[None]
        return Embedded(embeddings, positions, len(embeddings))


def _load_preparation(spec: ModelSpec, folder: Path, config: Any) -> LlavaPreparation:
    positions = _image_positions(config, name=spec.name)
    tokenizer, template = _load_tokenizer(folder, name=spec.name)
    image_token, vocabulary_size = int(config.image_token_id), int(config.text_config.vocab_size)
    if tokenizer.convert_ids_to_tokens(image_token) is None:
        raise ModelError(
            f"The image token of {spec.name} is {image_token} in its config.json, and its tokenizer has no such token. "
            "Its files belong to two models; copy config.json and the tokenizer from the same place."
        )
    eos_token = tokenizer.eos_token_id
    return LlavaPreparation(
        spec,
        tokenizer=Tokenizer(FastTokenizer(tokenizer)),
        chat_template=ChatTemplate(
            tokenizer, template or STYLES[spec.prompt_style].chat_template, image_token=image_token, name=spec.name
        ),
        image_processor=load_transformers_image_processor(
            folder, size=int(config.vision_config.image_size), name=spec.name
        ),
        positions=positions,
        eos_token_ids=frozenset() if eos_token is None or eos_token >= vocabulary_size else frozenset({eos_token}),
    )


def _image_positions(config: Any, *, name: str) -> int:
    """The number of features of an image, computed from the vision encoder, since many processors' files are wrong."""
    vision = config.vision_config
    extra = EXTRA_POSITIONS.get(vision.model_type)
    if extra is None:
        raise ModelError(
            f"{name} is a LLaVA model with the vision encoder {vision.model_type!r}, and only "
            f"{' and '.join(EXTRA_POSITIONS)} are supported. Choose another model."
        )
    patches = (int(vision.image_size) // int(vision.patch_size)) ** 2
    # "default" leaves out the first position, whatever it is
    return patches + extra - int(config.vision_feature_select_strategy == "default")


def _load_tokenizer(folder: Path, *, name: str) -> tuple[Any, str]:
    """The tokenizer, in the class that transformers chooses, and the chat template, which is empty if there is none."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return tokenizer, load_chat_template(folder, tokenizer)
    except Exception as error:  # the Rust reader raises plain Exception for a broken file
        raise ModelError(
            f"The tokenizer of {name} cannot be read. Copy its files (tokenizer.json, tokenizer_config.json, "
            "chat_template.jinja) again from where the checkpoint came from."
        ) from error


def _model_class() -> type[Any]:
    from transformers import LlavaForConditionalGeneration  # not needed to prepare a request

    return cast("type[Any]", LlavaForConditionalGeneration)


FAMILY = Family(
    config_class=LlavaConfig,
    model_class=_model_class,
    unquantized_modules=("vision_tower", "multi_modal_projector", "lm_head"),
    packed_modules=lambda hf_model: [hf_model],
    lm_head_weights=("lm_head.weight",),
    language_model=lambda hf_model: hf_model.model.language_model,
    lm_head=lambda hf_model: hf_model.lm_head,
    load_preparation=_load_preparation,
    build=lambda hf_model, preparation, precision: Llava(
        hf_model, cast(LlavaPreparation, preparation), precision=precision
    ),
)
