"""Many visitors, one model: a bounded waiting line in front of one worker thread that owns the model.

Knows requests, threads and time; knows no tensor and no page. torch is imported by the worker, so that the page is
up before it. Nobody else calls the model while serving, except to count tokens, which needs no torch.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from blip_space.catalogue import ModelSpec
from blip_space.errors import BusyError, ModelError, UserError
from blip_space.inference import loop
from blip_space.inference.answer import Answer
from blip_space.inference.request import Budget, Request, measured, refuse_foreign
from blip_space.prompts import Turn

if TYPE_CHECKING:
    from blip_space.model.blip2 import Blip2
    from blip_space.model.features import PrefixCache

log = logging.getLogger(__name__)

Load = Callable[[ModelSpec, str], "Blip2"]


@dataclass(frozen=True)
class Limits:
    """How much the engine takes on: requests in line, seconds for one answer, bytes of image prefixes kept."""

    max_waiting: int = 32
    deadline_seconds: float = 300.0
    prefix_cache_bytes: int = 64_000_000


@dataclass(frozen=True)
class Status:
    """How the engine is. `reason` says why this precision on this device, `error` why there is no model."""

    status: Literal["loading", "ready", "failed"]
    model: str
    precision: str
    device: str
    waiting: int
    running: int
    reason: str = ""
    error: str = ""


class Engine:
    """Answers requests for one of a few models, of which one is resident at a time."""

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        *,
        precision: str = "auto",
        load: Load | None = None,
        limits: Limits | None = None,
    ) -> None:
        """`specs` are the models that visitors may choose, the default first; `load` is the model room's by default."""
        self.specs = {spec.name: spec for spec in specs}
        self.default = specs[0]
        self._precision = precision
        self._load = load or _load
        self._limits = limits or Limits()
        self._line: deque[tuple[Request, ModelSpec, Answer]] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._running = 0
        self._model: Blip2 | None = None
        self._loading = self.default.name
        self._failures = {spec.name: spec.fault for spec in specs if spec.fault}
        self._worker = threading.Thread(target=self._work, name="engine", daemon=True)

    def start(self) -> None:
        """Start the worker, which loads the default model and then answers."""
        self._worker.start()

    def stop(self) -> None:
        """End the answer in hand and those in line, and wait for the worker."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._worker.is_alive():
            self._worker.join(timeout=10)

    def status(self) -> Status:
        """The state as `/healthz` and the page tell it."""
        model, error = self._model, self._failures.get(self.default.name, "")
        with self._changed:
            waiting, running = len(self._line), self._running
        if model is not None and not self._loading:
            chosen = model.precision
            return Status("ready", model.spec.name, chosen.name, chosen.device, waiting, running, chosen.reason)
        state: Literal["loading", "failed"] = "loading" if self._loading else "failed"
        return Status(state, self._loading or self.default.name, self._precision, "", waiting, running, error=error)

    def submit(self, request: Request) -> Answer:
        """Put a request in line. `UserError` at once when it cannot be answered, `BusyError` when the line is full."""
        spec = self._spec(request.model)
        refuse_foreign(spec, request.language)
        answer = Answer(deadline=time.monotonic() + self._limits.deadline_seconds)
        with self._changed:
            if self._stopping:
                raise BusyError("The server is stopping. Try again when it is back.")
            if len(self._line) >= self._limits.max_waiting:
                raise BusyError(f"The server is busy: {len(self._line)} questions are waiting. Try again in a minute.")
            self._line.append((request, spec, answer))
            self._changed.notify_all()
        return answer

    def budget(self, *, prompt: str, language: str, turns: Sequence[Turn], model: str, max_new_tokens: int) -> Budget:
        """How a prompt would fill the window of the resident model; `UserError` while another or none is loaded."""
        spec, resident = self._spec(model), self._model
        refuse_foreign(spec, language)
        if resident is None or resident.spec.name != spec.name:
            raise ModelError(f"{spec.name} is not loaded yet, so its tokens cannot be counted. Try again when it is.")
        return measured(resident, prompt=prompt, language=language, turns=turns, max_new_tokens=max_new_tokens)

    def _spec(self, name: str) -> ModelSpec:
        spec = self.specs.get(name or self.default.name)
        if spec is None:
            raise ModelError(f"There is no model {name[:80]!r} here. Choose among {', '.join(self.specs)}.")
        if error := self._failures.get(spec.name):
            raise ModelError(error)
        return spec

    def _work(self) -> None:
        prefixes = self._open()
        while (job := self._next()) is not None:
            request, spec, answer = job
            try:
                self._write(self._resident(spec), request, answer, prefixes)
            except UserError as error:
                answer.fail(error)
            except Exception:
                log.exception("a request failed")
                answer.fail(
                    UserError("The answer failed through a fault of the server, which is in its log. Try again.")
                )
            finally:
                with self._changed:
                    self._running = 0

    def _open(self) -> PrefixCache:
        from blip_space.model.features import PrefixCache

        try:
            self._resident(self.default)
        except ModelError:
            log.error("%s", self._failures[self.default.name])
        return PrefixCache(max_bytes=self._limits.prefix_cache_bytes)

    def _next(self) -> tuple[Request, ModelSpec, Answer] | None:
        with self._changed:
            while not self._stopping:
                while self._line:
                    request, spec, answer = self._line.popleft()
                    if not answer.over:
                        self._running = 1
                        return request, spec, answer
                self._changed.wait()
            for _, _, answer in self._line:
                answer.fail(BusyError("The server stopped before this was answered. Ask again when it is back."))
            self._line.clear()
            return None

    def _write(self, model: Blip2, request: Request, answer: Answer, prefixes: PrefixCache) -> None:
        def should_stop() -> bool:
            return answer.over or self._stopping

        for text in loop.answer(model, request, prefixes=prefixes, should_stop=should_stop):
            answer.show(text)
            if should_stop():
                break
        else:
            answer.finish()
        if self._stopping:
            answer.fail(BusyError("The server stopped during this answer. Ask again when it is back."))

    def _resident(self, spec: ModelSpec) -> Blip2:
        """The model in memory, exchanged first if another is asked for; the old one comes back when that fails."""
        if self._model is not None and self._model.spec.name == spec.name:
            return self._model
        before, self._loading = self._model, spec.name
        try:
            self._exchange(spec)
        except UserError as error:
            self._failures[spec.name] = str(error)
            if before is not None:
                self._exchange(before.spec)
            raise
        finally:
            self._loading = ""
        assert self._model is not None
        return self._model

    def _exchange(self, spec: ModelSpec) -> None:
        if self._model is not None:
            old, self._model = self._model, None
            old.close()
        if spec.fault:
            raise ModelError(spec.fault)
        started = time.monotonic()
        try:
            model = self._load(spec, self._precision)
        except UserError:
            raise
        except Exception as error:
            log.exception("%s did not load", spec.name)
            raise ModelError(f"{spec.name} did not load, for a reason that is in the server's log.") from error
        self._model = model
        seconds = time.monotonic() - started
        chosen = model.precision
        log.info(
            "%s is ready after %.1f s, in %s on %s: %s", spec.name, seconds, chosen.name, chosen.device, chosen.reason
        )


def _load(spec: ModelSpec, precision: str) -> Blip2:
    from blip_space.model import loader

    return loader.load(spec, precision)
