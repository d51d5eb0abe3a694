"""What the tests of `folder` share: options that make it fast, and its output read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

FAST = ("--quality", "stream", "--max-new-tokens", "12")
Run = Callable[..., tuple[int, str]]


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The records of an output log."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def read_captions(file: Path) -> dict[str, str | None]:
    """The captions of an output log by file; None for an error."""
    return {row["file"]: row["caption"] for row in read_rows(file)}
