"""What a long wait says on the terminal."""

from __future__ import annotations

import sys

from blip_space.inference.progress import Progress


def progress(name: str) -> Progress:
    """On a terminal one line that changes, elsewhere a line now and then; nothing of what is loaded at once."""
    if not sys.stderr.isatty():
        return Progress(lambda sentence: print(f"blip-space: {name} is {sentence}", file=sys.stderr, flush=True))
    return Progress(
        lambda sentence: print(f"\r\x1b[K{name} is {sentence}", end="", file=sys.stderr, flush=True), every=0.2
    )
