"""The running batches: one per session, a few in all, of which no address has all, with regular progress updates.

Depends on uploads, upload jobs, callers and session names only. Must not import Gradio.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blip_space.apps.uploads import in_use
from blip_space.callers import current_caller
from blip_space.errors import BusyError
from blip_space.jobs.records import CaptionRecord, CaptionTask
from blip_space.jobs.upload_archive import open_uploads
from blip_space.jobs.upload_job import UploadJob
from blip_space.serving.protocol import EngineProtocol

UPDATE_SECONDS = 0.5
MAX_BATCHES = 4
MAX_OF_ADDRESS = MAX_BATCHES - 1
"""How many of them one address may have; the other is free for callers at other addresses."""

ONE_AT_A_TIME = "Your last batch is still running. Wait until it ends or cancel it, then send the next."
TOO_MANY_OF_ADDRESS = (
    f"{MAX_OF_ADDRESS} batches from your address are running already. Wait until one ends, then send the next."
)
TOO_MANY_BATCHES = f"{MAX_BATCHES} batches are running already. Try again in a few minutes."


class Batches:
    """The batches that run on one engine, by session."""

    def __init__(self, engine: EngineProtocol) -> None:
        self._engine = engine
        self._running: dict[str, UploadJob] = {}
        self._addresses: dict[str, str] = {}
        """The address of each session with a batch; empty if unknown."""

        self._lock = threading.Lock()

    def run(self, session: str, uploads: Sequence[tuple[str, Path]], task: CaptionTask) -> Iterator[UploadJob]:
        """Caption the uploads. Yields the job at once, then every half second. Raises `BusyError` at a limit."""
        with in_use(path for _, path in uploads), open_uploads(uploads) as images:
            job = UploadJob(self._engine, images, task)
            with self._registered(session, job), closing(job.run()) as steps:
                yield job
                updated_at = time.monotonic()
                for _ in steps:
                    if time.monotonic() - updated_at >= UPDATE_SECONDS:
                        yield job
                        updated_at = time.monotonic()

    def cancel(self, session: str) -> None:
        """Cancel the session's batch; its finished captions are kept."""
        with self._lock:
            if job := self._running.get(session):
                job.cancel()

    @contextmanager
    def _registered(self, session: str, job: UploadJob) -> Iterator[None]:
        with self._lock:
            if session in self._running:
                raise BusyError(ONE_AT_A_TIME, detail="own_batch")
            if len(self._running) >= MAX_BATCHES:
                raise BusyError(TOO_MANY_BATCHES, detail="batches")
            address = current_caller.get().address
            if address and list(self._addresses.values()).count(address) >= MAX_OF_ADDRESS:
                raise BusyError(TOO_MANY_OF_ADDRESS, detail="batches")
            self._running[session], self._addresses[session] = job, address
        try:
            yield
        finally:
            with self._lock:
                del self._running[session], self._addresses[session]


def batch_update(job: UploadJob, records: Sequence[CaptionRecord]) -> dict[str, Any]:
    """One update of `/batch`: the progress of `job`, and the given records."""
    progress = job.progress
    seconds_left = progress.seconds_left
    return {
        "done": progress.done,
        "total": progress.total,
        "errors": len(progress.errors),
        "pictures_per_second": round(progress.items_per_second, 2),
        "seconds_left": None if seconds_left is None else round(seconds_left, 1),
        "records": [asdict(record) for record in records],
    }
