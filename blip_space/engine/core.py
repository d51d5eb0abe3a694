"""The engine core: requests in, answers out, one step at a time.

It owns the scheduler and the model runner, with its batch and caches. It has no thread and no clock: one thread calls
`step`, and any thread may call `add` and `cancel`. Must not import serving, jobs or apps.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from typing import Any, Literal

from blip_space.engine.answers import Answers
from blip_space.engine.batch_size import prefill_tokens, streaming_batch_size
from blip_space.engine.detokenizer import Detokenizer
from blip_space.engine.fairness import in_turn
from blip_space.engine.model_runner import ModelRunner
from blip_space.engine.output import ANSWER_FAILED, OUT_OF_MEMORY, Output
from blip_space.engine.request import EngineConfig, PreparedRequest
from blip_space.engine.scheduler import Scheduler
from blip_space.engine.sequence import MAX_ATTEMPTS, Sequence, Status
from blip_space.engine.stop_tokens import StopTokens
from blip_space.errors import BusyError, DeviceError, UserError
from blip_space.loading.device import on_device
from blip_space.loading.device_errors import as_device_error, is_device_lost
from blip_space.loading.memory import is_out_of_memory, kv_positions

log = logging.getLogger(__name__)

_ids = itertools.count(1)


class EngineCore:
    """One loaded model, and all requests for it."""

    def __init__(self, model: Any, config: EngineConfig | None = None) -> None:
        """`model` is a `VisionLanguageModel`."""
        self.model = model
        self.config = (config or EngineConfig()).resolve(streaming_batch_size(model), prefill_tokens(model))
        self.restarts = 0
        """How often the whole batch was restarted."""

        self.device_error = ""
        """The message of the error that ends every request once the GPU has failed; nothing is computed any more."""

        self._runner = ModelRunner(model, self.config)
        self._device = model.precision.device
        with on_device(self._device):
            self._runner.warm_up()
        self._scheduler = Scheduler(self.config, **self._limits(), reserved_positions=self._runner.reserved_positions)
        self._stop_strings = model.stop_strings
        stop_tokens = StopTokens(model.decode, model.stop_strings)
        self._answers = Answers(stop_tokens, streams=self.config.streams)
        self._incoming: deque[Sequence] = deque()  # any thread adds, the next step takes

    def add(self, request: PreparedRequest, *, attempts: int = 0) -> int:
        """Queue a request and return its id. After failed attempts it runs alone. From any thread."""
        detokenizer = Detokenizer(self.model.decode, (*self._stop_strings, *request.options.stops))
        sequence = Sequence(next(_ids), request, detokenizer, attempts=attempts)
        self._answers.unfinished[sequence.id] = sequence
        self._incoming.append(sequence)
        return sequence.id

    def cancel(self, request_id: int) -> None:
        """Drop a request: the next step frees its rows, and it has no further output. From any thread."""
        if sequence := self._answers.unfinished.pop(request_id, None):
            sequence.is_cancelled = True

    def step(self, now: float, *, admit: bool = True) -> list[Output]:
        """Run one step: at most one token for each running sequence. Returns new text, finished answers and errors.

        `now` is a time in seconds, which never decreases. If `admit` is false, no waiting sequence is admitted.
        """
        if self.device_error:
            return self._fail_all()
        try:
            if self._incoming:
                self._enqueue_incoming()
            plan = self._scheduler.schedule(now=now, admit=admit)
            with on_device(self._device):
                self._runner.run(plan)
        except Exception as error:
            if is_device_lost(error):
                self.device_error = str(as_device_error(error))
                return self._fail_all()
            return self._recover(error, now)
        return self._settle()

    @property
    def has_work(self) -> bool:
        """Whether there are unfinished requests."""
        scheduler = self._scheduler
        return bool(self._incoming or scheduler.running or scheduler.waiting or scheduler.background)

    @property
    def waiting(self) -> int:
        """The number of waiting requests, background requests excluded."""
        return sum(not sequence.is_background for sequence in self._queued())

    @property
    def background(self) -> int:
        """The number of waiting background requests."""
        return sum(sequence.is_background for sequence in self._queued())

    def waiting_of(self, address: str, *, background: bool) -> int:
        """The number of waiting requests, of users or of batches, that are from this address."""
        queued = [sequence for sequence in self._queued() if sequence.is_background == background]
        return sum(sequence.caller.address == address for sequence in queued)

    @property
    def running(self) -> int:
        """The number of requests that run."""
        return len(self._scheduler.running)

    def capture_pending(self) -> bool:
        """In idle time: capture a graph that earlier steps lacked; False if there is none. From `step`'s thread."""
        with on_device(self._device):
            return not self.has_work and self._runner.capture_pending()

    @property
    def decode_mode(self) -> tuple[Literal["eager", "graphs"], str]:
        """How steps run, and "on, 3 captured", or "off: " and the reason. From any thread."""
        return "graphs" if self._runner.graphs.is_used else "eager", self._runner.graph_status

    def fit_memory(self, share: float) -> None:
        """Let keys and values take `share` of the memory that is free now. From `step`'s thread, while nothing runs."""
        self._scheduler.memory.set(**self._limits(share))

    @property
    def row_limit(self) -> int:
        """How many rows of keys and values there may be now."""
        return self._scheduler.memory.row_limit

    @property
    def cached_bytes(self) -> int:
        """The size of the caches in bytes; dropping the core frees them."""
        return self._runner.image_features.bytes + self._runner.prefixes.bytes + self._runner.graph_bytes

    @property
    def image_feature_hits(self) -> int:
        """How many images were found in the feature cache."""
        return self._runner.image_features.hits

    @property
    def prefix_hits(self) -> int:
        """How many prompts began with cached keys and values."""
        return self._runner.prefixes.hits

    def queue_position(self, request_id: int) -> int | None:
        """How many requests wait before it; None for a running or a background request. From any thread."""
        waiting = [sequence for sequence in self._queued() if not sequence.is_background]
        queue = in_turn(waiting, self._scheduler.running)
        return next((index for index, sequence in enumerate(queue) if sequence.id == request_id), None)

    def abort_all(self) -> tuple[list[int], list[int]]:
        """Drop all requests; returns the ids of the running and of the waiting ones, in order. From `step`'s thread."""
        self._enqueue_incoming()
        scheduler = self._scheduler
        queued = (*scheduler.waiting, *scheduler.background)
        ran = [sequence.id for sequence in scheduler.running if sequence.id in self._answers.unfinished]
        waited = [sequence.id for sequence in queued if sequence.id in self._answers.unfinished]
        scheduler.running, scheduler.waiting, scheduler.background = [], [], []
        self._runner.reset()
        self._answers.unfinished.clear()
        return ran, waited

    def close(self) -> None:
        """Free graphs, caches and weights; graphs first, since one that is destroyed while another is captured spoils
        that. A caller may still have the core while another model is loaded."""
        self._runner.close()
        self.model.close()

    def _limits(self, share: float = 1.0) -> dict[str, int]:
        """The scheduler's limits, `max_rows` and `max_positions`, for this share of the free memory."""
        positions = max(1, int(kv_positions(self.model) * share))
        return {"max_rows": self.config.max_rows or positions, "max_positions": positions}

    def _queued(self) -> list[Sequence]:
        """All waiting sequences that are not cancelled, in order. From any thread."""
        queued = (*self._scheduler.waiting, *self._scheduler.background, *tuple(self._incoming))
        return [sequence for sequence in queued if not sequence.is_cancelled]

    def _enqueue_incoming(self) -> None:
        while self._incoming:
            sequence = self._incoming[0]
            sequence.uncached_tokens = self._runner.uncached_tokens(sequence.request)
            self._scheduler.add(sequence)
            self._incoming.popleft()  # last, so that `_queued` misses none

    def _settle(self) -> list[Output]:
        return self._answers.outputs(self._scheduler.running)

    def _fail_all(self) -> list[Output]:
        """End every request with the device's error, except those that finished in this step."""
        outputs, scheduler = self._settle(), self._scheduler
        self._incoming.clear()
        scheduler.running, scheduler.waiting, scheduler.background = [], [], []
        unfinished = list(self._answers.unfinished.values())
        return outputs + [self._answers.fail(sequence, DeviceError(self.device_error)) for sequence in unfinished]

    def _recover(self, error: Exception, now: float) -> list[Output]:
        """Restart all sequences after an error of the whole step, in a smaller batch if memory ran out.

        A sequence that fails a second time, alone in the batch, ends with an error.
        """
        log.error("the batch failed and is restarted", exc_info=error)
        self.restarts += 1
        exhausted = is_out_of_memory(error)
        running = self._scheduler.running
        smaller = exhausted and len(running) > 1
        self._runner.reset()
        if exhausted:
            self._scheduler.memory.reduce(sum(sequence.num_rows for sequence in running), now)
            self._runner.clear_caches()
            log.warning("out of memory: the batch is limited to %d rows for now", self.row_limit)
        outputs, ran = self._settle(), set(running)
        for sequence in self._scheduler.requeue_all():
            if smaller or sequence not in ran or sequence.status is Status.FINISHED:
                continue
            sequence.attempts += 1
            if sequence.attempts >= MAX_ATTEMPTS:
                final = BusyError(OUT_OF_MEMORY) if exhausted else UserError(ANSWER_FAILED, code="internal_error")
                outputs.append(self._answers.fail(sequence, final))
        return outputs
