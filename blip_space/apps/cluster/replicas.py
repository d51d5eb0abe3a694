"""Many engines behind one page, by Ray Serve: it starts them, replaces those that die and sends requests to them.

A picture goes to the same replica as long as that one lives, so that what was encoded and read of it is found again.
Knows Serve and what the page asks of an engine; knows no model.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, replace
from statistics import fmean
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import ProxyLocation, RequestRouterConfig
from ray.serve.exceptions import RayServeException

from blip_space.apps.cluster.connection import connect, share
from blip_space.apps.cluster.replica import Replica, Told
from blip_space.catalogue import ModelSpec
from blip_space.errors import BusyError, ModelError, UserError
from blip_space.inference.answer import Answer
from blip_space.inference.counters import Reading
from blip_space.inference.engine import Engine, Limits, Status
from blip_space.inference.request import Budget, Request
from blip_space.prompts import Turn

log = logging.getLogger(__name__)

NAME = "blip-space"
ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
MOST_ONGOING = 1_000
"""More than an engine takes on, so that it is the engine who says that it is busy."""

WATCH_SECONDS, PATIENCE_SECONDS = 1.0, 5.0
MOST_TRIES = 3
STARTING = "The server is starting its replicas. Try again in a minute."
LOST = "The answer was lost on its way from the machine that wrote it. Ask again."
FAILURES = (RayError, RayServeException, TimeoutError)


class Replicas(Engine):
    """What the page takes for one engine."""

    def __init__(
        self, address: str, specs: Sequence[ModelSpec], *, precision: str, limits: Limits, replicas: int | None = None
    ) -> None:
        """As many as the cluster has room for, where `replicas` does not say. `UserError` where there is no cluster."""
        super().__init__(specs, precision=precision, limits=limits)
        connect(address)
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        each = share(self.default)
        self.replicas = replicas or each.workers
        self._made = serve.deployment(
            Replica,
            num_replicas=self.replicas,
            ray_actor_options=each.resources(),
            max_ongoing_requests=MOST_ONGOING,
            request_router_config=RequestRouterConfig(request_router_class=ROUTER),
        ).bind(list(specs), precision, limits)
        self._handle: Any = None
        self._states: list[Status] = []
        self._ended = threading.Event()

    def start(self) -> None:
        """Start the replicas, and look after them from a thread."""
        self._thread = threading.Thread(target=self._watch, name="replicas", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End them, and leave the cluster."""
        self._ended.set()
        if self._thread:
            self._thread.join(timeout=PATIENCE_SECONDS)
        with suppress(RayServeException):  # none has been started yet
            serve.delete(NAME)
        ray.shutdown()

    def status(self) -> Status:
        """One that answers for all, with their numbers together."""
        states = self._states
        ready = [state for state in states if state.status == "ready"]
        first = next(iter(ready or states), None)
        if first is None:
            return replace(super().status(), replicas=0)
        return replace(
            first,
            waiting=sum(state.waiting for state in states),
            running=sum(state.running for state in states),
            reason=f"{first.reason}; {len(ready)} of {self.replicas} replicas are ready",
            reading=_together([state.reading for state in ready]),
            replicas=len(ready),
        )

    def submit(self, request: Request) -> Answer:
        """Send it to a replica. What that one refuses, its busy line among it, ends the answer."""
        self.choose(request.model, request.language)
        if not self._states:
            raise BusyError(STARTING)
        answer = self._promised(request)
        threading.Thread(target=self._relay, args=(request, answer), name="relay", daemon=True).start()
        return answer

    def budget(self, *, prompt: str, language: str, turns: Sequence[Turn], model: str, max_new_tokens: int) -> Budget:
        """As a replica counts it."""
        asked = {"prompt": prompt, "language": language, "turns": turns, "model": model}
        found: Budget | UserError | None = self._ask("budget", **asked, max_new_tokens=max_new_tokens)
        if found is None:
            raise ModelError(STARTING)
        if isinstance(found, UserError):
            raise found
        return found

    def fitting(self, spec: ModelSpec) -> tuple[str, ...] | None:
        """As a replica finds its machine."""
        found: tuple[str, ...] | None = self._ask("fitting", spec)
        return found

    def _ask(self, name: str, *values: Any, **named: Any) -> Any:
        """What one of them says; None where none does."""
        if not self._states:
            return None
        try:
            return self._handle.options(method_name=name).remote(*values, **named).result(timeout_s=PATIENCE_SECONDS)
        except FAILURES as error:
            log.warning("a replica did not answer: %s", type(error).__name__)
            return None

    def _relay(self, request: Request, answer: Answer) -> None:
        """Follow the answer; when its replica dies, from the beginning at another."""
        for _ in range(MOST_TRIES):
            try:
                self._follow(request, answer)
            except FAILURES as error:
                log.warning("an answer is begun again at another replica: %s", type(error).__name__)
            except Exception:
                log.exception("an answer failed on its way from a replica")
                break
            else:
                return
        answer.fail(UserError(LOST))

    def _follow(self, request: Request, answer: Answer) -> None:
        response = self._handle.options(method_name="answer", stream=True, session_id=request.image.digest)
        coming, told = response.remote(request), Told()
        answer.place = lambda: told.place
        for told in coming:
            if answer.over:
                coming.cancel()
                return
            if told.error:
                answer.fail(told.error)
                return
            answer.tokens, answer.repeats = told.tokens, told.repeats
            answer.show(told.text)
        answer.finish()

    def _watch(self) -> None:
        serve.start(proxy_location=ProxyLocation.Disabled)
        target = serve.RunTarget(self._made, name=NAME, route_prefix=None)
        (self._handle,) = serve.run_many([target], wait_for_applications_running=False)
        while not self._ended.wait(WATCH_SECONDS):
            try:
                found = self._handle.broadcast("status").results(timeout_s=PATIENCE_SECONDS, return_exceptions=True)
            except FAILURES:
                found = []
            self._states = [state for state in found if isinstance(state, Status)]


def _together(readings: Sequence[Reading]) -> Reading:
    """Sums, and the mean of the waits for a first token."""
    waits = [reading.first_token_seconds for reading in readings if reading.first_token_seconds is not None]
    sums = {field.name: sum(getattr(one, field.name) or 0 for one in readings) for field in fields(Reading)}
    return replace(Reading(**sums), first_token_seconds=round(fmean(waits), 3) if waits else None)
