"""Engines of different models as one: those of this machine, and remote ones.

Depends on `EngineProtocol` only; must not import torch or an app.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from blip_space.catalogue import ModelSpec
from blip_space.engine.request import Budget, Request
from blip_space.history import Turn
from blip_space.serving.metrics import sum_metrics
from blip_space.serving.offered_models import OfferedModels
from blip_space.serving.protocol import EngineProtocol, EngineStatus
from blip_space.serving.response import ResponseStream


class JoinedEngine:
    """An `EngineProtocol` in front of engines that offer different models."""

    def __init__(self, engines: Sequence[EngineProtocol], names: Sequence[str]) -> None:
        """`names` are those of all models, in the order in which users see them, the default first."""
        self._engines = {name: engine for engine in engines for name in engine.specs}
        self._all = list(engines)
        self._offered = OfferedModels([self._engines[name].specs[name] for name in names])
        self.specs, self.default = self._offered.specs, self._offered.default
        self._last = self._engines[self.default.name]
        """The engine of the last request, whose model the status names."""

    @property
    def replicas(self) -> int:
        """See `EngineProtocol`."""
        return sum(engine.replicas for engine in self._all)

    def start(self) -> None:
        """Start every engine."""
        for engine in self._all:
            engine.start()

    def stop(self) -> None:
        """Stop every engine, all at once, since each may wait for its thread or process."""
        threads = [threading.Thread(target=engine.stop) for engine in self._all]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def status(self) -> EngineStatus:
        """The status of the engine that was used last, or else of one that is ready, with the counts of all."""
        states = [engine.status() for engine in self._all]
        last = states[self._all.index(self._last)]
        usable = (state for state in (last, *states) if state.status == "ready")
        return replace(
            next(usable, last),
            waiting=sum(state.waiting for state in states),
            running=sum(state.running for state in states),
            metrics=sum_metrics([state.metrics for state in states]),
            loaded=tuple(name for state in states for name in state.loaded),
            rows=max(state.rows for state in states),
        )

    def submit(self, request: Request) -> ResponseStream:
        """See `EngineProtocol`."""
        engine = self._find(request.model)
        response = engine.submit(request)
        self._last = engine
        return response

    def resolve_model(self, model: str, language: str) -> ModelSpec:
        """See `EngineProtocol`."""
        spec = self._offered.find(model)
        return self._find(model).resolve_model(spec.name, language)

    def budget(self, *, prompt: str, language: str, turns: Sequence[Turn], model: str, max_new_tokens: int) -> Budget:
        """See `EngineProtocol`."""
        spec = self._offered.find(model)
        return self._find(model).budget(
            prompt=prompt, language=language, turns=turns, model=spec.name, max_new_tokens=max_new_tokens
        )

    def fitting_precisions(self, spec: ModelSpec) -> tuple[str, ...] | None:
        """See `EngineProtocol`."""
        return self._find(spec.name).fitting_precisions(spec)

    def _find(self, model: str) -> EngineProtocol:
        return self._engines[self._offered.find(model).name]
