"""One request, and the prompt and budget that a model has for it.

The place where a model's counts meet the rules of composing. Knows no tensor, no thread and no page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from blip_space import catalogue, languages
from blip_space.catalogue import ModelSpec
from blip_space.errors import UserError
from blip_space.images import SafeImage
from blip_space.options import ANSWER_LENGTH_PENALTY, GenerationOptions
from blip_space.prompts import STYLES, Composition, Turn, clean, compose, is_question


class Counting(Protocol):
    """What composing needs of a model. `query_tokens` is how many positions the image takes."""

    @property
    def spec(self) -> ModelSpec: ...
    @property
    def query_tokens(self) -> int: ...
    def count_tokens(self, text: str) -> int: ...


@dataclass(frozen=True)
class Request:
    """What one visitor asks: a picture, words (none asks for a caption), earlier turns, and how to answer.

    `model` is a name among those that the server offers; empty means its default. Visitors come before a `guest`.
    """

    image: SafeImage
    prompt: str = ""
    language: str = "en"
    turns: tuple[Turn, ...] = ()
    model: str = ""
    options: GenerationOptions = field(default_factory=GenerationOptions)
    guest: bool = False


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


def refuse_foreign(spec: ModelSpec, code: str) -> None:
    """`UserError` that names who speaks the language, when there is no such language or the model does not speak it."""
    language = languages.find(code)
    if code in spec.languages:
        return
    speakers = " and ".join(catalogue.speakers(code))
    spoken = languages.listed(spec.languages) if len(spec.languages) <= 12 else f"{len(spec.languages)} other languages"
    raise UserError(
        f"{spec.name} does not speak {language.english_name}; it speaks {spoken}. "
        f"Choose one of those, or a model that speaks {language.english_name}: {speakers}."
    )


def search_options(request: Request) -> GenerationOptions:
    """The request's options with the originals' length penalty: short answers to questions, captions as they come."""
    if not is_question(clean(request.prompt)):
        return request.options
    return replace(request.options, length_penalty=ANSWER_LENGTH_PENALTY)


def composed(model: Counting, *, prompt: str, language: str, turns: Sequence[Turn], max_new_tokens: int) -> Composition:
    """The prompt that the model is sent, within its window."""
    refuse_foreign(model.spec, language)
    return compose(
        turns,
        prompt,
        style=STYLES[model.spec.style],
        language=languages.find(language),
        budget_tokens=model.spec.context_tokens - model.query_tokens - _reply_tokens(model, max_new_tokens),
        tokenize=lambda text: range(model.count_tokens(text)),
    )


def measured(model: Counting, *, prompt: str, language: str, turns: Sequence[Turn], max_new_tokens: int) -> Budget:
    """How the same prompt fills the window."""
    made = composed(model, prompt=prompt, language=language, turns=turns, max_new_tokens=max_new_tokens)
    reply_tokens = _reply_tokens(model, max_new_tokens)
    return Budget(
        context_tokens=model.spec.context_tokens,
        used_tokens=model.query_tokens + made.tokens + reply_tokens,
        image_tokens=model.query_tokens,
        prompt_tokens=made.tokens,
        reply_tokens=reply_tokens,
        kept_turns=len(made.kept),
        dropped_turns=len(made.dropped),
        prompt=made.text,
    )


def _reply_tokens(model: Counting, max_new_tokens: int) -> int:
    return max_new_tokens if model.spec.decoder_only else 0
