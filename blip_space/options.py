"""How an answer is written: one frozen object, its limits, and the presets of the originals.

Knows names, ranges and contradictions; knows nothing of torch or of how a token is chosen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from blip_space.errors import UserError, quote

Quality = Literal["stream", "best"]


@dataclass(frozen=True)
class Range:
    """The values that a number may have, both ends included."""

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
    """One request's decoding.

    `temperature` 0 takes the likeliest token each time; above it samples from the `top_p` nucleus, the same for the
    same `seed`. `quality` `best` searches with `num_beams` beams and `length_penalty`, and cannot stream.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0
    quality: Quality = "stream"
    num_beams: int = 5
    length_penalty: float = 1.0


LARGEST_SHOWN = 1e100
"""Larger numbers are not repeated in a sentence."""

ANSWER_LENGTH_PENALTY = -1.0
"""Favours short answers: LAVIS for T5 and mBLIP's evaluation, both for visual question answering."""

CAPTION = GenerationOptions(max_new_tokens=50, quality="best", length_penalty=1.0)
"""mBLIP's captioning: 5 beams, up to 50 new tokens, length penalty 1."""


def check(**values: Any) -> GenerationOptions:
    """The options that these values ask for; `UserError` for a name, a type or a number that makes no sense."""
    known = {*RANGES, "quality"}
    if unknown := sorted(set(values) - known):
        raise UserError(f"There is no setting {unknown[0]!r}. The settings are {', '.join(sorted(known))}.")
    if (quality := values.get("quality", "stream")) not in get_args(Quality):
        raise UserError(f"quality is {quote(quality)}; it must be 'stream' or 'best'.")
    checked: dict[str, Any] = {
        name: _number(name, value) if name in RANGES else value for name, value in values.items()
    }
    return _agreed(GenerationOptions(**checked))


LEAST_TEMPERATURE = 0.01
"""Divided by less, a language model's numbers grow beyond what a sum of their powers holds."""


def _agreed(options: GenerationOptions) -> GenerationOptions:
    if 0 < options.temperature < LEAST_TEMPERATURE:
        raise UserError(f"temperature must be 0, which takes the likeliest token, or from {LEAST_TEMPERATURE} to 2.")
    if options.quality == "best" and options.temperature > 0:
        raise UserError("quality 'best' searches and does not sample. Set temperature to 0, or quality to 'stream'.")
    return options


def _number(name: str, value: Any) -> float | int:
    limits = RANGES[name]
    kind = "a whole number" if limits.is_integer else "a number"
    allowed = f"{name} must be {kind} from {limits.low:g} to {limits.high:.10g}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{allowed}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{allowed}.")
    if not limits.low <= value <= limits.high or (limits.is_integer and value != int(value)):
        # a whole number may be too long for a float, and then for a sentence as well
        shown = f"{value:.10g}" if abs(value) <= LARGEST_SHOWN else "a number so far beyond it"
        raise UserError(f"{allowed}, and {shown} is not.")
    return int(value) if limits.is_integer else float(value)
