"""One engine for each of several GPUs, and the choice of the engine for each request.

Every engine has its own models and caches. A request goes to the one with the fewest unfinished requests; one that has
encoded the image, and maybe the beginning of the conversation, is preferred while it has a free row. Depends on
`EngineProtocol` only, so the engines may be threads or processes; must not import torch or an app.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from blip_space.catalogue import ModelSpec
from blip_space.engine.request import Budget, Request
from blip_space.errors import BusyError, DeviceError, ModelError, UserError
from blip_space.history import Turn
from blip_space.reasons import Reason
from blip_space.serving.metrics import sum_metrics
from blip_space.serving.protocol import EngineProtocol, EngineStatus
from blip_space.serving.response import ResponseStream

Result = TypeVar("Result")

KNOWN_IMAGE = 8
"""How many more unfinished requests than another an engine may have, and still get one about an image that it knows.
The other would encode the image and prefill the conversation again, which costs less than a long wait."""

MAX_IMAGES = 4_096
"""Of so many images, the last ones, it is remembered which engine knows them."""


@dataclass(eq=False)
class _Member:
    """An engine, and its unfinished requests: those that it prepares now, and the responses of the others."""

    engine: EngineProtocol
    preparing: int = 0
    responses: list[ResponseStream] = field(default_factory=list)

    def count_unfinished(self) -> int:
        self.responses = [response for response in self.responses if not response.done]
        return self.preparing + len(self.responses)


class RoutedEngine:
    """An `EngineProtocol` in front of an engine for each device."""

    def __init__(self, engines: Mapping[str, EngineProtocol]) -> None:
        """`engines` are by the names of their devices, and offer the same models."""
        self._members = {device: _Member(engine) for device, engine in engines.items()}
        first = next(iter(engines.values()))
        self.specs, self.default = first.specs, first.default
        self.replicas = sum(engine.replicas for engine in engines.values())
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()
        """The device whose engine knows an image, by model and digest."""

        self._lock = threading.Lock()

    def start(self) -> None:
        """Start every engine."""
        for member in self._members.values():
            member.engine.start()

    def stop(self) -> None:
        """Stop every engine, all at once, since each may wait for its thread or process."""
        threads = [threading.Thread(target=member.engine.stop) for member in self._members.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def status(self) -> EngineStatus:
        """The status of the first ready engine, with the counts, metrics and devices of all."""
        return combine(
            {device: member.engine.status() for device, member in self._members.items()}, "GPUs", self.replicas
        )

    def submit(self, request: Request) -> ResponseStream:
        """See `EngineProtocol`. Refused only if every engine refuses it."""
        refused: UserError | None = None
        for device in self._by_preference(request):
            try:
                return self._submit_to(device, request)
            except (BusyError, DeviceError, ModelError) as error:
                refused = refused or error
        assert refused is not None
        raise refused

    def resolve_model(self, model: str, language: str) -> ModelSpec:
        """See `EngineProtocol`. A model is refused only if it failed to load on every device."""
        return self._first(lambda engine: engine.resolve_model(model, language))

    def budget(self, *, prompt: str, language: str, turns: Sequence[Turn], model: str, max_new_tokens: int) -> Budget:
        """See `EngineProtocol`; the same on every device, so the first one that answers is asked."""
        values: dict[str, Any] = {"prompt": prompt, "language": language, "turns": turns, "model": model}
        return self._first(lambda engine: engine.budget(**values, max_new_tokens=max_new_tokens))

    def fitting_precisions(self, spec: ModelSpec) -> tuple[str, ...] | None:
        """See `EngineProtocol`; those that fit every device whose memory is known."""
        known = [
            found for item in self._members.values() if (found := item.engine.fitting_precisions(spec)) is not None
        ]
        return tuple(name for name in known[0] if all(name in others for others in known)) if known else None

    def _first(self, ask: Callable[[EngineProtocol], Result]) -> Result:
        """What the first engine says that has the model and a process. Raises the first one's error if none has."""
        refused: ModelError | None = None
        for member in self._members.values():
            try:
                return ask(member.engine)
            except ModelError as error:
                refused = refused or error
        assert refused is not None
        raise refused

    def _submit_to(self, device: str, request: Request) -> ResponseStream:
        member, image = self._members[device], (request.model, request.image.digest)
        with self._lock:
            member.preparing += 1
            self._known[image] = device
            self._known.move_to_end(image)
            if len(self._known) > MAX_IMAGES:
                self._known.popitem(last=False)
        try:
            response = member.engine.submit(request)  # decodes the image, which takes a while
            with self._lock:
                member.responses.append(response)
        finally:
            with self._lock:
                member.preparing -= 1
        return response

    def _by_preference(self, request: Request) -> list[str]:
        """The devices in the order in which their engines are tried."""
        states = {device: member.engine.status() for device, member in self._members.items()}
        model = request.model or self.default.name
        with self._lock:
            unfinished = {device: member.count_unfinished() for device, member in self._members.items()}
            knowing = self._known.get((request.model, request.image.digest))

        def cost(device: str) -> tuple[bool, int]:
            state, count = states[device], unfinished[device]
            # an engine without the model loads it, and unloads another for it, once all others have no row left
            missing = 0 if model in state.loaded else max(item.rows for item in states.values())
            gain = KNOWN_IMAGE if device == knowing and count < state.rows else 0
            return state.status == "failed", count + missing - gain

        return sorted(self._members, key=cost)


def combine(states: Mapping[str, EngineStatus], noun: str, total: int) -> EngineStatus:
    """The status of the first ready engine, else of one that loads, with the counts, metrics and devices of all. `noun`
    is what the `total` engines are to users, in the plural."""
    ready = [state for state in states.values() if state.status == "ready"]
    loading = [state for state in states.values() if state.status == "loading"]
    first = next(iter(ready or loading or states.values()))
    failed = [f"{name}: {state.error}" for name, state in states.items() if state.status == "failed"]
    counted = Reason(f"{len(ready)} of {total} {noun} are ready", "replicas", ready=len(ready), total=total)
    return replace(
        first,
        device=", ".join(dict.fromkeys(state.device for state in ready)),
        waiting=sum(state.waiting for state in states.values()),
        running=sum(state.running for state in states.values()),
        reason=Reason.joined([first.reason, counted, *failed]) if ready else first.reason,
        metrics=sum_metrics([state.metrics for state in ready]),
        replicas=len(ready),
        loaded=tuple(dict.fromkeys(name for state in states.values() for name in state.loaded)),
    )
