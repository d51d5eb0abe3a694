"""One request: what is asked, how it is prepared, and the limits of the engine that takes it.

The place where a tokenizer's counts meet the rules of composing. Everything here runs on the thread that brings the
request. Must not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from blip_space import catalogue, languages
from blip_space.catalogue import ModelSpec
from blip_space.engine.pixel_cache import PixelCache
from blip_space.errors import UserError
from blip_space.history import Turn
from blip_space.images import ImageFile, SafeImage
from blip_space.models.preparation import ImageInfo, Preparation, Prompt
from blip_space.options import ANSWER_LENGTH_PENALTY, GenerationOptions
from blip_space.prompts import clean, is_question
from blip_space.settings import fixed_slots


@dataclass(frozen=True)
class EngineConfig:
    """How much an engine takes on.

    `max_batch_size` streams and `max_beam_groups` beam searches run at once, and `max_rows` rows where that is not 0;
    `max_waiting` requests wait for that, and `max_background` of a batch or a folder. A step prefills
    `max_prefill_tokens` positions, which bounds how long the running streams pause for it. A stream that has generated
    `time_slice_tokens` since it was admitted is preempted where others wait. With `min_free_share` above 0 requests are
    admitted only once so much of the batch is free, which saves passes where nobody watches. Timeouts are in seconds; a
    model that failed to load is tried again after `failure_seconds`, and a batch that memory made smaller grows again
    by one each `recovery_seconds`. `slots` says whether rows have fixed slots; where it is None, as it is
    unless the environment says otherwise, the device decides.
    """

    max_batch_size: int = 16
    max_beam_groups: int = 4
    max_rows: int = 0
    max_waiting: int = 32
    max_background: int = 64
    max_prefill_tokens: int = 512
    time_slice_tokens: int = 64
    min_free_share: float = 0.0
    timeout_seconds: float = 300.0
    background_timeout_seconds: float = 1_800.0
    failure_seconds: float = 180.0
    recovery_seconds: float = 60.0
    slots: bool | None = field(default_factory=fixed_slots)
    image_feature_cache_bytes: int = 64_000_000
    pixel_cache_bytes: int = 64_000_000


@dataclass(frozen=True)
class Request:
    """What one user asks: an image, a prompt (an empty one asks for a caption), earlier turns, and how to answer.

    `model` is a name among those that the server offers; empty means its default. `background` requests wait for all
    others.
    """

    image: SafeImage | ImageFile
    prompt: str = ""
    language: str = "en"
    turns: tuple[Turn, ...] = ()
    model: str = ""
    options: GenerationOptions = field(default_factory=GenerationOptions)
    background: bool = False


@dataclass(frozen=True, eq=False)
class PreparedRequest:
    """A request in the model's own form: the prompt, and the pixel values of each of its images, of which it holds the
    one copy.

    `continues_conversation` says that there were earlier turns, whose keys and values may be cached.
    """

    spec: ModelSpec
    prompt: Prompt
    pixels: tuple[Any, ...]
    options: GenerationOptions
    continues_conversation: bool = False
    background: bool = False


@dataclass(frozen=True)
class Budget:
    """How a prompt fills the window, in tokens, and how many turns are in it. `reply_tokens` is 0 where the reply has
    a window of its own (encoder-decoder models)."""

    context_tokens: int
    used_tokens: int
    image_tokens: int
    prompt_tokens: int
    reply_tokens: int
    kept_turns: int
    dropped_turns: int
    prompt: str


def prepare(request: Request, preparation: Preparation, pixels: PixelCache) -> PreparedRequest:
    """Compose, tokenise and resize, each once; an image that is kept in `pixels` is not decoded again. `UserError`
    where the request cannot be answered."""
    image, options = request.image, request.options
    pixels_key = preparation.spec.name, preparation.feature_key(image.digest, options)

    def resized() -> PreparedImage:
        kept: PreparedImage = pixels.get_or_compute(pixels_key, lambda: _resize(image, preparation, options))
        return kept

    # a prompt that does not fit is refused before the image is decoded, where that can be known
    size = (resized().width, resized().height) if preparation.positions_depend_on_size else (0, 0)
    prompt = preparation.prepare(
        [ImageInfo(image.digest, *size)], request.turns, request.prompt, language=request.language, options=options
    )
    return PreparedRequest(
        preparation.spec,
        prompt,
        (resized().pixels,),
        decoding_options(options, request.prompt),
        continues_conversation=bool(request.turns),
        background=request.background,
    )


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image's pixel values, and the size that it had before in pixels."""

    pixels: Any
    width: int
    height: int

    @property
    def nbytes(self) -> int:
        """The size of the pixel values, in bytes."""
        return int(self.pixels.nbytes)


def prepare_image(image: Any, preparation: Preparation, options: GenerationOptions) -> PreparedImage:
    """A `PIL.Image` as the model takes it."""
    return PreparedImage(preparation.pixels(image, options), image.width, image.height)


def _resize(image: SafeImage | ImageFile, preparation: Preparation, options: GenerationOptions) -> PreparedImage:
    with image.open() as opened:
        return prepare_image(opened.pixels, preparation, options)


def decoding_options(options: GenerationOptions, prompt: str) -> GenerationOptions:
    """The options with the originals' length penalty for a beam search: short answers to questions, captions as they
    come."""
    if options.quality == "best" and is_question(clean(prompt)):
        return replace(options, length_penalty=ANSWER_LENGTH_PENALTY)
    return options


def check_language(spec: ModelSpec, code: str) -> None:
    """`UserError` that names models which support the language, where this one does not or there is none such."""
    language = languages.find_language(code)
    if code in spec.languages:
        return
    speakers = " and ".join(catalogue.models_supporting(code))
    spoken = (
        languages.format_names(spec.languages)
        if len(spec.languages) <= 12
        else f"{len(spec.languages)} other languages"
    )
    raise UserError(
        f"{spec.name} does not speak {language.english_name}; it speaks {spoken}. "
        f"Choose one of those, or a model that speaks {language.english_name}: {speakers}."
    )


def measure_budget(
    preparation: Preparation, *, prompt: str, language: str, turns: Sequence[Turn], max_new_tokens: int
) -> Budget:
    """How the same prompt fills the window, with an image of a size that is not known."""
    options, spec = GenerationOptions(max_new_tokens=max_new_tokens), preparation.spec
    composed = preparation.prepare([ImageInfo()], turns, prompt, language=language, options=options)
    reply_tokens = max_new_tokens if spec.decoder_only else 0
    return Budget(
        context_tokens=spec.context_tokens,
        used_tokens=len(composed) + reply_tokens,
        image_tokens=composed.image_positions,
        prompt_tokens=len(composed) - composed.image_positions,
        reply_tokens=reply_tokens,
        kept_turns=len(composed.kept_turns),
        dropped_turns=len(composed.dropped_turns),
        prompt=composed.text,
    )
