"""Decoding options: one frozen dataclass, the allowed ranges, and the defaults of the original models.

Depends on names and numbers only; must not import torch or the sampler.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from blip_space.errors import UserError, quote

Quality = Literal["stream", "best"]


@dataclass(frozen=True)
class Range:
    """The allowed values of a number, both ends included."""

    low: float
    high: float
    is_integer: bool = False


RANGES: dict[str, Range] = {
    "max_new_tokens": Range(1, 512, is_integer=True),
    "temperature": Range(0.0, 2.0),
    "top_p": Range(0.01, 1.0),
    "repetition_penalty": Range(1.0, 2.0),
    "seed": Range(0, 2**32 - 1, is_integer=True),
}


@dataclass(frozen=True)
class GenerationOptions:
    """The decoding options of one request.

    `temperature` 0 is greedy; above 0 tokens are sampled from the `top_p` nucleus, and the same `seed` gives the same
    answer. `quality` `best` is beam search with `num_beams` beams and `length_penalty`, and cannot stream. The text
    ends before the first of the strings in `stops`.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0
    quality: Quality = "stream"
    num_beams: int = 5
    length_penalty: float = 1.0
    stops: tuple[str, ...] = ()


MAX_PRINTED = 1e100
"""Larger numbers are not printed in an error message."""

MIN_TEMPERATURE = 0.01
"""The lowest temperature for sampling. Logits divided by a lower one overflow in the softmax."""

ANSWER_LENGTH_PENALTY = -1.0
"""Favours short answers. Source: visual question answering in LAVIS (T5) and in mBLIP's evaluation."""

CAPTION = GenerationOptions(max_new_tokens=50, quality="best", length_penalty=1.0)
"""mBLIP's captioning: 5 beams, up to 50 new tokens, length penalty 1."""


def check(**values: Any) -> GenerationOptions:
    """The options with these values. Raises `UserError` for an unknown name, a wrong type or a value out of range."""
    names = {*RANGES, "quality"}
    if unknown := sorted(set(values) - names):
        raise UserError(f"There is no setting {unknown[0]!r}. The settings are {', '.join(sorted(names))}.")
    if (quality := values.get("quality", "stream")) not in get_args(Quality):
        raise UserError(f"quality is {quote(quality)}; it must be 'stream' or 'best'.")
    checked: dict[str, Any] = {
        name: _check_number(name, value) if name in RANGES else value for name, value in values.items()
    }
    options = GenerationOptions(**checked)
    if 0 < options.temperature < MIN_TEMPERATURE:
        raise UserError(f"temperature must be 0, which is greedy decoding, or from {MIN_TEMPERATURE} to 2.")
    if options.quality == "best" and options.temperature > 0:
        raise UserError(
            "quality 'best' is beam search, which does not sample. Set temperature to 0, or quality to 'stream'."
        )
    return options


def _check_number(name: str, value: Any) -> float | int:
    limits = RANGES[name]
    kind = "a whole number" if limits.is_integer else "a number"
    allowed = f"{name} must be {kind} from {limits.low:g} to {limits.high:.10g}"
    is_number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    if isinstance(value, bool) or not is_number:
        raise UserError(f"{allowed}.")
    if not limits.low <= value <= limits.high or (limits.is_integer and value != int(value)):
        # an integer may be too long to convert to a float, and too long for a message
        is_printable = abs(value) <= MAX_PRINTED
        rest = f", and {value:.10g} is not" if is_printable else "; the given number is far outside this range"
        raise UserError(f"{allowed}{rest}.")
    return int(value) if limits.is_integer else float(value)
