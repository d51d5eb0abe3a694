"""Requests: what a user asks, how a request is prepared, and the limits of the engine.

Everything here runs on the caller's thread, before the request is queued. Must not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from blip_space import catalogue, languages
from blip_space.callers import UNKNOWN, Caller, current_caller
from blip_space.catalogue import ModelSpec
from blip_space.engine.pixel_cache import PixelCache
from blip_space.errors import UserError
from blip_space.history import Turn
from blip_space.images import ImageFile, SafeImage
from blip_space.models.preparation import ImageInfo, Preparation, Prompt
from blip_space.options import ANSWER_LENGTH_PENALTY, GenerationOptions
from blip_space.prompts import clean, is_question
from blip_space.settings import fixed_slots, fused_steps, step_graphs

CPU_BATCH_SIZE, GPU_BATCH_SIZE = 16, 64
"""The default of `EngineConfig.max_batch_size` on a processor and until a model is loaded, and the highest on a GPU."""

CPU_PREFILL_TOKENS = 512
"""The default of `EngineConfig.max_prefill_tokens` on a processor."""


@dataclass(frozen=True)
class EngineConfig:
    """The limits of an engine.

    At most `max_batch_size` streams and `max_beam_groups` beam searches run at once, in at most `max_rows` rows unless
    that is 0. At most `max_waiting` requests of users and `max_background` of batches wait. A step prefills about
    `max_prefill_tokens` positions, which bounds the pause of running streams. For all of these but `max_rows`, 0 lets
    the device decide once a model is loaded; see `resolve`. A stream that has generated `time_slice_tokens` since it
    was admitted is preempted if others wait. Without `streams` no user reads an answer before its end or asks on:
    only finished answers have text, their keys and values are not cached, and a step that prefills does not decode. If
    `min_free_share` is above 0, the batch is filled once that share of it is free, which saves forward passes. Timeouts
    are in seconds; a model that failed to load is loaded again after `failure_seconds`. A batch that was reduced after
    memory ran out grows after every `recovery_steps` steps that others wait for, and after `recovery_seconds` the
    number of rows that failed is tried again. `slots` is whether rows have fixed slots; None, the
    default without the environment variable, lets the device decide. `graphs` is whether steps over slots may be CUDA
    graphs, and `fused` whether these may be of fused steps.
    """

    max_batch_size: int = 0
    max_beam_groups: int = 0
    max_rows: int = 0
    max_waiting: int = 0
    max_background: int = 0
    max_prefill_tokens: int = 0
    time_slice_tokens: int = 64
    streams: bool = True
    min_free_share: float = 0.0
    timeout_seconds: float = 300.0
    background_timeout_seconds: float = 1_800.0
    failure_seconds: float = 180.0
    recovery_steps: int = 32
    recovery_seconds: float = 60.0
    slots: bool | None = field(default_factory=fixed_slots)
    graphs: bool = field(default_factory=step_graphs)
    fused: bool = field(default_factory=fused_steps)
    image_feature_cache_bytes: int = 64_000_000
    pixel_cache_bytes: int = 64_000_000

    def resolve(self, batch_size: int = CPU_BATCH_SIZE, prefill_tokens: int = CPU_PREFILL_TOKENS) -> EngineConfig:
        """The same with a number for every limit that is 0; the arguments are those of the device."""
        size = self.max_batch_size or batch_size
        return replace(
            self,
            max_batch_size=size,
            max_beam_groups=self.max_beam_groups or max(4, size // 4),
            max_waiting=self.max_waiting or max(32, 2 * size),
            max_background=self.max_background or max(64, 4 * size),
            max_prefill_tokens=self.max_prefill_tokens or prefill_tokens,
        )


@dataclass(frozen=True)
class Request:
    """An image, a prompt (empty for a caption), earlier turns, and generation options.

    `model` is a name that the server offers, or empty for its default. A `background` request waits for all others.
    `caller`, by default that of the current event, decides whose request is next.
    """

    image: SafeImage | ImageFile
    prompt: str = ""
    language: str = "en"
    turns: tuple[Turn, ...] = ()
    model: str = ""
    options: GenerationOptions = field(default_factory=GenerationOptions)
    background: bool = False
    caller: Caller = field(default_factory=current_caller.get)


@dataclass(frozen=True, eq=False)
class PreparedRequest:
    """A request in the form that the model takes: the prompt, and the pixel values of its images.

    `continues_conversation` is whether there are earlier turns, whose keys and values may be cached.
    """

    spec: ModelSpec
    prompt: Prompt
    pixels: tuple[Any, ...]
    options: GenerationOptions
    continues_conversation: bool = False
    background: bool = False
    caller: Caller = UNKNOWN


@dataclass(frozen=True)
class Budget:
    """How a prompt fills the context window, in tokens, and how many turns fit. `reply_tokens` is 0 if the reply has
    its own window (encoder-decoder models). `prompt` is the composed text. `note` is a sentence about numbers that are
    estimates, as a remote model's are; else empty."""

    context_tokens: int
    used_tokens: int
    image_tokens: int
    prompt_tokens: int
    reply_tokens: int
    kept_turns: int
    dropped_turns: int
    prompt: str
    note: str = ""


