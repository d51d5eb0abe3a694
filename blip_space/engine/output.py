"""What a step returns for each request, and the error messages of failed answers.

Must not import torch: the parts of a server that start without it import this module.
"""

from __future__ import annotations

from dataclasses import dataclass

from blip_space.errors import UserError

ANSWER_FAILED = "The answer failed because of an internal error, which is in the server's log. Try again."
OUT_OF_MEMORY = "The server ran out of memory. Try again later, or lower Max new tokens (max_new_tokens)."


@dataclass(frozen=True)
class Output:
    """The state of one request: its complete text so far, and the number of its tokens.

    If it is finished, either `error` is why there is no answer, or `text` is the final answer and `repeats` is whether
    the token limit cut it off in a loop.
    """

    id: int
    text: str
    tokens: int
    finished: bool = False
    error: UserError | None = None
    repeats: bool = False
