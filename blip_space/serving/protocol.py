"""What an engine is to the apps in front of it: a thread here, replicas on other machines, a fake in tests.

Depends on requests and responses only, so that the page is up before torch is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from blip_space.catalogue import ModelSpec
from blip_space.engine.request import Budget, Request
from blip_space.history import Turn
from blip_space.serving.load_progress import LoadEstimate
from blip_space.serving.metrics import MetricsSnapshot
from blip_space.serving.response import ResponseStream

STOPPING = "The server is stopping. Try again when it is back."
STOPPED_RUNNING = "The server stopped during this answer. Ask again when it is back."
STOPPED_WAITING = "The server stopped before this was answered. Ask again when it is back."


def queue_full(waiting: int) -> str:
    """The sentence of a `BusyError` where so many requests wait already."""
    return f"The server is busy: {waiting} questions are waiting. Try again in a minute."


@dataclass(frozen=True)
class EngineStatus:
    """How an engine is. `model` is the most recently used one of those that are `loaded`; `reason` says why it has this
    precision on this device, `error` why there is no model, `metrics` how fast the engine is and what it did not
    compute twice, `load_progress` how far a model's loading is, `replicas` how many engines are ready where there are
    several."""

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


class EngineProtocol(Protocol):
    """Answers requests for one of a few models."""

    @property
    def specs(self) -> Mapping[str, ModelSpec]:
        """The models that users may choose, by name, the default first."""

    @property
    def default(self) -> ModelSpec:
        """The model of a request that names none."""

    @property
    def replicas(self) -> int:
        """How many engines there are behind this one: what an app lets in at once is so many times as much."""

    def start(self) -> None:
        """Begin to load and to answer; returns at once."""

    def stop(self) -> None:
        """End every answer with a `BusyError`, and free what there is."""

    def status(self) -> EngineStatus:
        """How it is, of one moment."""

    def submit(self, request: Request) -> ResponseStream:
        """Put a request in the queue. `UserError` where it cannot be answered, `BusyError` where the queue is full."""

    def resolve_model(self, model: str, language: str) -> ModelSpec:
        """The model of that name, the default for an empty one. `UserError` where it cannot answer in the language."""

    def budget(self, *, prompt: str, language: str, turns: Sequence[Turn], model: str, max_new_tokens: int) -> Budget:
        """How a prompt would fill the model's window, loaded or not. `UserError` where it cannot be sent."""

    def fitting_precisions(self, spec: ModelSpec) -> tuple[str, ...] | None:
        """The precisions in which the model fits the machine once the others have left; None where nobody knows yet."""
