"""Which models are loaded, each behind a core of its own, and which of them leave when another needs their memory.

Every model that fits stays. Only the engine's thread loads and closes, and only while nothing runs; any thread may look
at `loaded`. Must not import requests or queues.
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
from blip_space.serving.load_progress import LoadProgress
from blip_space.serving.preparations import import_model_libraries

if TYPE_CHECKING:  # the page is up before torch is imported
    from blip_space.engine.core import EngineCore
    from blip_space.loading.device import Device

log = logging.getLogger(__name__)

Load = Callable[[ModelSpec, str, LoadProgress], Any]
FindMemory = Callable[[], "tuple[Device, int | None]"]
"""Where the next model would compute, and how many bytes are free there, where the system says so."""

Release = Callable[["EngineCore"], None]

UNEXPECTED = "{} did not load, for a reason that is in the server's log."
HEADROOM = 1.25
"""Beside others a model must find so many times the size of its weights: keys and values of all of them take memory
too, and on a processor a lack of it ends the process."""


@dataclass(eq=False)
class LoadedModel:
    """A core, the size of its weights, until when it stays, and when it was used last, as a number that grows."""

    name: str
    core: EngineCore
    nbytes: int
    stays_until: float
    last_used: int

    @property
    def held_bytes(self) -> int:
        """How much memory is free again once it has left."""
        return self.nbytes + self.core.cached_bytes


@dataclass(frozen=True)
class Failure:
    """Why a model did not load, and until when nobody tries again."""

    message: str
    until: float


class ModelManager:
    """The models in memory."""

    def __init__(
        self,
        precision: str,
        config: EngineConfig,
        *,
        load: Load | None = None,
        find_memory: FindMemory | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`load` is the loader's by default, and `find_memory` asks the machine; `clock` gives seconds."""
        self.precision = precision
        self.loading = ""
        """The name of the model that is being loaded, if there is one."""

        self.progress = LoadProgress()
        """How far that is."""

        self.last_error = ""
        """Why the last load failed, if it did."""

        self.image_feature_hits = self.kv_prefix_hits = self.restarts = 0
        """What the cores of closed models counted."""

        self._config = config
        self._loaded: tuple[LoadedModel, ...] = ()
        """Replaced by the engine's thread alone, and as a whole."""

        self._uses = itertools.count()
        self._load = load or _load
        self._find_memory = find_memory or _find_memory
        self._clock = clock
        self._failures: dict[str, Failure] = {}
        self._left: set[str] = set()
        """The models that once left for another."""

        self._capacity: int | None = None
        """How much was free, all models gone, when one was loaded last."""

    @property
    def loaded(self) -> tuple[LoadedModel, ...]:
        """The least recently used first; of one moment. From any thread."""
        return tuple(sorted(self._loaded, key=lambda model: model.last_used))

    def core(self, name: str) -> EngineCore | None:
        """The core of a loaded model, which is then the most recently used one. From any thread."""
        found = next((model for model in self._loaded if model.name == name), None)
        if found is None:
            return None
        found.last_used = next(self._uses)
        return found.core

    def failure(self, name: str) -> str:
        """Why a model did not load, as long as nobody is to try again. From any thread."""
        failure = self._failures.get(name)
        return failure.message if failure and self._clock() < failure.until else ""

    def seconds_until(self, spec: ModelSpec) -> float:
        """How long those models still stay that would have to leave for this one; 0 where it can be loaded at once.

        `ModelError` where it does not fit even alone, as far as that is known while others run.
        """
        if failure := self.failure(spec.name):
            raise ModelError(failure)
        with self._remembering(spec):
            leaving = self._leaving(spec, at_least=self._capacity)
        now = self._clock()
        return max([0.0, *(model.stays_until - now for model in leaving)])

    def load(self, spec: ModelSpec, release: Release) -> EngineCore:
        """Load a model, and give it a core. What has to leave is given to `release` first and then closed; nothing may
        run meanwhile.

        `UserError` where it cannot be had. Nothing is closed for a model that does not fit; where others left for one
        that then fails, and none is loaded, the last of them is loaded again.
        """
        began, left = self._clock(), list[ModelSpec]()
        self.loading, self.progress = spec.name, LoadProgress()
        try:
            with self._remembering(spec):
                if spec.load_error:
                    raise ModelError(spec.load_error)
                for model in self._leaving(spec):
                    left.append(model.core.model.spec)
                    self._close(model, release)
                return self._add(spec, began)
        except UserError:
            if left and not self.loaded:
                self._load_back(left[-1], began)
            raise
        finally:
            self.loading = ""

    @contextmanager
    def _remembering(self, spec: ModelSpec) -> Iterator[None]:
        """What goes wrong inside is a `UserError`, and remembered for a while."""
        try:
            yield
        except Exception as error:
            if not isinstance(error, UserError):
                log.exception("%s did not load", spec.name)
            sentence = str(error) if isinstance(error, UserError) else UNEXPECTED.format(spec.name)
            log.error("%s", sentence)
            self._failures[spec.name] = Failure(sentence, self._clock() + self._config.failure_seconds)
            self.last_error = sentence
            raise ModelError(sentence) from error

    def _leaving(self, spec: ModelSpec, *, at_least: int | None = None) -> list[LoadedModel]:
        """The least recently used models, as many as have to leave for this one. `at_least` is how much memory there is
        at least without any; `ModelError` where that is too little."""
        from blip_space.loading.memory import check_memory
        from blip_space.loading.precision import fits, select_precision

        device, free = self._find_memory()
        if free is None:
            return []
        there = [model for model in self.loaded if model.core.model.precision.device == device.name]
        alone = free + sum(model.held_bytes for model in there)
        if at_least is None:
            self._capacity = alone
        alone = max(alone, at_least or 0)
        precision = select_precision(self.precision, spec, device, free=alone)
        check_memory(spec, precision, free=alone)
        leaving: list[LoadedModel] = []
        for model in there:
            if fits(spec, precision.name, int(free / HEADROOM)):
                break
            leaving.append(model)
            free += model.held_bytes
        return leaving

    def _close(self, model: LoadedModel, release: Release) -> None:
        core = model.core
        self._loaded = tuple(other for other in self._loaded if other is not model)
        release(core)  # with what was added to it until a moment ago
        self._left.add(model.name)
        self.image_feature_hits += core.image_feature_hits
        self.kv_prefix_hits += core.prefix_hits
        self.restarts += core.restarts
        log.info("%s leaves the memory for another model", model.name)
        core.model.close()

    def _add(self, spec: ModelSpec, began: float) -> EngineCore:
        """Load, and give it a core. What once left, or made others leave, stays as long as that took, so that at most
        half of the time goes into exchanges, whatever is asked for."""
        from blip_space.engine.core import EngineCore

        self.loading = spec.name
        self.progress = LoadProgress(lambda sentence: log.info("%s is %s", spec.name, sentence))
        model = self._load(spec, self.precision, self.progress)
        core = EngineCore(model, self._config)
        now = self._clock()
        stays_until = 2 * now - began if self._left else now
        self._loaded = (*self._loaded, LoadedModel(spec.name, core, model.nbytes, stays_until, next(self._uses)))
        for other in self.loaded:
            other.core.fit_memory(1 / len(self.loaded))
        self._failures.pop(spec.name, None)
        self.last_error = ""
        chosen = model.precision
        log.info(
            "%s is ready after %.1f s, in %s on %s: %s",
            *(spec.name, now - began, chosen.name, chosen.device, chosen.reason),
        )
        return core

    def _load_back(self, spec: ModelSpec, began: float) -> None:
        with suppress(UserError), self._remembering(spec):
            self._add(spec, began)


def _find_memory() -> tuple[Device, int | None]:
    from blip_space.loading.device import find_device, free_bytes

    device = find_device()
    return device, free_bytes(device.name)


def _load(spec: ModelSpec, precision: str, progress: LoadProgress) -> Any:
    import_model_libraries()
    from blip_space.loading import loader

    return loader.load_model(spec, precision, on_progress=progress)
