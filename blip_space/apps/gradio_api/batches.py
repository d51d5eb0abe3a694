"""The batches that run now: one of each session, a few in all, with updates as they go.

Knows uploads, guests of the engine and who has sent them; knows no component.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blip_space.errors import BusyError
from blip_space.jobs.records import CaptionRecord, CaptionTask
from blip_space.jobs.upload_archive import open_uploads
from blip_space.jobs.upload_job import UploadJob
from blip_space.serving.protocol import EngineProtocol

UPDATE_SECONDS = 0.5
MAX_BATCHES = 4
ONE_AT_A_TIME = "Your last batch is still running. Wait for its end or cancel it, then send the next."
TOO_MANY_BATCHES = f"{MAX_BATCHES} batches are running already. Try again in a few minutes."


class Batches:
    """Who has a batch running on an engine."""

    def __init__(self, engine: EngineProtocol) -> None:
        self._engine = engine
        self._running: dict[str, UploadJob] = {}
        self._lock = threading.Lock()

    def run(self, session: str, uploads: Sequence[tuple[str, Path]], task: CaptionTask) -> Iterator[UploadJob]:
        """Caption what was uploaded; how far it is, at once and every half second, until its end."""
        with open_uploads(uploads) as pictures:
            guests = UploadJob(self._engine, pictures, task)
            with self._registered(session, guests), closing(guests.run()) as steps:
                yield guests
                told = time.monotonic()
                for _ in steps:
                    if time.monotonic() - told >= UPDATE_SECONDS:
                        yield guests
                        told = time.monotonic()

    def cancel(self, session: str) -> None:
        """End the batch of that session; what is done stays."""
        with self._lock:
            if guests := self._running.get(session):
                guests.cancel()

    @contextmanager
    def _registered(self, session: str, guests: UploadJob) -> Iterator[None]:
        with self._lock:
            if session in self._running:
                raise BusyError(ONE_AT_A_TIME)
            if len(self._running) >= MAX_BATCHES:
                raise BusyError(TOO_MANY_BATCHES)
            self._running[session] = guests
        try:
            yield
        finally:
            with self._lock:
                del self._running[session]


def batch_update(guests: UploadJob, records: Sequence[CaptionRecord]) -> dict[str, Any]:
    """How far a batch is, with some of its records, as `/batch` tells it."""
    tally = guests.progress
    left = tally.seconds_left
    return {
        "done": tally.done,
        "total": tally.total,
        "errors": len(tally.errors),
        "pictures_per_second": round(tally.items_per_second, 2),
        "seconds_left": None if left is None else round(left, 1),
        "records": [asdict(record) for record in records],
    }
