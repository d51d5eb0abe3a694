"""Many visitors, one model: a bounded waiting line in front of one worker thread that owns the model.

Knows requests, threads and time; knows no tensor and no page. torch is imported by the worker, so that the page is
up before it. Nobody else calls the model while serving, except to count tokens, which needs no torch.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from blip_space.catalogue import ModelSpec
from blip_space.engine.request import EngineConfig
from blip_space.errors import BusyError, ModelError, UserError
from blip_space.inference.job import Job
from blip_space.inference.request import Budget, Request, measured
from blip_space.inference.residence import Load, Residence
from blip_space.inference.scheduler import Scheduler
from blip_space.inference.worker import FAULT, Worker
from blip_space.prompts import Turn
from blip_space.serving.metrics import Metrics, MetricsSnapshot
from blip_space.serving.offered import OfferedModels
from blip_space.serving.protocol import Status, queue_full
from blip_space.serving.response import ResponseStream

if TYPE_CHECKING:
    from blip_space.model.features import PrefixCache

log = logging.getLogger(__name__)


class Engine:
    """Answers requests for one of a few models, of which one is resident at a time."""

    replicas = 1
    """How many engines there are behind this one's face: what the page lets in at once is so many times as much."""

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        *,
        precision: str = "auto",
        load: Load | None = None,
        config: EngineConfig | None = None,
    ) -> None:
        """`specs` are the models that visitors may choose, the default first; `load` is the model room's by default."""
        self._offered = OfferedModels(specs)
        self.specs, self.default = self._offered.specs, self._offered.default
        self._limits = config or EngineConfig()
        self._residence = Residence(specs, precision, load)
        self._scheduler: Scheduler[Job] = Scheduler(
            most_rows=self._limits.max_batch_size,
            most_waiting=self._limits.max_waiting,
            most_guests=self._limits.max_background,
            most_positions=self._limits.max_prefill_tokens,
            turn_tokens=self._limits.time_slice_tokens,
        )
        self._changed = threading.Condition()
        self._counters = Metrics()
        self._prefixes: PrefixCache | None = None
        self._worker: Worker | None = None
        self._stopping = False
        self._restarts = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the worker, which loads the default model and then answers."""
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the answers in hand and those in line, and wait for the worker."""
        with self._changed:
            self._stopping = True
            if self._worker:
                self._worker.stop()
            self._changed.notify_all()
        if self._thread and self._thread.is_alive():
            self._thread.join(timeout=10)

    def status(self) -> Status:
        """The state as `/healthz` and the page tell it."""
        residence = self._residence
        model, error = residence.model, residence.failures.get(self.default.name, "")
        with self._changed:
            waiting, running = len(self._scheduler.waiting), len(self._scheduler.running)
        if model is not None and not residence.loading:
            chosen = model.precision
            return Status(
                "ready",
                model.spec.name,
                chosen.name,
                chosen.device,
                waiting,
                running,
                chosen.reason,
                loaded=(model.spec.name,),
                metrics=self._reading(),
            )
        state: Literal["loading", "failed"] = "loading" if residence.loading else "failed"
        name = residence.loading or self.default.name
        estimate = residence.progress.estimate() if state == "loading" else None
        return Status(state, name, residence.precision, "", waiting, running, error=error, load_progress=estimate)

    def submit(self, request: Request) -> ResponseStream:
        """Put a request in line. `UserError` at once when it cannot be answered, `BusyError` when the line is full."""
        spec = self.resolve_model(request.model, request.language)
        with request.image.opened() as image:
            request = replace(request, image=image)
        answer = self._promised(request)
        job = Job(request, spec, answer)
        answer.queue_position = lambda: self._place(job)
        with self._changed:
            if self._stopping:
                raise BusyError("The server is stopping. Try again when it is back.")
            if self._scheduler.is_full(guest=request.background):
                waiting = len(self._scheduler.guests if request.background else self._scheduler.waiting)
                raise BusyError(queue_full(waiting))
            self._scheduler.put(job)
            self._changed.notify_all()
        self._revive()
        return answer

    def resolve_model(self, model: str, language: str) -> ModelSpec:
        """The model of that name, the default without one; `UserError` where it cannot answer in that language."""
        spec = self._offered.find(model)
        if error := self._residence.failures.get(spec.name):
            raise ModelError(error)
        return self._offered.resolve(model, language)

    def budget(self, *, prompt: str, language: str, turns: Sequence[Turn], model: str, max_new_tokens: int) -> Budget:
        """How a prompt would fill the window of the resident model; `UserError` while another or none is loaded."""
        spec, resident = self.resolve_model(model, language), self._residence.model
        if resident is None or resident.spec.name != spec.name:
            raise ModelError(f"{spec.name} is not loaded yet, so its tokens cannot be counted. Try again when it is.")
        return measured(resident, prompt=prompt, language=language, turns=turns, max_new_tokens=max_new_tokens)

    def fitting(self, spec: ModelSpec) -> tuple[str, ...] | None:
        """The precisions in which the model fits this machine, the resident one gone; None until torch is here."""
        if self._prefixes is None:
            return None
        from blip_space.model.memory import fitting

        resident = self._residence.model
        return fitting(spec, freed=resident.nbytes if resident is not None else 0)

    def _promised(self, request: Request) -> ResponseStream:
        """An answer of which nothing is written yet."""
        patience = self._limits.background_timeout_seconds if request.background else self._limits.timeout_seconds
        return ResponseStream(deadline=time.monotonic() + patience)

    def _place(self, job: Job) -> int | None:
        with self._changed:
            return self._scheduler.ahead(job)

    def _reading(self) -> MetricsSnapshot:
        kept, model = self._prefixes, self._residence.model
        return self._counters.snapshot(
            image_feature_hits=kept.hits if kept else 0,
            kv_prefix_hits=model.turns.hits if model else 0,
            restarts=self._restarts,
        )

    def _revive(self) -> None:
        """Start another worker where the last one died without a word."""
        thread = self._thread
        if thread is None or thread.is_alive() or self._stopping:
            return
        log.error("the worker is gone; another one begins")
        self._restarts += 1
        if self._worker:
            self._worker.give_up(UserError(FAULT))
        self.start()

    def _work(self) -> None:
        worker = self._open()
        while self._wait():
            try:
                worker.iterate()
            except Exception:
                log.exception("the worker failed and goes on")
                self._restarts += 1
                worker.give_up(UserError(FAULT))
        worker.give_up(BusyError("The server stopped during this answer. Ask again when it is back."))
        with self._changed:
            for job in self._scheduler.in_line():
                job.answer.fail(BusyError("The server stopped before this was answered. Ask again when it is back."))
            self._scheduler.sweep()

    def _open(self) -> Worker:
        from blip_space.model.features import PrefixCache

        if self._residence.model is None:
            self._residence.open()
        self._prefixes = PrefixCache(max_bytes=self._limits.image_feature_cache_bytes)
        self._worker = Worker(self._scheduler, self._changed, self._residence, self._counters, self._prefixes)
        return self._worker

    def _wait(self) -> bool:
        """Until there is something to do; False when the engine stops."""
        with self._changed:
            while not self._stopping and self._scheduler.first() is None:
                self._changed.wait()
            return not self._stopping
