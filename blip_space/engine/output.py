"""What comes of a request, step by step, and the sentences for what did not come to its end.

Must not import torch: whoever hands outputs on is there before it.
"""

from __future__ import annotations

from dataclasses import dataclass

from blip_space.errors import UserError

ANSWER_FAILED = "The answer failed through a fault of the server, which is in its log. Try again."
OUT_OF_MEMORY = "The server ran out of memory for this answer. Ask again in a while, or for fewer new tokens."


@dataclass(frozen=True)
class Output:
    """How far a request is: its whole text so far, and how many tokens that took.

    Of a finished one either `error` says why there is no answer, or `text` is whole and `repeats` says whether it was
    cut off by its limit in the middle of a loop.
    """

    id: int
    text: str
    tokens: int
    finished: bool = False
    error: UserError | None = None
    repeats: bool = False
