"""Settings that have an environment variable and no option: switches, and the key of remote models' servers.

Depends on errors and single settings only.
"""

from __future__ import annotations

import os

from blip_space.errors import UserError, quote
from blip_space.settings.values import Value


def fixed_slots() -> bool | None:
    """Whether to decode in fixed slots; None to decide by the device. It is for comparing the two ways, so it has a
    variable and no option. `UserError` for a value other than 0 and 1."""
    return parse_switch(from_environment("BLIP_SPACE_SLOTS"))


def step_graphs() -> bool:
    """Whether decode steps may be CUDA graphs, which is so by default. `UserError` for a value other than 0 and 1."""
    return parse_switch(from_environment("BLIP_SPACE_GRAPHS")) is not False


def engine_process() -> bool | None:
    """Whether a server's engine runs in a process of its own; None to decide by the device. `UserError` for a value
    other than 0 and 1."""
    return parse_switch(from_environment("BLIP_SPACE_PROCESS"))


def fused_steps() -> bool:
    """Whether graphs may be of fused steps, which is so by default. `UserError` for a value other than 0 and 1."""
    return parse_switch(from_environment("BLIP_SPACE_FUSED")) is not False


def photo_encoder() -> bool:
    """Whether a model may use its photo encoder, which is so by default; without it, a model such as tiny is plain
    BLIP-2. `UserError` for a value other than 0 and 1."""
    return parse_switch(from_environment("BLIP_SPACE_PHOTO_ENCODER")) is not False


def openai_key() -> str:
    """The key that is sent to the servers of remote models; empty for none."""
    value = from_environment("BLIP_SPACE_OPENAI_KEY")
    if value and not (value.text.isascii() and value.text.isprintable() and " " not in value.text):
        raise UserError(f"{value.origin} has characters that no key has. Set it again, without spaces.")
    return value.text if value else ""


def from_environment(name: str) -> Value | None:
    """The value of an environment variable; None if it is not set or is white space."""
    text = os.environ.get(name, "").strip()
    return Value(text, name) if text else None


def parse_switch(value: Value | None) -> bool | None:
    """True for 1, False for 0, None without a value; `UserError` for any other value."""
    if value and value.text not in ("0", "1"):
        raise UserError(f"{value.origin} is {quote(value.text)}; it must be 0 or 1.")
    return value.text == "1" if value else None
