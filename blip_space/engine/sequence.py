"""One answer while it is generated: its tokens, its text, and where it is between waiting and finished.

Must not import torch.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from blip_space.engine.detokenizer import Detokenizer
from blip_space.engine.request import PreparedRequest


class Status(Enum):
    """Where a sequence is."""

    WAITING = auto()
    RUNNING = auto()
    PREEMPTED = auto()
    """It waits in the middle of its answer; its keys and values are kept."""

    FINISHED = auto()


class FinishReason(Enum):
    """Why a sequence is finished."""

    STOP = auto()
    """The model chose a stop token, or wrote a stop string."""

    LENGTH = auto()
    """`max_new_tokens` were generated."""

    CANCELLED = auto()
    FAILED = auto()


@dataclass(eq=False)
class Sequence:
    """The answer to one request. A beam search decodes several rows of the batch for it, and has no text before its
    end."""

    id: int
    request: PreparedRequest
    detokenizer: Detokenizer
    status: Status = Status.WAITING
    finish_reason: FinishReason | None = None
    ids: list[int] = field(default_factory=list)
    """Its tokens so far, without the stop token."""

    start: tuple[int, ...] = ()
    """What a decoder has read before the first of them, apart from the prompt."""

    beam_search: Any = None
    """The `BeamSearch` of its beams, while it runs."""

    saved_row: Any = None
    """A batch of its row alone, while it is preempted."""

    error: Exception | None = None
    is_cancelled: bool = False
    """Set by any thread; the next step drops it."""

    attempts: int = 0
    """How often a fault of the whole batch ended it."""

    admitted_length: int = 0
    """How many tokens it had when it was last admitted."""

    published_characters: int = 0
    published_tokens: int = 0
    uncached_tokens: int = 0
    """How many positions of its prompt are to be prefilled; an estimate, since caches change while it waits."""

    is_background: bool = field(init=False)
    uses_beam_search: bool = field(init=False)
    num_rows: int = field(init=False)
    """How many rows of the batch it takes: one, or one for each beam."""

    max_length: int = field(init=False)
    """How many positions each of them takes at most."""

    def __post_init__(self) -> None:
        options = self.request.options
        self.is_background = self.request.background
        self.uses_beam_search = options.quality == "best"
        self.num_rows = options.num_beams if self.uses_beam_search else 1
        self.max_length = len(self.request.prompt) + options.max_new_tokens

    @property
    def tokens_since_admission(self) -> int:
        """How much of its time slice it has used."""
        return len(self.ids) - self.admitted_length

    @property
    def runs_alone(self) -> bool:
        """Whether a fault of the whole batch may have been its own."""
        return self.attempts > 0

    def append(self, token: int | None, stop: Container[int]) -> None:
        """Take the next token; None where nothing could be chosen."""
        if token is None:
            self.fail(ArithmeticError("the language model's scores are not finite"))
        elif token in stop:
            self.finish(FinishReason.STOP)
        else:
            self.ids.append(token)
            if len(self.ids) >= self.request.options.max_new_tokens:
                self.finish(FinishReason.LENGTH)

    def finish(self, reason: FinishReason) -> None:
        """No further token is wanted."""
        self.status, self.finish_reason = Status.FINISHED, reason

    def fail(self, error: Exception) -> None:
        """There is no answer, for this reason."""
        self.error = error
        self.finish(FinishReason.FAILED)

    def restart(self) -> None:
        """Forget every token; the same ones come again, and are published once they are more than before."""
        self.status, self.ids, self.beam_search, self.saved_row = Status.WAITING, [], None, None
        self.published_tokens = 0
        self.detokenizer.clear()
