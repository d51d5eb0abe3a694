"""Which model is in memory: one at a time, exchanged when another is asked for, and the old one back when that fails.

Knows models by their spec and how long they took; knows no request. Only the worker's thread exchanges; anybody may
look.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from blip_space.catalogue import ModelSpec
from blip_space.errors import ModelError, UserError
from blip_space.serving.load_progress import LoadProgress

if TYPE_CHECKING:  # the page is up before torch is imported
    from blip_space.model.blip2 import Blip2

log = logging.getLogger(__name__)

Load = Callable[[ModelSpec, str, LoadProgress], "Blip2"]


class Residence:
    """Room for one model."""

    def __init__(self, specs: Sequence[ModelSpec], precision: str, load: Load | None = None) -> None:
        """`specs` are the models that may move in, the default first; `load` is the model room's by default."""
        self.default = specs[0]
        self.precision = precision
        self.model: Blip2 | None = None
        self.loading = self.default.name
        """The name of the model that is being loaded, or nothing."""

        self.progress = LoadProgress()
        """How far that is."""

        self.failures = {spec.name: spec.fault for spec in specs if spec.fault}
        """Why a model cannot be had, by its name."""

        self._load = load or _load

    def open(self) -> None:
        """Load the default model; a failure is kept and logged."""
        try:
            self.resident(self.default)
        except ModelError:
            log.error("%s", self.failures[self.default.name])

    def resident(self, spec: ModelSpec) -> Blip2:
        """The model in memory, exchanged first if another is asked for. Raises the `UserError` that says why not."""
        if self.model is not None and self.model.spec.name == spec.name:
            return self.model
        before, self.loading = self.model, spec.name
        try:
            self._exchange(spec)
        except UserError as error:
            self.failures[spec.name] = str(error)
            if before is not None:
                self._exchange(before.spec)
            raise
        finally:
            self.loading = ""
        assert self.model is not None
        return self.model

    def _exchange(self, spec: ModelSpec) -> None:
        if self.model is not None:
            old, self.model = self.model, None
            old.close()
        if spec.fault:
            raise ModelError(spec.fault)
        started = time.monotonic()
        self.progress = LoadProgress(lambda sentence: log.info("%s is %s", spec.name, sentence))
        try:
            model = self._load(spec, self.precision, self.progress)
        except UserError:
            raise
        except Exception as error:
            log.exception("%s did not load", spec.name)
            raise ModelError(f"{spec.name} did not load, for a reason that is in the server's log.") from error
        self.model = model
        seconds, chosen = time.monotonic() - started, model.precision
        log.info(
            "%s is ready after %.1f s, in %s on %s: %s", spec.name, seconds, chosen.name, chosen.device, chosen.reason
        )


def _load(spec: ModelSpec, precision: str, progress: LoadProgress) -> Blip2:
    from blip_space.model import loader

    return loader.load(spec, precision, tell=progress)
