"""Loads models, each with a core of its own, and unloads the least recently used one if another needs the memory.

Every model that fits stays. Only the engine's thread loads and closes, and only while nothing runs; any thread may read
`loaded`. Must not import requests or queues.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blip_space.catalogue import ModelSpec
from blip_space.engine.request import EngineConfig
from blip_space.errors import ModelError, UserError
from blip_space.loading.device_errors import as_device_error, is_device_lost
from blip_space.serving.load_progress import LoadProgress
from blip_space.serving.machine import Machine
from blip_space.serving.preparations import import_model_libraries

if TYPE_CHECKING:  # the page is up before torch is imported
    from blip_space.engine.core import EngineCore
    from blip_space.loading.device import Device

log = logging.getLogger(__name__)

Load = Callable[[ModelSpec, str, LoadProgress], Any]
FindMemory = Callable[[], "tuple[Device, int | None]"]
"""Returns the device of the next model, and its free bytes, or None if the system does not report them."""

Release = Callable[["EngineCore"], None]

UNEXPECTED = "{} did not load; the server's log says why."
HEADROOM = 1.25
"""The free memory that a model needs beside others, relative to its weights: keys and values take memory too, and on a
CPU the process is killed when it runs out."""


@dataclass(eq=False)
class LoadedModel:
    """A core, the size of its weights in bytes, until when it must stay, and its last use, as an increasing number."""

    name: str
    core: EngineCore
    nbytes: int
    stays_until: float
    last_used: int

    @property
    def held_bytes(self) -> int:
        """The bytes that unloading the model frees."""
        return self.nbytes + self.core.cached_bytes


@dataclass(frozen=True)
class Failure:
    """Why a model did not load, and until when no other attempt is made."""

    message: str
    until: float


class ModelManager:
    """Owns the models in memory."""

    def __init__(
        self,
        precision: str,
        config: EngineConfig,
        *,
        machine: Machine | None = None,
        load: Load | None = None,
        find_memory: FindMemory | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`load`, `find_memory` and `clock` (in seconds) replace the machine's loader, its free memory and the clock in
        tests."""
        self.precision = precision
        self.loading = ""
        """The name of the model that is being loaded, if any."""

        self.progress = LoadProgress()
        """The progress of that load."""

        self.last_error = ""
        """Why the last load failed, if it did; empty after a success."""

        self.image_feature_hits = self.kv_prefix_hits = self.restarts = 0
        """The counts of the cores whose models were unloaded."""

        self._config = config
        self._loaded: tuple[LoadedModel, ...] = ()
        """The engine's thread replaces the tuple; any thread may read it."""

        self._uses = itertools.count()
        machine = machine or Machine()
        self._load = load or machine.load
        self._find_memory = find_memory or machine.find_memory
        self._clock = clock
        self._failures: dict[str, Failure] = {}
        self._has_unloaded = False
        """Whether any model was unloaded so far."""

        self._capacity: int | None = None
        """The bytes that were free without any model, at the last load."""

    @property
    def loaded(self) -> tuple[LoadedModel, ...]:
        """The loaded models, least recently used first. From any thread."""
        return tuple(sorted(self._loaded, key=lambda model: model.last_used))

    def core(self, name: str) -> EngineCore | None:
        """The core of a model, which is marked as most recently used; None if it is not loaded. From any thread."""
        model = next((model for model in self._loaded if model.name == name), None)
        if model is None:
            return None
        model.last_used = next(self._uses)
        return model.core

    def failure(self, name: str) -> str:
        """Why a model did not load, until it may be tried again; else an empty string. From any thread."""
        failure = self._failures.get(name)
        return failure.message if failure and self._clock() < failure.until else ""

    def seconds_until(self, spec: ModelSpec) -> float:
        """The seconds until a model can be loaded, because the models that it replaces may not be unloaded yet; or 0.

        Raises `ModelError` if the model failed to load recently, or does not fit even alone, as far as is known while
        others run.
        """
        if failure := self.failure(spec.name):
            raise ModelError(failure)
        with self._remembering_failure(spec):
            models = self._models_to_unload(spec, at_least=self._capacity)
        now = self._clock()
        return max([0.0, *(model.stays_until - now for model in models)])

    def load(self, spec: ModelSpec, release: Release) -> EngineCore:
        """Load a model and create its core. The cores of models that must be unloaded are passed to `release`, and the
        models closed; nothing may run meanwhile.

        Raises `UserError` if it cannot be loaded, `DeviceError` if the GPU failed. No model is closed for one that does
        not fit. If others were closed, the load fails and no model is left, the last closed one is loaded again.
        """
        started_at, unloaded = self._clock(), list[ModelSpec]()
        self.loading, self.progress = spec.name, LoadProgress()
        try:
            with self._remembering_failure(spec):
                if spec.load_error:
                    raise ModelError(spec.load_error)
                for model in self._models_to_unload(spec):
                    unloaded.append(model.core.model.spec)
                    self._close(model, release)
                return self._add(spec, started_at)
        except ModelError:
            if unloaded and not self.loaded:
                self._load_back(unloaded[-1], started_at)
            raise
        finally:
            self.loading = ""

    @contextmanager
    def _remembering_failure(self, spec: ModelSpec) -> Iterator[None]:
        """Turn any error inside the block into a `ModelError`, and remember it for a while; that of a failed GPU, after
        which no model can be loaded, into a `DeviceError`."""
        try:
            yield
        except Exception as error:
            if is_device_lost(error):
                raise as_device_error(error) from error
            if not isinstance(error, UserError):
                log.exception("%s did not load", spec.name)
            message = str(error) if isinstance(error, UserError) else UNEXPECTED.format(spec.name)
            log.error("%s", message)
            self._failures[spec.name] = Failure(message, self._clock() + self._config.failure_seconds)
            self.last_error = message
            raise ModelError(message) from error

    def _models_to_unload(self, spec: ModelSpec, *, at_least: int | None = None) -> list[LoadedModel]:
        """The models to unload for `spec`, least recently used first. `at_least` is a lower bound of the memory without
        any model, in bytes. Raises `ModelError` if `spec` does not fit even alone."""
        import_model_libraries()  # before any part of them, which a caller's thread may import at the same time
        from blip_space.loading.memory import check_memory
        from blip_space.loading.precision import fits, select_precision

        device, free = self._find_memory()
        if free is None:
            return []
        models = [model for model in self.loaded if model.core.model.precision.device == device.name]
        capacity = free + sum(model.held_bytes for model in models)
        if at_least is None:
            self._capacity = capacity
        capacity = max(capacity, at_least or 0)
        precision = select_precision(self.precision, spec, device, free=capacity)
        check_memory(spec, precision, free=capacity, device=device)
        to_unload: list[LoadedModel] = []
        for model in models:
            if fits(spec, precision.name, int(free / HEADROOM), device):
                break
            to_unload.append(model)
            free += model.held_bytes
        return to_unload

    def _close(self, model: LoadedModel, release: Release) -> None:
        core = model.core
        self._loaded = tuple(loaded for loaded in self._loaded if loaded is not model)
        release(core)  # after the removal: until then another thread may add a task
        self._has_unloaded = True
        self.image_feature_hits += core.image_feature_hits
        self.kv_prefix_hits += core.prefix_hits
        self.restarts += core.restarts
        log.info("%s is unloaded to make room for another model", model.name)
        core.close()

    def _add(self, spec: ModelSpec, started_at: float) -> EngineCore:
        """Load a model and create its core. Once any model was unloaded, a new one stays at least as long as its load
        took, so that swaps take at most half of the time, whatever users request."""
        from blip_space.engine.core import EngineCore

        self.loading = spec.name
        self.progress = LoadProgress(lambda sentence: log.info("%s is %s", spec.name, sentence))
        model = self._load(spec, self.precision, self.progress)
        core = EngineCore(model, self._config)
        now = self._clock()
        stays_until = 2 * now - started_at if self._has_unloaded else now
        self._loaded = (*self._loaded, LoadedModel(spec.name, core, model.nbytes, stays_until, next(self._uses)))
        for loaded in self.loaded:
            loaded.core.fit_memory(1 / len(self.loaded))
        self._failures.pop(spec.name, None)
        self.last_error = ""
        precision = model.precision
        log.info(
            "%s is ready after %.1f s, in %s on %s: %s",
            *(spec.name, now - started_at, precision.name, precision.device, precision.reason),
        )
        return core

    def _load_back(self, spec: ModelSpec, started_at: float) -> None:
        with suppress(UserError), self._remembering_failure(spec):
            self._add(spec, started_at)
