"""Paths that users name, and JSON files of checkpoints, with an error message for one that is unreadable.

Depends on files only; must not depend on what the values mean.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from blip_space.errors import ModelError

TYPES = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}


def read_json(path: Path, *, name: str) -> dict[str, Any]:
    """The object in a JSON file of the model `name`; empty where there is no such file.

    Raises `ModelError` where it is unreadable, is not JSON, or holds something else than an object.
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
    """The existing file or folder of that path, of which `~` is expanded; None where there is none."""
    try:
        path = Path(name).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # no valid file name, or an unknown user's home
        return None


def describe_type(value: Any) -> str:
    """The type of a JSON value, with an article."""
    return "null" if value is None else TYPES.get(type(value), "something else")
