"""What a step returns of a request, and the sentences for answers that failed.

Must not import torch: the parts of a server that start without it import this module.
"""

from __future__ import annotations

from dataclasses import dataclass

from blip_space.errors import UserError

ANSWER_FAILED = "The answer failed because of an internal error, which is in the server's log. Try again."
OUT_OF_MEMORY = "The server ran out of memory for this answer. Ask again in a while, or for fewer new tokens."


@dataclass(frozen=True)
class Output:
    """The state of a request: its complete text so far, and the number of tokens in it.

    When it is finished, either `error` says why there is no answer, or `text` is the final answer and `repeats` says
    whether the token limit cut it off in a loop.
    """

    id: int
    text: str
    tokens: int
    finished: bool = False
    error: UserError | None = None
    repeats: bool = False
