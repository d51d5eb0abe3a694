"""Observes every answer of an engine: what it was, how it ended, and how long it took; never its text or image.

The answers are observed where their readers are, so it is the same for an engine in this process, in another one, or on
a cluster. Depends on `EngineProtocol` only; must not import an app.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass

from blip_space.catalogue import ModelSpec
from blip_space.engine.request import Budget, Request
from blip_space.errors import BusyError, UserError
from blip_space.history import Turn
from blip_space.languages import LANGUAGES
from blip_space.serving.protocol import EngineProtocol, EngineStatus
from blip_space.serving.response import ResponseStream

log = logging.getLogger(__name__)
"""Has a line for each answer at level INFO. The server shows them with `--log-format json` only."""

BATCH = "batch"
TOO_MANY_ANSWERS = "You have {} answers running, the most at once. Wait for one to end, or stop it."

current_endpoint: ContextVar[str] = ContextVar("current_endpoint", default="")
"""The endpoint whose call is being handled, set by the app."""

current_client: ContextVar[str] = ContextVar("current_client", default="")
"""The key or address that a call's answers count for, set by the app; empty if unknown, for which no limit holds."""


@dataclass(frozen=True)
class Answer:
    """An answer that has ended. `outcome` is `answered`, `cancelled` or the code of an error; `model` and `language`
    are empty if there is none of that name. `first_token_seconds` is that of a streamed answer, queueing included."""

    id: int
    endpoint: str
    model: str
    language: str
    quality: str
    tokens: int
    seconds: float
    first_token_seconds: float | None
    outcome: str


class ObservedEngine:
    """An `EngineProtocol` in front of another one."""

    def __init__(self, engine: EngineProtocol, on_end: Callable[[Answer], object], *, answers_at_once: int = 0) -> None:
        """`on_end` is called at the end of each answer, on any thread. A client may have `answers_at_once`, or any
        number if 0; the answers of a batch do not count."""
        self._engine, self._on_end, self._at_once = engine, on_end, answers_at_once
        self.specs, self.default = engine.specs, engine.default
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        """How many answers each client has, if that is limited."""

    @property
    def replicas(self) -> int:
        """See `EngineProtocol`."""
        return self._engine.replicas

    def start(self) -> None:
        """See `EngineProtocol`."""
        self._engine.start()

    def stop(self) -> None:
        """See `EngineProtocol`."""
        self._engine.stop()

    def status(self) -> EngineStatus:
        """See `EngineProtocol`."""
        return self._engine.status()

    def submit(self, request: Request) -> ResponseStream:
        """See `EngineProtocol`. Raises `BusyError` as well if the client has too many answers."""
        observation = self._observe(request)
        try:
            client = self._admit(request)
            try:
                response = self._engine.submit(request)
            except BaseException:
                self._release(client)
                raise
        except Exception as error:
            observation.end(error.code if isinstance(error, UserError) else "internal_error")
            raise

        def end(ended: ResponseStream) -> None:
            self._release(client)
            observation.end(ended.outcome, ended.tokens, ended.first_text_at)

        response.observe(end)
        return response

    def resolve_model(self, model: str, language: str) -> ModelSpec:
        """See `EngineProtocol`."""
        return self._engine.resolve_model(model, language)

    def budget(self, *, prompt: str, language: str, turns: Sequence[Turn], model: str, max_new_tokens: int) -> Budget:
        """See `EngineProtocol`."""
        return self._engine.budget(
            prompt=prompt, language=language, turns=turns, model=model, max_new_tokens=max_new_tokens
        )

    def fitting_precisions(self, spec: ModelSpec) -> tuple[str, ...] | None:
        """See `EngineProtocol`."""
        return self._engine.fitting_precisions(spec)

    def _observe(self, request: Request) -> _Observation:
        model = request.model or self.default.name  # both values may still be anything
        return _Observation(
            id=next(self._ids),
            endpoint=BATCH if request.background else current_endpoint.get(),
            model=next((name for name in self.specs if name == model), ""),
            language=next((code for code in LANGUAGES if code == request.language), ""),
            quality=request.options.quality,
            started_at=time.monotonic(),
            on_end=self._on_end,
        )

    def _admit(self, request: Request) -> str:
        """Count an answer for its client, whose name is returned; empty if it is not limited."""
        client = "" if request.background or not self._at_once else current_client.get()
        if client:
            with self._lock:
                if self._running[client] >= self._at_once:
                    raise BusyError(TOO_MANY_ANSWERS.format(self._at_once), code="too_many_requests")
                self._running[client] += 1
        return client

    def _release(self, client: str) -> None:
        if client:
            with self._lock:
                self._running[client] -= 1
                if not self._running[client]:
                    del self._running[client]


@dataclass(frozen=True)
class _Observation:
    """An answer that has not ended; it keeps nothing of the request's image and text."""

    id: int
    endpoint: str
    model: str
    language: str
    quality: str
    started_at: float
    on_end: Callable[[Answer], object]

    def end(self, outcome: str, tokens: int = 0, first_text_at: float | None = None) -> None:
        """Report the answer to the log and to `on_end`."""
        is_streamed = self.quality == "stream" and self.endpoint != BATCH and first_text_at is not None
        answer = Answer(
            *(self.id, self.endpoint, self.model, self.language, self.quality, tokens),
            seconds=time.monotonic() - self.started_at,
            first_token_seconds=(first_text_at or 0.0) - self.started_at if is_streamed else None,
            outcome=outcome,
        )
        log.info("answer %d: %s", answer.id, outcome, extra={"answer": as_fields(answer)})
        self.on_end(answer)


def as_fields(answer: Answer) -> Mapping[str, object]:
    """The fields of an answer's line in the log."""
    fields = asdict(answer)
    for name in ("seconds", "first_token_seconds"):
        fields[name] = None if fields[name] is None else round(fields[name], 3)
    return fields
