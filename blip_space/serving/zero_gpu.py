"""Answers requests on ZeroGPU, where a Space has a GPU only inside functions that `spaces.GPU` decorates.

Such a function runs in a forked process, which inherits the models but no threads, so each call drives the core of its
model itself, without graphs. There are no batches: the quota of a call is that of the user whose Gradio event it is in.
The only importer of `spaces`, which has to be imported before CUDA is used; must not import torch at module level.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from blip_space.catalogue import ModelSpec
from blip_space.engine.output import ANSWER_FAILED, Output
from blip_space.engine.pixel_cache import PixelCache
from blip_space.engine.request import Budget, EngineConfig, PreparedRequest, Request, measure_budget, prepare
from blip_space.errors import BusyError, UserError
from blip_space.history import Turn
from blip_space.serving.metrics import Metrics
from blip_space.serving.offered_models import OfferedModels
from blip_space.serving.preparations import LoadPreparation, Preparations
from blip_space.serving.protocol import (
    STOPPED_RUNNING,
    STOPPING,
    EngineStatus,
    open_response,
    queue_full,
)
from blip_space.serving.publishing import publish
from blip_space.serving.response import ResponseStream
from blip_space.settings import zero_gpu as settings

if TYPE_CHECKING:
    from blip_space.engine.core import EngineCore

log = logging.getLogger(__name__)

DEVICE = "cuda:0"
START_SECONDS, TOKEN_SECONDS, MAX_SECONDS = 15, 0.1, 120
"""What a call asks for: to move a model to the GPU, for each token, and at most."""

BATCHES_UNSUPPORTED = (
    "This Space has a GPU for one question at a time, so it takes no batches. Ask about the images one by one."
)

Load = Callable[[ModelSpec, str], Any]

_models: dict[str, Any] = {}
"""The loaded models by name, which a forked process inherits."""

_cores: dict[str, EngineCore] = {}
"""A forked process' cores by the names of their models. They last as long as it does, with their caches."""


