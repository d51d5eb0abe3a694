"""One answer while it is generated: its tokens, its text and its status.

WAITING -> RUNNING <-> PREEMPTED, and from each to FINISHED for a reason. Must not import torch.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from blip_space.engine.detokenizer import Detokenizer
from blip_space.engine.request import PreparedRequest


class Status(Enum):
    """Where a sequence is in its life."""

    WAITING = auto()
    RUNNING = auto()
    PREEMPTED = auto()
    """It waits in the middle of its answer, and its keys and values stay in memory."""

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
    """The answer to one request. With beam search it has several rows of the batch, and no text before its end."""

    id: int
    request: PreparedRequest
    detokenizer: Detokenizer
    status: Status = Status.WAITING
    finish_reason: FinishReason | None = None
    ids: list[int] = field(default_factory=list)
    """Its tokens so far, without the stop token."""

    start: tuple[int, ...] = ()
    """What the decoder of an encoder-decoder model reads before the first of them."""

    beam_search: Any = None
    """The `BeamSearch` of its beams, from prefill on."""

    saved_row: Any = None
    """A `Batch` with its row alone, while it is preempted."""

    error: Exception | None = None
    is_cancelled: bool = False
    """Set by any thread; the next step removes the sequence."""

    attempts: int = 0
    """How often an error of the whole batch ended it."""

    admitted_length: int = 0
    """The number of tokens when it was last admitted."""

    published_characters: int = 0
    published_tokens: int = 0
    uncached_tokens: int = 0
    """The positions of its prompt to prefill; an estimate, since the prefix cache changes while it waits."""

    is_background: bool = field(init=False)
    uses_beam_search: bool = field(init=False)
    num_rows: int = field(init=False)
    """The rows that it takes in the batch: one, or one for each beam."""

    max_length: int = field(init=False)
    """The positions that each row takes at most."""

    def __post_init__(self) -> None:
        options = self.request.options
        self.is_background = self.request.background
        self.uses_beam_search = options.quality == "best"
        self.num_rows = options.num_beams if self.uses_beam_search else 1
        self.max_length = len(self.request.prompt) + options.max_new_tokens

    @property
    def tokens_since_admission(self) -> int:
        """How many tokens of its time slice are used."""
        return len(self.ids) - self.admitted_length

    @property
    def runs_alone(self) -> bool:
        """Whether it may be the cause of an error of the whole batch, so that it runs without others."""
        return self.attempts > 0

    def append(self, token: int | None, stop: Container[int]) -> None:
        """Add the next token; None where no token could be chosen."""
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
        """Drop all tokens. The same ones are generated again; text is published once it is longer than before."""
        self.status, self.ids, self.beam_search, self.saved_row = Status.WAITING, [], None, None
        self.published_tokens = 0
        self.detokenizer.clear()
