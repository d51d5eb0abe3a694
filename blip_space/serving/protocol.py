"""The engine interface for apps: implemented by a thread, a process, replicas, and a fake in tests.

Depends on requests and responses only; must not import torch, so that the page is up before torch is imported.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from blip_space.catalogue import ModelSpec
from blip_space.engine.request import Budget, EngineConfig, Request
from blip_space.errors import BusyError
from blip_space.history import Turn
from blip_space.serving.load_progress import LoadEstimate
from blip_space.serving.metrics import MetricsSnapshot
from blip_space.serving.response import ResponseStream

STOPPING = "The server is stopping. Try again when it is back."
STOPPED_RUNNING = "The server stopped during this answer. Ask again when it is back."
STOPPED_WAITING = "The server stopped before this was answered. Ask again when it is back."


def queue_full(waiting: int) -> str:
    """The message of a `BusyError` if that many requests wait already."""
    return f"The server is busy: {waiting} questions are waiting. Try again in a minute."


def stopped(*, was_running: bool) -> BusyError:
    """The error of an answer that the stop of its engine ends."""
    return BusyError(STOPPED_RUNNING if was_running else STOPPED_WAITING, code="stopping")


def seconds_to_answer(request: Request, config: EngineConfig) -> float:
    """How long the answer to a request may take, its time in the queue included."""
    return config.background_timeout_seconds if request.background else config.timeout_seconds


def open_response(request: Request, config: EngineConfig) -> ResponseStream:
    """The empty response to a request that arrives now."""
    return ResponseStream(deadline=time.monotonic() + seconds_to_answer(request, config))


@dataclass(frozen=True)
class EngineStatus:
    """An engine's state. `model` is the most recently used one of the `loaded` models, or the one that is loading.
    `reason` is why it has this precision on this device, and `error` why no model is loaded. `replicas` is how many
    replicas are ready, or None without replicas. `decode` is "eager" or "graphs", and `decode_reason` how many graphs
    there are or why there are none; `rows` is how many answers each replica generates at once. Until a model is loaded
    they are empty and 0."""

    status: Literal["loading", "ready", "failed"]
    model: str
    precision: str
    device: str
    waiting: int
    running: int
    reason: str = ""
    error: str = ""
    metrics: MetricsSnapshot = field(default_factory=MetricsSnapshot)
    load_progress: LoadEstimate | None = None
    replicas: int | None = None
    loaded: tuple[str, ...] = ()
    decode: str = ""
    decode_reason: str = ""
    rows: int = 0


class EngineProtocol(Protocol):
    """An engine, which answers requests with the models that it offers."""

    @property
    def specs(self) -> Mapping[str, ModelSpec]:
        """The models that users may choose, by name, the default first."""

    @property
    def default(self) -> ModelSpec:
        """The model of a request that names none."""

    @property
    def replicas(self) -> int:
        """The number of engines behind this one, by which an app multiplies its limits."""

    def start(self) -> None:
        """Start loading and answering; returns at once."""

    def stop(self) -> None:
        """End every answer with a `BusyError`, and free all resources."""

    def status(self) -> EngineStatus:
        """A consistent snapshot of the state."""

    def submit(self, request: Request) -> ResponseStream:
        """Queue a request. Raises `UserError` if it cannot be answered, `BusyError` if the queue is full."""

    def resolve_model(self, model: str, language: str) -> ModelSpec:
        """The spec of `model`, or the default if empty. Raises `UserError` if it does not support the language."""

    def budget(self, *, prompt: str, language: str, turns: Sequence[Turn], model: str, max_new_tokens: int) -> Budget:
        """How a prompt would fill the window of a model, loaded or not. Raises `UserError` if it is too long."""

    def fitting_precisions(self, spec: ModelSpec) -> tuple[str, ...] | None:
        """The precisions in which a model fits this machine if all others are unloaded; None if not known yet."""
