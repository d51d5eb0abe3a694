"""BLIP-2: a ViT, a Q-Former and a projection make the same number of features from every image, and the language model
reads them before the prompt.

The language model is OPT or BLOOM (decoder-only) or T5 or mT5. Depends on transformers' model; must not import
`loading`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from transformers import Blip2Config

from blip_space.catalogue import ModelSpec
from blip_space.images import Resize
from blip_space.models import photo_encoder
from blip_space.models.decoders import CausalDecoder, T5Decoder
from blip_space.models.family import Family
from blip_space.models.image_processor import ImageProcessor, load_image_processor, to_bytes, to_rgb
from blip_space.models.interface import Embedded, Precision, VisionLanguageModel, check_ids, merge_image_features
from blip_space.models.preparation import ImageFirstPreparation, Preparation, Prompt
from blip_space.models.tokenizer import Tokenizer, load_tokenizer, start_token, stop_tokens
from blip_space.models.transfer import pixels_to_device
from blip_space.options import GenerationOptions


@dataclass(frozen=True, eq=False)
class Blip2Preparation(ImageFirstPreparation):
    """The tokenizer and the image processor of one BLIP-2; an image takes `query_tokens` positions."""

    spec: ModelSpec
    tokenizer: Tokenizer
    image_processor: ImageProcessor
    query_tokens: int

    @property
    def resizes(self) -> tuple[Resize, ...]:
        """See `Preparation`; the second one is for the photo encoder, if there is one."""
        own = self.image_processor.resize
        return (own, photo_encoder.RESIZE) if self.spec.photo_encoder else (own,)

    def encode(self, text: str) -> list[int]:
        """See `Preparation`."""
        return self.tokenizer.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """See `Preparation`."""
        return self.tokenizer.decode(ids)

    def pixels(self, image: Image.Image, options: GenerationOptions) -> torch.Tensor:  # noqa: ARG002
        """The pixel values as bytes (1, 3, size, size), on the CPU. With a photo encoder (1, values): first those, then
        the pixel values for the photo encoder."""
        rgb = to_rgb(image)
        return self.pixels_of_resized([resize.apply(rgb) for resize in self.resizes])

    def pixels_of_resized(self, resized: Sequence[Image.Image]) -> torch.Tensor:
        """See `Preparation`."""
        parts = [to_bytes([image]) for image in resized]
        return parts[0] if len(parts) == 1 else torch.cat([part.flatten(1) for part in parts], dim=1)

    def normalize(self, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """See `Preparation`. The bytes for the photo encoder become floats, exactly in every type."""
        if not self.spec.photo_encoder:
            return self.image_processor.normalize(pixels, dtype)
        drawing, photo = self.split(pixels)
        return torch.cat([self.image_processor.normalize(drawing, dtype).flatten(1), photo.flatten(1).to(dtype)], dim=1)

    def split(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The pixel values (images, values) of the model's own vision encoder and those of the photo encoder, each
        (images, 3, size, size)."""
        side = self.image_processor.size
        drawing, photo = pixels[:, : 3 * side**2], pixels[:, 3 * side**2 :]
        return drawing.reshape(-1, 3, side, side), photo.reshape(-1, 3, photo_encoder.SIDE, photo_encoder.SIDE)


class Blip2(VisionLanguageModel):
    """A `Blip2ForConditionalGeneration` with its preparation."""

    preparation: Blip2Preparation

    def __init__(self, hf_model: Any, preparation: Preparation, *, precision: Precision) -> None:
        super().__init__(hf_model, preparation, precision=precision, stop=stop_tokens(hf_model))
        language_model = hf_model.language_model
        if language_model.config.is_encoder_decoder:
            self.decoder = T5Decoder(language_model)
            self._start: tuple[int, ...] = (start_token(language_model.generation_config),)
            check_ids(self._start, language_model.get_input_embeddings())
        else:
            builds_own_mask = language_model.config.model_type == "bloom"
            self.decoder = CausalDecoder(
                language_model.base_model, language_model.get_output_embeddings(), builds_own_mask=builds_own_mask
            )
            self._start = ()

    @property
    def features_shape(self) -> tuple[int, int]:
        """See `VisionLanguageModel`."""
        return self.preparation.query_tokens, self._hf_model.get_input_embeddings().weight.shape[1]

    def load_pixels(self, pixels: Sequence[Any]) -> torch.Tensor:
        """Pixel values (images, ...), from those of single images, each (1, ...)."""
        patches = self._hf_model.vision_model.embeddings.patch_embedding.weight
        batch: torch.Tensor = self.preparation.normalize(pixels_to_device(pixels, patches.device), patches.dtype)
        return batch

    @torch.inference_mode()
    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features (images, query_tokens, hidden)."""
        if self.photo_encoder is None:
            return self._encode(pixels)
        own, photo = self.preparation.split(pixels)
        return self.photo_encoder.replace_photographs(photo, self._encode(own))

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """The features by the model's own vision encoder, of pixel values (images, 3, size, size)."""
        hf_model = self._hf_model
        states = hf_model.vision_model(pixel_values=pixels, return_dict=True).last_hidden_state
        queried = hf_model.qformer(
            query_embeds=hf_model.query_tokens.expand(len(pixels), -1, -1),
            encoder_hidden_states=states,
            return_dict=True,
        ).last_hidden_state
        projection = hf_model.language_projection
        features: torch.Tensor = projection(queried.to(self._compute_dtype(projection)))
        return features.to(hf_model.get_input_embeddings().weight.dtype)

    @torch.inference_mode()
    def embed(self, prompt: Prompt, features: Sequence[torch.Tensor]) -> Embedded:
        """The embedded prompt: the features and then the text, at consecutive positions."""
        table, device = self._hf_model.get_input_embeddings(), self.decoder.device
        embeddings = merge_image_features(prompt, features, table, device=device)
        positions = torch.arange(len(embeddings), device=device)[None]
        return Embedded(embeddings, positions, len(embeddings), self._start)

    def _compute_dtype(self, layer: Any) -> torch.dtype:
        """The dtype that a layer computes in: its weight's, or the model's if the weight is quantized to integers."""
        stored: torch.dtype = layer.weight.dtype
        return stored if stored.is_floating_point else self.precision.dtype


def _load_preparation(spec: ModelSpec, folder: Path, config: Any) -> Blip2Preparation:
    tokenizer = load_tokenizer(folder, name=spec.name)
    image_processor = load_image_processor(folder, size=int(config.vision_config.image_size), name=spec.name)
    return Blip2Preparation(spec, tokenizer, image_processor, int(config.num_query_tokens))


def _model_class() -> type[Any]:
    from transformers import Blip2ForConditionalGeneration  # not needed to prepare a request

    return cast("type[Any]", Blip2ForConditionalGeneration)


FAMILY = Family(
    config_class=Blip2Config,
    model_class=_model_class,
    # transformers keeps T5's `wo` too: its products are too large for int8
    unquantized_modules=("vision_model", "qformer", "language_projection", "lm_head", "wo"),
    packed_modules=lambda hf_model: [hf_model.language_model, hf_model.qformer, hf_model.vision_model],
    lm_head_weights=("language_model.lm_head.weight",),
    language_model=lambda hf_model: hf_model.language_model,
    lm_head=lambda hf_model: hf_model.language_model.lm_head,
    load_preparation=_load_preparation,
    build=lambda hf_model, preparation, precision: Blip2(hf_model, preparation, precision=precision),
)
