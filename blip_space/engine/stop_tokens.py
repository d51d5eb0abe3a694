"""Which tokens may end a stop string, so that the text of an answer need not be looked at after every token.

Depends on a decode function and stop strings; must not import torch or a tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence

from blip_space.engine.detokenizer import REPLACEMENT_CHARACTER, Decode


class StopTokens:
    """The tokens whose own text has the last character of a stop string, or part of a character."""

    def __init__(self, decode: Decode, stops: Sequence[str]) -> None:
        self._decode = decode
        self._ends = {stop[-1] for stop in stops} | {REPLACEMENT_CHARACTER} if stops else set[str]()
        self._known: dict[int, bool] = {}

    def __contains__(self, token: int) -> bool:
        if token not in self._known:
            self._known[token] = bool(self._ends) and not self._ends.isdisjoint(self._decode([token]))
        return self._known[token]
