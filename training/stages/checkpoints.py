"""Where a run keeps what it has: one file a stage, replaced in one move, so that a stop at any moment loses a minute.

Knows files; knows nothing of what is in them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

Saved = dict[str, Any]


def save(path: Path, state: Saved) -> None:
    """Write the state beside its place, then move it there: readers see the old file or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    torch.save(state, draft)
    draft.replace(path)


def load(path: Path) -> Saved | None:
    """The state that was saved last, or None."""
    if not path.exists():
        return None
    state: Saved = torch.load(path, map_location="cpu", weights_only=True)
    return state
