"""One answer while it is generated: its tokens, its text and its status.

WAITING -> RUNNING <-> PREEMPTED, and from each to FINISHED with a `FinishReason`. Must not import torch.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from blip_space.callers import Caller
from blip_space.engine.detokenizer import Detokenizer
from blip_space.engine.request import PreparedRequest

MAX_ATTEMPTS = 2
"""How often an answer is attempted, the first time included, if errors of the whole batch interrupt it."""


class Status(Enum):
    """The state of a sequence."""

    WAITING = auto()
    RUNNING = auto()
    PREEMPTED = auto()
    """The sequence waits in the middle of its answer, and its keys and values stay in memory."""

    FINISHED = auto()


class FinishReason(Enum):
    """Why a sequence is finished."""

    STOP = auto()
    """The model generated a stop token or a stop string."""

    LENGTH = auto()
    """`max_new_tokens` were generated."""

    CANCELLED = auto()
    FAILED = auto()


@dataclass(eq=False)
class Sequence:
    """The answer to one request. With beam search it takes several rows of the batch and has no text until its end."""

    id: int
    request: PreparedRequest
    detokenizer: Detokenizer
    status: Status = Status.WAITING
    finish_reason: FinishReason | None = None
    ids: list[int] = field(default_factory=list)
    """The answer's tokens so far, without the stop token."""

    start: tuple[int, ...] = ()
    """The tokens that the decoder of an encoder-decoder model reads before `ids`."""

    beam_search: Any = None
    """Its `BeamSearch`, from prefill on; None without beam search."""

    saved_row: Any = None
    """While it is preempted, a `Batch` that holds only its row."""

    error: Exception | None = None
    is_cancelled: bool = False
    """Set by any thread; the next step removes the sequence."""

    attempts: int = 0
    """How often an error of the whole batch interrupted it."""

    admitted_length: int = 0
    """How many tokens it had when it was last admitted."""

    published_characters: int = 0
    published_tokens: int = 0
    uncached_tokens: int = 0
    """How many positions of its prompt to prefill; an estimate, since the prefix cache changes while it waits."""

    caller: Caller = field(init=False)
    is_background: bool = field(init=False)
    uses_beam_search: bool = field(init=False)
    num_rows: int = field(init=False)
    """How many rows of the batch it takes: one, or one for each beam."""

    max_length: int = field(init=False)
    """How many positions each of its rows takes at most."""

    def __post_init__(self) -> None:
        options, self.caller = self.request.options, self.request.caller
        self.is_background = self.request.background
        self.uses_beam_search = options.quality == "best"
        self.num_rows = options.num_beams if self.uses_beam_search else 1
        self.max_length = len(self.request.prompt) + options.max_new_tokens

    @property
    def tokens_since_admission(self) -> int:
        """How many tokens of its time slice it has used."""
        return len(self.ids) - self.admitted_length

    @property
    def missing_tokens(self) -> int:
        """How many more tokens it may get."""
        return self.request.options.max_new_tokens - len(self.ids)

    @property
    def runs_alone(self) -> bool:
        """Whether it must run without others, because it may have caused an error of the whole batch."""
        return self.attempts > 0

    def append(self, token: int | None, stop: Container[int]) -> None:
        """Append the next token, or end the sequence: normally if `token` is in `stop`, with an error if it is None."""
        if token is None:
            self.fail(ArithmeticError("the language model's logits are not finite"))
        elif token in stop:
            self.finish(FinishReason.STOP)
        else:
            self.ids.append(token)
            if len(self.ids) >= self.request.options.max_new_tokens:
                self.finish(FinishReason.LENGTH)

    def finish(self, reason: FinishReason) -> None:
        """End the sequence."""
        self.status, self.finish_reason = Status.FINISHED, reason

    def fail(self, error: Exception) -> None:
        """End the sequence with an error."""
        self.error = error
        self.finish(FinishReason.FAILED)

    def restart(self) -> None:
        """Drop all tokens, to generate them again. No text is published until it is longer than before."""
        self.status, self.ids, self.beam_search, self.saved_row = Status.WAITING, [], None, None
        self.published_tokens = 0
        self.detokenizer.clear()
