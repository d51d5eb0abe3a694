"""Checkpoint files: one for each stage, replaced atomically, so a stop at any moment loses about a minute of training.

Depends on torch only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

State = dict[str, Any]


def save_checkpoint(path: Path, state: State) -> None:
    """Write `state` to `path` atomically: a reader sees either the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".draft")
    torch.save(state, temporary)
    temporary.replace(path)


def load_checkpoint(path: Path) -> State | None:
    """The state that was last saved to `path`, or None if there is no such file."""
    if not path.exists():
        return None
    state: State = torch.load(path, map_location="cpu", weights_only=True)
    return state
