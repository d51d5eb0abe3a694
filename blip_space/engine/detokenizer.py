"""Text that grows with its tokens, cut where it reads right.

Depends on a decode function, characters and stop strings; must not import torch or a tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import regex

REPLACEMENT_CHARACTER = "\ufffd"
"""What a tokenizer's decoder puts where the bytes of a character are not all there yet."""

CLUSTER, MAX_CLUSTER_CHARACTERS = regex.compile(r"\X"), 64

WINDOW_TOKENS, CONTEXT_TOKENS = 16, 4
"""So many tokens are decoded again with each new one at most, and so many at least."""

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class VisibleText:
    """What may be shown of a text, and whether a stop string ended it."""

    text: str
    stopped: bool


class Detokenizer:
    """The text of a list of tokens that only grows: new tokens are decoded with the few before them, not with all.

    A decoder writes a token differently at the beginning of a text than after another one, so every token is decoded
    behind some that are known; what that adds is its text.
    """

    def __init__(self, decode: Decode, stops: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stops = stops
        self.clear()

    def clear(self) -> None:
        """Begin again without a token."""
        self._text = ""
        self._start = 0
        self._context = ""
        """The text of the tokens from `_start` on, as far as they make whole characters: the end of `_text`."""

    def extend(self, ids: Sequence[int]) -> VisibleText:
        """What may be shown while more is to come; `ids` are all tokens so far."""
        decoded = self._decode(ids[self._start :])
        if not decoded.endswith(REPLACEMENT_CHARACTER):
            if not decoded.startswith(self._context):  # bytes that make no characters spoil whole ones before them
                self._text, self._start, self._context = "", 0, ""
                decoded = self._decode(ids)
            self._text += decoded[len(self._context) :]
            self._context = decoded
            if len(ids) - self._start >= WINDOW_TOKENS:
                self._move_window(ids)
        return visible_text(self._text, self._stops)

    def finish(self, ids: Sequence[int]) -> VisibleText:
        """What may be shown of all tokens, once there are no more."""
        return visible_text(self._decode(ids), self._stops, finished=True)

    def _move_window(self, ids: Sequence[int]) -> None:
        start = len(ids) - CONTEXT_TOKENS
        context = self._decode(ids[start:])
        if (
            context.strip() and REPLACEMENT_CHARACTER not in context
        ):  # not special tokens alone, and not within a character
            self._start, self._context = start, context


def visible_text(text: str, stops: Sequence[str] = (), *, finished: bool = False) -> VisibleText:
    """What of the text may be shown now.

    Nothing from a stop string on, nor what may become one; while more is to come, no half character and not the last
    grapheme cluster, which a combining mark or a joiner may still change.
    """
    text = text.lstrip()
    found = [position for stop in stops if (position := text.find(stop)) >= 0]
    if found:
        return VisibleText(text[: min(found)].rstrip(), stopped=True)
    if finished:
        return VisibleText(text.rstrip(REPLACEMENT_CHARACTER).rstrip(), stopped=False)
    shown = _complete_graphemes(text.rstrip(REPLACEMENT_CHARACTER))
    return VisibleText(shown[: len(shown) - _partial_stop_length(text, shown, stops)].rstrip(), stopped=False)


def _complete_graphemes(text: str) -> str:
    if text[-2:].isascii() and not text.endswith("\r\n"):
        return text[:-1]  # two of these are two clusters, and most texts end so
    clusters = CLUSTER.findall(text[-MAX_CLUSTER_CHARACTERS:])
    return text[: len(text) - len(clusters[-1])] if clusters else ""


def _partial_stop_length(text: str, shown: str, stops: Sequence[str]) -> int:
    """How many characters at the end of `shown` belong to what may be the beginning of a stop string."""
    begun = max((size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])), default=0)
    return max(0, begun - (len(text) - len(shown)))
