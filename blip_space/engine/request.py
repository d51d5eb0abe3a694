"""One request: what is asked, how it is prepared, and the limits of the engine that takes it.

The place where a tokenizer's counts meet the rules of composing. Everything here runs on the thread that brings the
request. Must not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from blip_space import catalogue, languages
from blip_space.catalogue import ModelSpec
from blip_space.engine.pixel_cache import PixelCache
from blip_space.errors import UserError
from blip_space.history import Turn
from blip_space.images import ImageFile, SafeImage
from blip_space.options import ANSWER_LENGTH_PENALTY, GenerationOptions
from blip_space.prompts import STYLES, Composition, clean, compose, is_question


@dataclass(frozen=True)
class EngineConfig:
    """How much an engine takes on.

    `max_batch_size` streams and `max_beam_groups` beam searches run at once, and `max_rows` rows where that is not 0;
    `max_waiting` requests wait for that, and `max_background` of a batch or a folder. A step prefills
    `max_prefill_tokens` positions, which bounds how long the running streams pause for it. A stream that has generated
    `time_slice_tokens` since it was admitted is preempted where others wait. With `fill_share` above 0 requests are
    admitted only once so much of the batch is free, which saves passes where nobody watches. Timeouts are in seconds; a
    model that failed to load is tried again after `failure_seconds`, and a batch that memory made smaller grows again
    by one each `recovery_seconds`.
    """

    max_batch_size: int = 16
    max_beam_groups: int = 4
    max_rows: int = 0
    max_waiting: int = 32
    max_background: int = 64
    max_prefill_tokens: int = 512
    time_slice_tokens: int = 64
    fill_share: float = 0.0
    timeout_seconds: float = 300.0
    background_timeout_seconds: float = 1_800.0
    failure_seconds: float = 180.0
    recovery_seconds: float = 60.0
    image_feature_cache_bytes: int = 64_000_000
    pixel_cache_bytes: int = 64_000_000


class Counting(Protocol):
    """What composing needs of a model, with or without its weights; `query_tokens` is how many positions the image
    takes."""

    @property
    def spec(self) -> ModelSpec: ...
    @property
    def query_tokens(self) -> int: ...
    def encode(self, text: str) -> Sequence[int]: ...


class Preparing(Counting, Protocol):
    """What preparing needs of a model: see `model.preparation`."""

    def pixels(self, pictures: Sequence[Any]) -> Any: ...


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
    """A request in the model's own form: token ids and pixel values, of which it holds the one copy.

    `digest` is the image's. `continues_conversation` says that there were earlier turns, whose keys and values may be
    cached.
    """

    spec: ModelSpec
    ids: tuple[int, ...]
    digest: str
    pixels: Any
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


def prepare(request: Request, preparation: Preparing, pixels: PixelCache) -> PreparedRequest:
    """Compose, tokenise and resize, each once; an image that is kept in `pixels` is not decoded again. `UserError`
    where the request cannot be answered."""
    options = request.options
    prompt = compose_prompt(
        preparation,
        prompt=request.prompt,
        language=request.language,
        turns=request.turns,
        max_new_tokens=options.max_new_tokens,
    )
    image, spec = request.image, preparation.spec

    def make() -> Any:
        with image.opened() as opened:
            return preparation.pixels([opened.pixels])

    return PreparedRequest(
        spec,
        tuple(prompt.ids),
        image.digest,
        pixels.get_or_make((spec.name, image.digest), make),
        decoding_options(options, request.prompt),
        continues_conversation=bool(request.turns),
        background=request.background,
    )


def decoding_options(options: GenerationOptions, prompt: str) -> GenerationOptions:
    """The options with the originals' length penalty for a beam search: short answers to questions, captions as they
    come."""
    if options.quality == "best" and is_question(clean(prompt)):
        return replace(options, length_penalty=ANSWER_LENGTH_PENALTY)
    return options


def refuse_foreign(spec: ModelSpec, code: str) -> None:
    """`UserError` that names models which support the language, where this one does not or there is none such."""
    language = languages.find(code)
    if code in spec.languages:
        return
    speakers = " and ".join(catalogue.speakers(code))
    spoken = languages.listed(spec.languages) if len(spec.languages) <= 12 else f"{len(spec.languages)} other languages"
    raise UserError(
        f"{spec.name} does not speak {language.english_name}; it speaks {spoken}. "
        f"Choose one of those, or a model that speaks {language.english_name}: {speakers}."
    )


def compose_prompt(
    model: Counting, *, prompt: str, language: str, turns: Sequence[Turn], max_new_tokens: int
) -> Composition:
    """The prompt that the model is sent, within its window, in a language that it supports (`refuse_foreign`)."""
    return compose(
        turns,
        prompt,
        style=STYLES[model.spec.style],
        language=languages.LANGUAGES[language],
        budget_tokens=model.spec.context_tokens - model.query_tokens - _reply_tokens(model, max_new_tokens),
        tokenize=model.encode,
    )


def measure_budget(
    model: Counting, *, prompt: str, language: str, turns: Sequence[Turn], max_new_tokens: int
) -> Budget:
    """How the same prompt fills the window."""
    composed = compose_prompt(model, prompt=prompt, language=language, turns=turns, max_new_tokens=max_new_tokens)
    reply_tokens = _reply_tokens(model, max_new_tokens)
    return Budget(
        context_tokens=model.spec.context_tokens,
        used_tokens=model.query_tokens + composed.tokens + reply_tokens,
        image_tokens=model.query_tokens,
        prompt_tokens=composed.tokens,
        reply_tokens=reply_tokens,
        kept_turns=len(composed.kept),
        dropped_turns=len(composed.dropped),
        prompt=composed.text,
    )


def _reply_tokens(model: Counting, max_new_tokens: int) -> int:
    return max_new_tokens if model.spec.decoder_only else 0
