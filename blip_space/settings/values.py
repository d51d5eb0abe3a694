"""A setting as text, with what has set it, so that an error can say where a wrong value comes from.

Depends on errors only.
"""

from __future__ import annotations

from dataclasses import dataclass

from blip_space.errors import UserError, quote

MAX_DIGITS = 20


@dataclass(frozen=True)
class Value:
    """A setting as text; `origin` is the command-line option or the environment variable that set it."""

    text: str
    origin: str

    def number(self, maximum: int, *, minimum: int = 1) -> int:
        """The text as an integer. Raises `UserError` unless it is one from `minimum`, 0 or 1, to `maximum`."""
        number = 0 if minimum == 0 and self.text == "0" else parse_integer(self.text, maximum)
        if number is None:
            raise UserError(
                f"{self.origin} is {quote(self.text)}; it must be a whole number from {minimum} to {maximum}."
            )
        return number


def parse_integer(text: str, maximum: int) -> int | None:
    """The integer from 1 to `maximum`; None for any other text."""
    is_plain = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
    return int(text) if is_plain and 0 < int(text) <= maximum else None
