"""JSON that others wrote, read with a sentence for what is missing, broken or of another type than expected.

Depends on files only; does not know what the values mean.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from blip_space.errors import ModelError

KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}


def read_json(path: Path, *, name: str) -> dict[str, Any]:
    """The object in a JSON file of the model `name`; empty where there is no such file.

    Raises `ModelError` where the file is unreadable, is not JSON, or holds something else than an object.
    """
    try:
        content = json.loads(path.read_text("utf-8-sig"))  # some editors begin a file with a mark
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path.name} in {name} cannot be read as JSON. Copy it again from where the checkpoint came from."
        ) from error
    if not isinstance(content, dict):
        raise ModelError(
            f"{path.name} in {name} is not a configuration: it holds {describe_type(content)}, where an object is expected. "
            "Copy it again from where the checkpoint came from."
        )
    return content


def describe_type(value: Any) -> str:
    """What a JSON value is, in words."""
    return "null" if value is None else KINDS.get(type(value), "something else")
