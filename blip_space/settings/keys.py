"""The keys that a server asks for: from a variable only, since everybody on a machine sees the options of its programs.

Depends on errors and single settings only. No error contains a key.
"""

from __future__ import annotations

import re
from pathlib import Path

from blip_space.errors import UserError
from blip_space.settings.values import Value

KEYS = "BLIP_SPACE_KEYS"
KEY = re.compile(r"[A-Za-z0-9_~+=-]{16,512}")
MAX_KEYS = 10_000
MAX_FILE_BYTES = 10_000_000


def parse_keys(value: Value | None) -> tuple[str, ...]:
    """The keys in a file, one on each line, or in a list with commas; none without a value. Raises `UserError` for a
    key that is too short or has other characters: none of a path, so that the name of a
    missing file is no key, and for a file without keys."""
    if value is None:
        return ()
    lines = _read_lines(value.text)
    keys = tuple(dict.fromkeys(line for part in lines if (line := part.strip()) and not line.startswith("#")))
    if not keys or len(keys) > MAX_KEYS:
        raise UserError(f"{KEYS} has {len(keys):,} keys; it must have from 1 to {MAX_KEYS:,}.")
    for number, key in enumerate(keys, 1):
        if not KEY.fullmatch(key):
            raise UserError(
                f"Key {number} of {KEYS} must have 16 to 512 letters, digits or characters of _~+=-, or name a file "
                'that can be read. Make one with: python -c "import secrets; print(secrets.token_urlsafe())".'
            )
    return keys


def _read_lines(text: str) -> list[str]:
    """The lines of the file of this name, or the parts of the list."""
    try:
        file = Path(text)
        if not file.is_file():
            return text.split(",")
        with file.open("rb") as stream:
            return stream.read(MAX_FILE_BYTES).decode("utf-8").splitlines()
    except (OSError, ValueError):
        return text.split(",")
