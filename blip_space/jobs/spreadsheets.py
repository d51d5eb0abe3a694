"""Texts in files that people open in a spreadsheet or unpack: no formula, and no name that hides what it is.

Depends on Unicode only; must not import anything that reads or writes files.
"""

from __future__ import annotations

import unicodedata

FORMULA = "=+-@"
"""A spreadsheet evaluates cells that begin with one of these, some also with white space before it, or in the wide
form that East Asian keyboards have: https://owasp.org/www-community/attacks/CSV_Injection."""

CELL_BREAKS = ("\t", "\r", "\n")
"""Where some programs begin another cell."""

JOINERS = "\u200c\u200d"
"""Invisible characters that belong to words of some scripts, and to emoji."""


def is_formula(text: str) -> bool:
    """Whether a spreadsheet may evaluate a cell with this text."""
    if text.startswith(CELL_BREAKS):
        return True
    first = next((character for character in text if not _is_invisible(character)), "")
    return any(character in FORMULA for character in unicodedata.normalize("NFKC", first)[:1])


def escape_formula(text: str) -> str:
    """The text as a cell, with an apostrophe before what a spreadsheet would evaluate."""
    return f"'{text}" if is_formula(text) else text


def unescape_formula(text: str) -> str:
    """The text of a cell that `escape_formula` wrote."""
    return text[1:] if text.startswith("'") and is_formula(text[1:]) else text


def visible_name(name: str) -> str:
    """A file's name for a zip: `_` for each character that ends a name, breaks a line or changes the direction of the
    text after it, and for an equals sign that a part of the name begins with."""
    parts = "".join("_" if _is_hiding(character) else character for character in name).split("/")
    return "/".join("_" + part[1:] if part.startswith(("=", "\uff1d")) else part for part in parts)


def _is_invisible(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in ("Cc", "Cf")


def _is_hiding(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in JOINERS
