"""What the values of a call may contain at all, whatever they are for: only uploaded files, only text and numbers.

Values are checked outside the event loop, which serves everybody, and each path once. Depends on Gradio's upload folder
only. Must not read a file.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import anyio
from gradio.utils import get_upload_folder

from blip_space.errors import ImageError, UserError

WAY_TO_SEND = 'send the file: handle_file("image.png"), with handle_file from gradio_client.'
NOT_UPLOADED = f"That is not an uploaded image. Instead {WAY_TO_SEND}"
NO_URLS = (
    f"That is a URL, not an uploaded image, and this server fetches none. Download the image first, then {WAY_TO_SEND}"
)
NO_PATHS = (
    "That is a path or a text, not an uploaded image, and this server reads only uploaded files. "
    f"If it names a file on your machine, {WAY_TO_SEND}"
)
URL = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)

MAX_DEPTH = 50
"""The deepest nesting of lists and objects in a value. No valid value, such as a conversation, comes near it."""

MAX_FILES = 1_000
"""How often a call may name a file. A batch has at most 500."""

MAX_VALIDATED_FILES = 20
"""The same for values that Gradio validates, a page's conversation, where each file takes the event loop's time."""

MAX_VALIDATED_PARTS = 20_000
"""And how many texts, numbers, lists and objects they have. A conversation of 1,000 messages has about 10,000."""

MAX_PATH_CHARACTERS = 4_096
MAX_BITS = 64
"""The longest integer that Gradio can send back."""

INVALID_VALUE = "A value of this call has the wrong type or shape. The API page lists what each parameter takes."
TOO_MANY_PARTS = "The conversation is too long to be read. Clear it and ask again."
TOO_MANY_FILES = "The call names more than {:,} files. Send them in parts."
INVALID_TEXT = "A text of this call is not valid Unicode: it has half of a surrogate pair. Send the whole character."
INVALID_NUMBER = f"A number of this call is too long: it has more than {MAX_BITS} bits. Send a smaller one."


class Hidden:
    """A value that Gradio passes to its handler as it is, without looking for files in it on the event loop."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def reveal(self) -> Any:
        """The value, once: what Gradio keeps of a session then holds none."""
        value, self._value = self._value, None
        return value


async def check_call(block_fn: Any, values: list[Any], limiter: anyio.CapacityLimiter) -> list[Any]:
    """The values of an event, checked outside the event loop and hidden from Gradio where it validates none.

    Raises `UserError` if a value, at any depth, names a URL or a file that was not uploaded to this server, or if it
    has more files, levels or digits than any valid one. `limiter` bounds how many calls are checked at once.
    """
    validated = [block_fn.preprocess or getattr(block, "data_model", None) for block in block_fn.inputs]
    pairs = list(zip(values, validated, strict=False))  # Gradio ignores what is too many

    def check() -> None:
        check_parts([value for value, is_validated in pairs if is_validated], MAX_VALIDATED_FILES, MAX_VALIDATED_PARTS)
        check_parts([value for value, is_validated in pairs if not is_validated], MAX_FILES)

    await anyio.to_thread.run_sync(check, limiter=limiter)
    is_container = (dict, list)
    return [Hidden(value) if isinstance(value, is_container) and not kept else value for value, kept in pairs]


def check_parts(values: list[Any], max_files: int, max_parts: int | None = None) -> None:
    """Raise `UserError` as `check_call` does, for values that have at most so many files and parts."""
    folder = _resolved(get_upload_folder())
    files = parts = 0
    uploaded: set[str] = set()
    unchecked: list[tuple[Any, int]] = [(values, 0)]
    while unchecked:
        value, depth = unchecked.pop()
        parts += 1
        if depth > MAX_DEPTH:
            raise UserError(INVALID_VALUE)
        if isinstance(value, dict):
            if "path" in value:
                files += 1
                _check_path(value, uploaded, folder)
            for name in value:
                _check_text(name)
            unchecked += [(part, depth + 1) for part in value.values()]
        elif isinstance(value, list):
            unchecked += [(part, depth + 1) for part in value]
        elif isinstance(value, str):
            _check_text(value)
        elif isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise UserError(INVALID_NUMBER)
        if max_parts is not None and parts > max_parts:
            raise UserError(TOO_MANY_PARTS, code="too_large", detail="conversation")
        if files > max_files:
            raise UserError(
                TOO_MANY_FILES.format(max_files), code="too_large", detail="files", values={"limit": max_files}
            )


def _check_text(text: str) -> None:
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:
        raise UserError(INVALID_TEXT) from None


def _check_path(value: dict[str, Any], uploaded: set[str], folder: Path) -> None:
    """Raise `ImageError` unless `value` names a file in `folder`. The path is added to those that are `uploaded`."""
    path = value["path"]
    if not isinstance(path, str):
        raise reference_error(value)
    if path not in uploaded:
        if not _is_in(folder, path):
            raise reference_error(value)
        uploaded.add(path)


def is_uploaded(path: str) -> bool:
    """Whether a path is in the folder of uploads. The file may be missing."""
    return _is_in(_resolved(get_upload_folder()), path)


def _is_in(folder: Path, path: str) -> bool:
    if len(path) > MAX_PATH_CHARACTERS:
        return False
    try:
        return Path(path).resolve().is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):
        return False


@functools.lru_cache(maxsize=8)
def _resolved(folder: str) -> Path:
    return Path(folder).resolve()


def reference_error(value: Any) -> ImageError:
    """The error for a value that names no uploaded image. It says how to upload an image."""
    sources = [value.get("path"), value.get("url")] if isinstance(value, dict) else [value]
    texts = [text for text in sources if isinstance(text, str)]
    if any(map(URL.match, texts)):
        return ImageError(NO_URLS, code="not_uploaded")
    return ImageError(NO_PATHS if texts else NOT_UPLOADED, code="not_uploaded")
