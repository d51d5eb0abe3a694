"""An engine in front of many replicas. Ray Serve starts them, replaces dead ones and routes requests to them.

Requests for one image go to the same replica as long as it lives, so that its cached features are reused. Depends on
Ray Serve and `EngineProtocol`; must not import a model.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import ProxyLocation, RequestRouterConfig
from ray.serve.exceptions import RayServeException

from blip_space.apps.cluster.connection import connect, resources_per_worker
from blip_space.apps.cluster.replica import EngineReplica, PartialResponse
from blip_space.catalogue import ModelSpec
from blip_space.engine.request import Budget, EngineConfig, Request
from blip_space.errors import BusyError, ModelError, UserError
from blip_space.history import Turn
from blip_space.images import ImageFile
from blip_space.images.uploaded import UploadedImageFile
from blip_space.serving.offered_models import OfferedModels
from blip_space.serving.protocol import STOPPING, EngineStatus, open_response, stopped
from blip_space.serving.response import ResponseStream
from blip_space.serving.routed import combine

log = logging.getLogger(__name__)

NAME = "blip-space"
ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
MAX_ONGOING = 1_000
"""More requests than an engine accepts, so that the engine, not Ray Serve, reports a full queue."""

WATCH_SECONDS, TIMEOUT_SECONDS, RETRY_SECONDS = 1.0, 5.0, 10.0
END_SECONDS = 1.0
"""How long a replica may still answer when the engine stops, for which the server has waited already (`--drain`)."""

MAX_ATTEMPTS = 3
STARTING = "The server is starting its replicas. Try again in a minute."
NOT_STARTED = "The replicas did not start; the server's log says why. The server keeps trying."
ANSWER_LOST = "The connection to the machine that generated this answer was lost. Ask again."
FAILURES = (RayError, RayServeException, TimeoutError)


class ReplicatedEngine:
    """An `EngineProtocol` in front of as many engines as there are replicas."""

    def __init__(
        self,
        address: str,
        specs: Sequence[ModelSpec],
        *,
        precision: str,
        config: EngineConfig,
        device: str = "auto",
        replicas: int | None = None,
    ) -> None:
        """By default there are as many replicas as the cluster has room for. Raises `UserError` without a cluster."""
        self._offered = OfferedModels(specs)
        self.specs, self.default = self._offered.specs, self._offered.default
        self._precision, self._config = precision, config
        connect(address)
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        resources = resources_per_worker(self.default, device)
        self.replicas = replicas or resources.workers
        self._application = serve.deployment(
            EngineReplica,
            num_replicas=self.replicas,
            ray_actor_options=resources.ray_options,
            max_ongoing_requests=MAX_ONGOING,
            request_router_config=RequestRouterConfig(request_router_class=ROUTER),
            graceful_shutdown_wait_loop_s=END_SECONDS / 10,
            graceful_shutdown_timeout_s=END_SECONDS,
        ).bind(list(specs), precision, config, device)
        self._handle: Any = None
        self._states: list[EngineStatus] = []
        self._error = ""
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread that starts the replicas and polls their status."""
        self._thread = threading.Thread(target=self._watch, name="replicas", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the replicas and disconnect from the cluster. Running answers end with a `BusyError`."""
        self._stopped.set()
        if self._thread:
            self._thread.join(timeout=TIMEOUT_SECONDS)
        with suppress(RayServeException):  # no replica was started
            if ray.is_initialized():  # else Serve searches for the cluster for a minute
                serve.delete(NAME)
        ray.shutdown()

    def status(self) -> EngineStatus:
        """The status of the first ready replica, with the counts and metrics of all."""
        states, error = self._states, self._error
        if not states:
            state = EngineStatus("loading", self.default.name, self._precision, "", 0, 0, replicas=0)
            return replace(state, status="failed", error=error) if error else state
        return combine({f"replica {index}": state for index, state in enumerate(states)}, "replicas", self.replicas)

    def resolve_model(self, model: str, language: str) -> ModelSpec:
        """See `EngineProtocol`; only the replicas know whether a model loads."""
        return self._offered.resolve(model, language)

    def submit(self, request: Request) -> ResponseStream:
        """See `EngineProtocol`. An error of the replica, such as a full queue, ends the response."""
        self.resolve_model(request.model, request.language)
        if self._stopped.is_set():
            raise BusyError(STOPPING, code="stopping")
        if not self._states:
            raise ModelError(self._error) if self._error else BusyError(STARTING)
        response = open_response(request, self._config)
        request = _encode_image(request)
        threading.Thread(target=self._forward, args=(request, response), name="forward", daemon=True).start()
        return response

    def budget(self, *, prompt: str, language: str, turns: Sequence[Turn], model: str, max_new_tokens: int) -> Budget:
        """See `EngineProtocol`; computed by a replica."""
        self.resolve_model(model, language)
        values = {"prompt": prompt, "language": language, "turns": turns, "model": model}
        budget: Budget | UserError | None = self._call("budget", **values, max_new_tokens=max_new_tokens)
        if budget is None:
            raise ModelError(self._error or STARTING)
        if isinstance(budget, UserError):
            raise budget
        return budget

    def fitting_precisions(self, spec: ModelSpec) -> tuple[str, ...] | None:
        """See `EngineProtocol`; for the machine of one replica."""
        precisions: tuple[str, ...] | None = self._call("fitting_precisions", spec)
        return precisions

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of any replica; returns None if there is none or it does not reply."""
        if not self._states:
            return None
        try:
            return self._handle.options(method_name=method).remote(*args, **kwargs).result(timeout_s=TIMEOUT_SECONDS)
        except FAILURES as error:
            log.warning("a replica did not reply: %s", type(error).__name__)
            return None

    def _forward(self, request: Request, response: ResponseStream) -> None:
        """Publish the answer of a replica; if the replica dies, request the answer again from another."""
        for _ in range(MAX_ATTEMPTS):
            if self._stopped.is_set():
                break
            try:
                self._follow(request, response)
            except FAILURES as error:
                log.warning("a request is restarted at another replica: %s", type(error).__name__)
            except Exception:
                log.exception("forwarding an answer from a replica failed")
                break
            else:
                return
        response.fail(stopped(was_running=True) if self._stopped.is_set() else UserError(ANSWER_LOST))

    def _follow(self, request: Request, response: ResponseStream) -> None:
        """Publish a replica's answer as it arrives, then cancel the stream: a replica goes on with a dropped stream."""
        parts = self._handle.options(method_name="answer", stream=True, session_id=request.image.digest).remote(request)
        part = PartialResponse()
        response.queue_position = lambda: part.queue_position
        try:
            for part in parts:
                if response.done:
                    return
                if part.error:
                    response.fail(part.error)
                    return
                response.tokens, response.repeats = part.tokens, part.repeats
                response.publish(part.text)
            response.prompt_tokens = part.prompt_tokens
            response.publish(part.text, finished=True)
        finally:
            _cancel_stream(parts)

    def _watch(self) -> None:
        """Start the replicas, retrying until that works, then poll their status once a second."""
        while not self._stopped.is_set():
            try:
                serve.start(proxy_location=ProxyLocation.Disabled)
                target = serve.RunTarget(self._application, name=NAME, route_prefix=None)
                (self._handle,) = serve.run_many([target], wait_for_applications_running=False)
            except Exception:
                log.exception("the replicas did not start; retrying in %.0f s", RETRY_SECONDS)
                self._error = NOT_STARTED
                self._stopped.wait(RETRY_SECONDS)
            else:
                self._error = ""
                break
        while not self._stopped.wait(WATCH_SECONDS):
            self._states = self._poll()

    def _poll(self) -> list[EngineStatus]:
        try:
            states = self._handle.broadcast("status").results(timeout_s=TIMEOUT_SECONDS, return_exceptions=True)
        except FAILURES:
            return []
        except Exception:
            log.exception("polling the replicas failed")
            return []
        return [state for state in states if isinstance(state, EngineStatus)]


def _cancel_stream(parts: Any) -> None:
    """Cancel a stream at its replica, unless the stream or the replica has already ended."""
    try:
        parts.cancel()
    except Exception as error:
        log.debug("a stream could not be cancelled: %s", type(error).__name__)


def _encode_image(request: Request) -> Request:
    """The request with its image encoded as a file, since pixels would be up to a hundred times as large."""
    if isinstance(request.image, UploadedImageFile):
        return replace(request, image=request.image.with_bytes())
    if isinstance(request.image, ImageFile):
        return request
    with request.image.open() as image, BytesIO() as file:
        image.pixels.save(file, "PNG")
        data = file.getvalue()
    return replace(request, image=ImageFile(data, max_bytes=len(data)))
