"""Text that grows token by token, cut where it reads right.

Pure: knows characters and stop strings, no tokens and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import regex

UNFINISHED = "\ufffd"
"""What a decoder puts where the bytes of a character are not all there yet."""

MAX_CLUSTER_CHARACTERS = 64


@dataclass(frozen=True)
class Excerpt:
    """What may be shown of a text, and whether a stop string ended it."""

    text: str
    stopped: bool


def excerpt(text: str, stops: Sequence[str] = (), *, finished: bool = False) -> Excerpt:
    """What of the text may be shown now.

    Nothing from a stop string on, nor what may become one; while more is to come, no half character and not the last
    grapheme cluster, which a combining mark or a joiner may still change.
    """
    text = text.lstrip()
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    if found:
        return Excerpt(text[: min(found)].rstrip(), stopped=True)
    if finished:
        return Excerpt(text.rstrip(UNFINISHED).rstrip(), stopped=False)
    shown = _whole_clusters(text.rstrip(UNFINISHED))
    return Excerpt(shown[: len(shown) - _begun_stop(text, shown, stops)].rstrip(), stopped=False)


def _whole_clusters(text: str) -> str:
    clusters = regex.findall(r"\X", text[-MAX_CLUSTER_CHARACTERS:])
    return text[: len(text) - len(clusters[-1])] if clusters else ""


def _begun_stop(text: str, shown: str, stops: Sequence[str]) -> int:
    """How many characters at the end of `shown` belong to what may be the beginning of a stop string."""
    begun = max((size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])), default=0)
    return max(0, begun - (len(text) - len(shown)))
