"""Reads JSON files of checkpoints, and finds paths that users name.

Depends on files only; must not depend on what the values mean.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from blip_space.errors import ModelError

TYPES = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}


def read_json(path: Path, *, name: str) -> dict[str, Any]:
    """The object in a JSON file of the model `name`; empty if there is no such file.

    Raises `ModelError` if the file is unreadable, is not JSON, or holds anything but an object.
    """
    try:
        content = json.loads(path.read_text("utf-8-sig"))  # some editors write a byte order mark
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path.name} in {name} cannot be read as JSON. Copy it again from where the checkpoint came from."
        ) from error
    if not isinstance(content, dict):
        raise ModelError(
            f"{path.name} in {name} is not a configuration: it holds {describe_type(content)} instead of an object. "
            "Copy it again from where the checkpoint came from."
        )
    return content


def find_path(name: str) -> Path | None:
    """The path `name`, with `~` expanded; None if no such file or folder exists."""
    try:
        path = Path(name).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # an invalid file name, or the home of an unknown user
        return None


def describe_type(value: Any) -> str:
    """The type of a JSON value, with an article: `an object`."""
    return "null" if value is None else TYPES.get(type(value), "something else")
