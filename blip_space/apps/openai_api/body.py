"""The body of a chat completion: its form, checked by pydantic, and which of the protocol's parameters are supported.

What would change an answer and is not supported is refused; what would not, such as `user`, is ignored, as are unknown
parameters. The only importer of pydantic. Depends on the decoding options; must not import the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blip_space import options
from blip_space.apps.openai_api.statuses import ParameterError
from blip_space.catalogue import ModelSpec
from blip_space.errors import UserError
from blip_space.options import GenerationOptions

MAX_STOPS = 4
MAX_STOP_CHARACTERS = 100

NO_JSON = "The body is not valid JSON in UTF-8. Send an object with model and messages."
LEAVE_OUT = "{} is not supported here. Leave it out."


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class ImageUrl(_Strict):
    """An image of a message."""

    url: str


class Part(_Strict):
    """A part of a message: its text or its image."""

    type: str
    text: str | None = None
    image_url: ImageUrl | str | None = None


class Message(_Strict):
    """A message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part | str] | None = None


class StreamOptions(_Strict):
    """What a stream has beside its text."""

    include_usage: bool | None = None


class ChatBody(_Strict):
    """The body of a chat completion. None is the default, as if the parameter were not there."""

    messages: Annotated[list[Message], Field(min_length=1)]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    language: str | None = None
    quality: str | None = None
    repetition_penalty: float | None = None

    n: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: bool | None = None
    logit_bias: dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None
    audio: Any = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None

    def generation_options(self, spec: ModelSpec) -> GenerationOptions:
        """The decoding options for a model. Raises `UserError` for a value out of range."""
        values = {
            "max_new_tokens": self._max_new_tokens(spec),
            "temperature": self._temperature(),
            "top_p": None if self.top_p is None else max(self.top_p, options.RANGES["top_p"].low),
            "seed": None if self.seed is None else self.seed % 2**32,
            "quality": self.quality,
            "repetition_penalty": self.repetition_penalty,
        }
        checked = options.check(**{name: value for name, value in values.items() if value is not None})
        return replace(checked, stops=self._stops())

    def _max_new_tokens(self, spec: ModelSpec) -> int | None:
        """What is asked for, or the most that the model generates, since clients ask for thousands."""
        name = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        asked = getattr(self, name)
        if asked is None:
            return None
        if asked < 1:
            raise ParameterError(name, f"{name} must be at least 1.")
        return min(int(asked), max_reply_tokens(spec))

    def _temperature(self) -> float | None:
        """Clients write greedy decoding as a very low temperature, too."""
        low = self.temperature is not None and 0 < self.temperature < options.MIN_TEMPERATURE
        return 0.0 if low else self.temperature

    def _stops(self) -> tuple[str, ...]:
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stops) > MAX_STOPS or not all(0 < len(stop) <= MAX_STOP_CHARACTERS for stop in stops):
            limits = f"at most {MAX_STOPS} strings of 1 to {MAX_STOP_CHARACTERS} characters"
            raise ParameterError("stop", f"stop must be {limits}.")
        return tuple(stops)


_SUPPORTED: dict[str, Callable[[Any], bool]] = {
    "n": lambda value: value == 1,
    "frequency_penalty": lambda value: value == 0,
    "presence_penalty": lambda value: value == 0,
    "logprobs": lambda value: not value,
    "logit_bias": lambda value: not value,
    "response_format": lambda value: value.get("type") == "text",
    "modalities": lambda value: value == ["text"],
    "audio": lambda value: not value,
    "tools": lambda value: not value,
    "functions": lambda value: not value,
}
"""Parameters that only have a value of no effect."""


def parse_body(data: bytes) -> ChatBody:
    """The body of a request. Raises `UserError` with a sentence for the first thing that is wrong."""
    try:
        body = ChatBody.model_validate_json(data)
    except ValidationError as error:
        raise _as_user_error(error) from None
    for name, is_supported in _SUPPORTED.items():
        value = getattr(body, name)
        if value is not None and not is_supported(value):
            hint = " Use repetition_penalty instead." if name.endswith("_penalty") else ""
            raise ParameterError(name, LEAVE_OUT.format(name) + hint)
    return body


def max_reply_tokens(spec: ModelSpec) -> int:
    """The most tokens of a reply: of a decoder-only model half of its window, which also has the image and the
    prompt."""
    limit = int(options.RANGES["max_new_tokens"].high)
    return min(limit, spec.context_tokens // 2) if spec.decoder_only else limit


def _as_user_error(error: ValidationError) -> UserError:
    first = error.errors(include_url=False, include_context=True, include_input=False)[0]
    parameter = _parameter(first["loc"])
    if first["type"] == "json_invalid" or not parameter:
        return UserError(NO_JSON)
    if first["type"] == "missing":
        return ParameterError(parameter, f"{parameter} is missing.")
    if first["type"] == "too_short":
        return ParameterError(parameter, f"{parameter} is empty. Send at least one message of the user.")
    if first["type"] == "literal_error":
        return ParameterError(parameter, f"{parameter} must be {first['ctx']['expected']}.")
    return ParameterError(parameter, f"{parameter} has a value of the wrong type.")


_NAMES = {name for model in (ChatBody, Message, Part, ImageUrl, StreamOptions) for name in model.model_fields}


def _parameter(location: tuple[str | int, ...]) -> str:
    """Where in the body an error is, such as `messages[0].content`, without pydantic's names of types."""
    text = ""
    for step in location:
        if isinstance(step, str) and step not in _NAMES:
            break
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
