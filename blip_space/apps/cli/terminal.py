"""What commands print: JSON on stdout, messages and progress on stderr. Must not import torch before it is needed."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from blip_space.catalogue import ModelSpec
from blip_space.serving.load_progress import LoadProgress

if TYPE_CHECKING:
    from blip_space.models.interface import VisionLanguageModel


def print_json(**values: Any) -> None:
    """Print `values` as a JSON object on one line of stdout."""
    print(json.dumps(values, ensure_ascii=False), flush=True)


def print_message(message: str) -> None:
    """Print a line on stderr."""
    print(f"blip-space: {message}", file=sys.stderr, flush=True)


def update_line(text: str) -> None:
    """Replace the current line of a terminal by `text`."""
    print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def load_with_progress(spec: ModelSpec, precision: str, device: str) -> VisionLanguageModel:
    """Load a model. If loading takes long, print its progress: on a terminal as one line, else as new lines."""
    from blip_space.loading import loader

    if sys.stderr.isatty():
        progress = LoadProgress(lambda sentence: update_line(f"{spec.name} is {sentence}"), interval_seconds=0.2)
    else:
        progress = LoadProgress(lambda sentence: print_message(f"{spec.name} is {sentence}"))
    return loader.load_model(spec, precision, device=device, on_progress=progress)
