"""Incremental detokenization: text that grows with its tokens and never shows a partial character or a stop string.

Depends on a decode function, characters and stop strings; must not import torch or a tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import regex

REPLACEMENT_CHARACTER = "\ufffd"
"""The character to which a tokenizer decodes the bytes of an incomplete character."""

CLUSTER, MAX_CLUSTER_CHARACTERS = regex.compile(r"\X"), 64

WINDOW_TOKENS, CONTEXT_TOKENS = 16, 4
"""At most `WINDOW_TOKENS` are decoded for each new token; when that is reached, `CONTEXT_TOKENS` of them are kept."""

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class VisibleText:
    """The part of a text that may be shown, and whether a stop string ended it."""

    text: str
    stopped: bool


class Detokenizer:
    """The text of a growing list of tokens. New tokens are decoded with the few before them, not with all.

    A tokenizer decodes a token differently at the beginning of a text than after another token, so a new token is
    decoded together with a context before it, and its text is what follows the context's.
    """

    def __init__(self, decode: Decode, stops: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stops = stops
        self.clear()

    def clear(self) -> None:
        """Forget all tokens."""
        self._text = ""
        self._start = 0
        self._context = ""
        """The text of the tokens from `_start` on, up to the last complete character. `_text` ends with it."""

    def extend(self, ids: Sequence[int]) -> VisibleText:
        """The visible text of `ids`, which are all tokens so far, if more will follow."""
        decoded = self._decode(ids[self._start :])
        if not decoded.endswith(REPLACEMENT_CHARACTER):
            if not decoded.startswith(self._context):  # invalid bytes change complete characters before them
                self._text, self._start, self._context = "", 0, ""
                decoded = self._decode(ids)
            self._text += decoded[len(self._context) :]
            self._context = decoded
            if len(ids) - self._start >= WINDOW_TOKENS:
                self._move_window(ids)
        return visible_text(self._text, self._stops)

    def finish(self, ids: Sequence[int]) -> VisibleText:
        """The visible text of `ids`, which are all tokens of the answer."""
        return visible_text(self._decode(ids), self._stops, finished=True)

    def _move_window(self, ids: Sequence[int]) -> None:
        start = len(ids) - CONTEXT_TOKENS
        context = self._decode(ids[start:])
        if context.strip() and REPLACEMENT_CHARACTER not in context:  # else special tokens or a partial character
            self._start, self._context = start, context


def visible_text(text: str, stops: Sequence[str] = (), *, finished: bool = False) -> VisibleText:
    """The part of a text that may be shown: up to the first stop string, or up to what may become one.

    Unless `finished`, without a partial character and the last grapheme cluster, which combining marks may still
    change.
    """
    text = text.lstrip()
    ends = [position for stop in stops if (position := text.find(stop)) >= 0]
    if ends:
        return VisibleText(text[: min(ends)].rstrip(), stopped=True)
    if finished:
        return VisibleText(text.rstrip(REPLACEMENT_CHARACTER).rstrip(), stopped=False)
    visible = _complete_graphemes(text.rstrip(REPLACEMENT_CHARACTER))
    visible = visible[: len(visible) - _partial_stop_length(text, visible, stops)]
    return VisibleText(visible.rstrip(), stopped=False)


def _complete_graphemes(text: str) -> str:
    if text[-2:].isascii() and not text.endswith("\r\n"):
        return text[:-1]  # two ASCII characters are two clusters; most texts end so
    clusters = CLUSTER.findall(text[-MAX_CLUSTER_CHARACTERS:])
    return text[: len(text) - len(clusters[-1])] if clusters else ""


def _partial_stop_length(text: str, visible: str, stops: Sequence[str]) -> int:
    """How many characters at the end of `visible` may be the beginning of a stop string."""
    length = max((size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])), default=0)
    return max(0, length - (len(text) - len(visible)))
