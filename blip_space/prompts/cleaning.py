"""Text as it is put into a prompt: without control characters, and whether it asks or says anything at all.

Depends on Unicode only. Must not import a language or a template.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

SPACES = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]{2,}|[^\S ]|[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""White space and control characters (of the categories Cc, Cs, Zl and Zp), except a single plain space."""

UNPRINTABLE = re.compile(r"[^\S \n\t]|[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""One white-space or control character, except a space, a line feed or a tab."""

QUESTION_MARKS = "?？؟⁇⁈፧՞;;꘏⸮"
"""Question marks of all supported scripts; Greek has a semicolon (U+037E or the plain one)."""

CLOSERS = "\"'”’»」』)]） "

SPARE_CHARACTERS = 20
"""How much more than its limit is read of a text at first, for the white space in it."""


def clean(text: str) -> str:
    """The text with every run of white space and control characters replaced by one space.

    The joiners in Indic and Persian words and in emoji are not control characters, and stay.
    """
    return SPACES.sub(" ", text).strip()


def clean_lines(text: str) -> str:
    """The text with control characters replaced by spaces; line breaks and spaces inside lines are kept."""
    return UNPRINTABLE.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def is_wordless(text: str) -> bool:
    """Whether the text has only white space, invisible characters and punctuation, and is not a question."""
    return not is_question(text) and all(unicodedata.category(char)[0] in "CPZ" for char in text)


def is_question(text: str) -> bool:
    """Whether the text ends with a question mark of any script; quotes and brackets after it are ignored."""
    text = text.rstrip(CLOSERS)
    if text.endswith((";", "\u037e")):
        return any(unicodedata.name(char, "").startswith("GREEK") for char in text if char.isalpha())
    return text.endswith(tuple(QUESTION_MARKS))


def clean_start(text: str, cleaner: Callable[[str], str], limit: int) -> str:
    """The text, cleaned by `cleaner`; if it is longer than `limit`, perhaps only a start that is longer as well.

    So a text that does not fit takes little time, however long it is.
    """
    length = 2 * (limit + SPARE_CHARACTERS)
    while length < len(text):
        start = cleaner(text[:length])
        if len(start) > limit:
            return start
        length *= 4  # mostly white space
    return cleaner(text)
