"""When a request that failed is sent to the server again, and how it failed.

Pure; must not import openai.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NoReturn

from blip_space.errors import BusyError, Code, PromptError, RemoteError

TRIES, BACKGROUND_TRIES = 3, 6
"""How often a request of a user, and one of a batch, is sent."""

BACKOFF_SECONDS = 0.5
"""Before the second try; doubled for each further one."""

MAX_BACKOFF_SECONDS = 20.0
"""A server that asks for a longer time is busy, since the client would wait for it without a word."""


@dataclass(frozen=True)
class Timeouts:
    """In seconds: until a connection is open, between two parts of an answer, and for the list of models."""

    connect: float = 5.0
    silence: float = 60.0
    models: float = 10.0


class AttemptError(Exception):
    """How one try of a request failed. `sentence` is for users; `may_retry` is whether another try may succeed;
    `retry_after` is what the server asked for, in seconds."""

    def __init__(
        self, sentence: str, code: Code = "remote_failed", *, may_retry: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(sentence)
        self.sentence, self.code, self.may_retry, self.retry_after = sentence, code, may_retry, retry_after

    def raise_for_user(self) -> NoReturn:
        """Raise the error that ends the answer."""
        if self.code in ("busy", "timed_out"):
            raise BusyError(self.sentence, code=self.code) from self
        if self.code == "prompt_too_long":
            raise PromptError(self.sentence, code=self.code) from self
        raise RemoteError(self.sentence, code=self.code) from self


def seconds_to_retry(error: AttemptError, tries: int, *, background: bool) -> float | None:
    """How long to wait before the next try, after so many that failed; None if there is none."""
    if not error.may_retry or tries >= (BACKGROUND_TRIES if background else TRIES):
        return None
    if error.retry_after is not None:
        return error.retry_after if error.retry_after <= MAX_BACKOFF_SECONDS else None
    backoff: float = BACKOFF_SECONDS * 2 ** (tries - 1)
    return backoff * random.uniform(0.75, 1.25)  # so that callers that failed together do not return together


def parse_retry_after(value: str | None) -> float | None:
    """The seconds in a `Retry-After` header; None for a date or anything else."""
    try:
        seconds = float(value) if value and len(value) < 20 else -1.0
    except ValueError:
        return None
    return seconds if 0 <= seconds < 10**6 else None
