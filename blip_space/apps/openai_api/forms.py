"""The objects of OpenAI's protocol: models, chat completions and the chunks of their streams.

Depends on numbers and events only. Source: the types of the package openai 3, against which the tests check them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

from blip_space.apps.http.event_streams import as_event

OWNER = "blip-space"
DONE = b"data: [DONE]\n\n"
COMMENT = b": the answer is being generated\n\n"
"""Ignored by clients; keeps proxies from closing a stream without events."""

FinishReason = Literal["stop", "length"]


def model_object(name: str) -> dict[str, Any]:
    """One model."""
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNER}


def model_list(names: Iterable[str]) -> dict[str, Any]:
    """The list of models."""
    return {"object": "list", "data": [model_object(name) for name in names]}


@dataclass(frozen=True)
class Usage:
    """The tokens of one completion; those of the prompt include the positions of the image."""

    prompt_tokens: int
    completion_tokens: int

    def as_object(self) -> dict[str, int]:
        """The object of the protocol."""
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }


@dataclass(frozen=True)
class Completion:
    """What all parts of one completion have in common."""

    model: str
    include_usage: bool = False
    """Whether a stream ends with its usage."""

    id: str = field(default_factory=lambda: f"chatcmpl-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, reason: FinishReason, usage: Usage) -> dict[str, Any]:
        """The completion as one object."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage.as_object()}

    def first_chunk(self) -> bytes:
        """The event that begins a stream."""
        return self._chunk({"role": "assistant", "content": ""})

    def chunk(self, text: str) -> bytes:
        """The event with the next part of the text."""
        return self._chunk({"content": text})

    def last_chunks(self, reason: FinishReason, usage: Usage) -> bytes:
        """The events that end a stream."""
        events = self._chunk({}, reason)
        if self.include_usage:
            events += as_event({**self._head("chat.completion.chunk"), "choices": [], "usage": usage.as_object()})
        return events + DONE

    def _chunk(self, delta: dict[str, str], reason: FinishReason | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if self.include_usage else {}
        return as_event({**self._head("chat.completion.chunk"), "choices": [choice], **usage})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}
