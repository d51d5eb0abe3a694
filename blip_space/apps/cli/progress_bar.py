"""What the terminal shows during a long load."""

from __future__ import annotations

import sys

from blip_space.serving.load_progress import LoadProgress


def print_load_progress(name: str) -> LoadProgress:
    """On a terminal one line that changes, elsewhere a line now and then; nothing of what is loaded at once."""
    if not sys.stderr.isatty():
        return LoadProgress(lambda sentence: print(f"blip-space: {name} is {sentence}", file=sys.stderr, flush=True))
    return LoadProgress(
        lambda sentence: print(f"\r\x1b[K{name} is {sentence}", end="", file=sys.stderr, flush=True),
        interval_seconds=0.2,
    )