class ZeroGpuEngine:
    """An `EngineProtocol` whose requests are answered one by one in the processes of `spaces`."""

    replicas = 1

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        *,
        precision: str = "auto",
        config: EngineConfig | None = None,
        load: Load | None = None,
        load_preparation: LoadPreparation | None = None,
    ) -> None:
        """Load every model, on the main thread and before Gradio starts, as `spaces` needs it. Raises `UserError` if
        one cannot be loaded. `load` and `load_preparation` replace the loader in tests."""
        import spaces

        settings.load_in_one_thread()
        self._offered = OfferedModels(specs)
        self.specs, self.default = self._offered.specs, self._offered.default
        self._config = replace(config or EngineConfig(), graphs=False, fused=False).resolve()
        self._generate = spaces.GPU(_answer, duration=seconds_on_gpu)
        for spec in specs:
            _models[spec.name] = (load or _load)(spec, precision)
        self._pixels = PixelCache(self._config.pixel_cache_bytes)
        self._preparations = Preparations(specs, load_preparation)
        self._metrics, self._lock = Metrics(), threading.Lock()
        self._responses: list[ResponseStream] = []
        self._is_stopping = False

    def start(self) -> None:
        """See `EngineProtocol`. The models are loaded already."""

    def stop(self) -> None:
        """See `EngineProtocol`."""
        with self._lock:
            self._is_stopping, responses = True, list(self._responses)
        for response in responses:
            response.fail(BusyError(STOPPED_RUNNING))

    def status(self) -> EngineStatus:
        """See `EngineProtocol`. `spaces` has the queue, so that every request counts as running."""
        precision = _models[self.default.name].precision
        return EngineStatus(
            *("ready", self.default.name, precision.name, precision.device, 0, len(self._responses)),
            reason=precision.reason,
            metrics=self._metrics.snapshot(image_feature_hits=0, kv_prefix_hits=0, restarts=0),
            loaded=tuple(self.specs),
            decode="eager",
            decode_reason="off: each call has a process of its own on ZeroGPU",
            rows=1,
        )

    def submit(self, request: Request) -> ResponseStream:
        """See `EngineProtocol`. Raises `UserError` for a background request."""
        if request.background:
            raise UserError(BATCHES_UNSUPPORTED, detail="no_batches")
        spec, response = self.resolve_model(request.model, request.language), open_response(request, self._config)
        with self._lock:
            if self._is_stopping:
                raise BusyError(STOPPING, code="stopping")
            if len(self._responses) >= self._config.max_waiting:
                raise BusyError(queue_full(len(self._responses)))
            self._responses.append(response)
        try:
            prepared = prepare(request, self._preparations.get(spec), self._pixels)
            response.prompt_tokens = len(prepared.prompt)
            context = contextvars.copy_context()  # has Gradio's request, whose user's quota it takes
            threading.Thread(target=context.run, args=(self._run, prepared, response), daemon=True).start()
        except BaseException:
            self._forget(response)
            raise
        return response

    def resolve_model(self, model: str, language: str) -> ModelSpec:
        """See `EngineProtocol`."""
        return self._offered.resolve(model, language)

    def budget(self, *, prompt: str, language: str, turns: Sequence[Turn], model: str, max_new_tokens: int) -> Budget:
        """See `EngineProtocol`."""
        preparation = self._preparations.get(self.resolve_model(model, language))
        return measure_budget(preparation, prompt=prompt, language=language, turns=turns, max_new_tokens=max_new_tokens)

    def fitting_precisions(self, spec: ModelSpec) -> tuple[str, ...] | None:
        """See `EngineProtocol`: that in which it is loaded, as no other can be."""
        return (_models[spec.name].precision.name,)

    def _run(self, request: PreparedRequest, response: ResponseStream) -> None:
        """Publish the outputs of one call; closing it ends the work of the process."""
        started, tokens = time.monotonic(), 0
        outputs = self._generate(request, self._config)
        try:
            for output in outputs:
                if output.tokens > tokens:
                    self._metrics.add(output.tokens - tokens, [] if tokens else [time.monotonic() - started])
                tokens = output.tokens
                publish(response, output)
                if response.done:
                    break
        except Exception as error:
            response.fail(as_user_error(error))
        finally:
            response.fail(UserError(ANSWER_FAILED, code="internal_error"))  # does nothing after its end
            outputs.close()
            self._forget(response)

    def _forget(self, response: ResponseStream) -> None:
        with self._lock:
            self._responses.remove(response)


def seconds_on_gpu(request: PreparedRequest, _config: EngineConfig) -> int:
    """How long a call may have the GPU. A user's quota must cover it, whatever is used."""
    rows = 3 if request.options.quality == "best" else 1
    return min(MAX_SECONDS, round(START_SECONDS + TOKEN_SECONDS * request.options.max_new_tokens * rows))


def as_user_error(error: Exception) -> UserError:
    """What a user may read of an error: of the package `spaces` its sentence, for example about a quota."""
    if isinstance(error, UserError):
        return error
    if isinstance(sentence := getattr(error, "message", None), str) and type(error).__module__.startswith("gradio"):
        return BusyError(str(sentence))
    log.error("a call on ZeroGPU failed", exc_info=error)
    return UserError(ANSWER_FAILED, code="internal_error")


def _answer(request: PreparedRequest, config: EngineConfig) -> Generator[Output, None, None]:
    """The outputs for one request; in a process of its own on ZeroGPU."""
    core = _core(request.spec.name, config)
    request_id = core.add(request)
    try:
        while core.has_work:
            yield from _own(core.step(time.monotonic()), request_id)
    finally:
        core.cancel(request_id)


def _own(outputs: Sequence[Output], request_id: int) -> Iterator[Output]:
    return (output for output in outputs if output.id == request_id)


def _core(model: str, config: EngineConfig) -> EngineCore:
    from blip_space.engine.core import EngineCore
    from blip_space.models.threads import use_threads

    if model not in _cores:
        use_threads(_models[model].threads)
        _cores[model] = EngineCore(_models[model], config)
    return _cores[model]


def _load(spec: ModelSpec, precision: str) -> Any:
    from blip_space.loading.loader import load_model

    return load_model(spec, precision, device=DEVICE)