def prepare(request: Request, preparation: Preparation, pixels: PixelCache) -> PreparedRequest:
    """Compose the prompt, tokenise it and resize the image, each once. An image whose pixel values are in `pixels` is
    not decoded again. Raises `UserError` if the request is invalid."""
    image, options = request.image, request.options
    pixels_key = preparation.spec.name, preparation.feature_key(image.digest, options)

    def open_and_prepare() -> PreparedImage:
        with image.open(preparation.resizes) as opened:
            if opened.resized:
                return PreparedImage(preparation.pixels_of_resized(opened.resized), *opened.size)
            return prepare_image(opened.pixels, preparation, options)

    def prepared_image() -> PreparedImage:
        prepared: PreparedImage = pixels.get_or_compute(pixels_key, open_and_prepare)
        return prepared

    # a prompt that does not fit is rejected before the image is decoded, unless its length depends on the image
    size = (0, 0)
    if preparation.positions_depend_on_size:
        size = (prepared_image().width, prepared_image().height)
    prompt = preparation.prepare(
        [ImageInfo(image.digest, *size)], request.turns, request.prompt, language=request.language, options=options
    )
    return PreparedRequest(
        preparation.spec,
        prompt,
        (prepared_image().pixels,),
        decoding_options(options, request.prompt),
        continues_conversation=bool(request.turns),
        background=request.background,
        caller=request.caller,
    )


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image's pixel values, and its original size in pixels."""

    pixels: Any
    width: int
    height: int

    @property
    def nbytes(self) -> int:
        """The size of the pixel values, in bytes."""
        return int(self.pixels.nbytes)


def prepare_image(image: Any, preparation: Preparation, options: GenerationOptions) -> PreparedImage:
    """Resize and normalise a `PIL.Image` as the model requires."""
    return PreparedImage(preparation.pixels(image, options), image.width, image.height)


def decoding_options(options: GenerationOptions, prompt: str) -> GenerationOptions:
    """The options, with the original models' length penalty for beam search on a question: it favours short answers."""
    if options.quality == "best" and is_question(clean(prompt)):
        return replace(options, length_penalty=ANSWER_LENGTH_PENALTY)
    return options


def check_language(spec: ModelSpec, code: str) -> None:
    """Raise `UserError`, with the models that support the language, if it is unknown or `spec` does not support it."""
    language = languages.find_language(code).english_name
    if code in spec.languages:
        return
    models = " and ".join(catalogue.models_supporting(code))
    count = len(spec.languages)
    supported = languages.format_names(spec.languages) if count <= 12 else f"{count} other languages"
    raise UserError(
        f"{spec.name} does not support {language}; it supports {supported}. "
        f"Choose one of those, or a model that supports {language}: {models}.",
        code="unsupported_language",
        detail="named",
        values={"model": spec.name, "language": code},
    )


def measure_budget(
    preparation: Preparation, *, prompt: str, language: str, turns: Sequence[Turn], max_new_tokens: int
) -> Budget:
    """How a prompt with an image of unknown size fills the model's context window."""
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
