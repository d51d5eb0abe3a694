"""A folder's captions by a crew of workers, each with a model of its own, that Ray Data feeds.

The pictures are read on this machine and travel as bytes, so that the machines need no file system in common. A worker
that dies is replaced and what it had in hand is done again; of what then comes twice the first is taken. Knows wishes
and what came of them; knows no ledger, which stays with whoever asked.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.data

from blip_space.apps.cluster import worker
from blip_space.apps.cluster.attempts import SharedAttempts
from blip_space.apps.cluster.connection import WorkerResources, cluster_errors, connect, resources_per_worker
from blip_space.catalogue import ModelSpec
from blip_space.errors import UserError
from blip_space.jobs.folder_captioner import Caption, PendingCaption
from blip_space.jobs.records import CaptionTask

IMAGES_PER_BATCH = 64
"""So many go to a worker together, come back together, and are done again together when it dies."""


class WorkerPool:
    """Workers with a model each, on the cluster at an address, which is not asked before there is something to do."""

    def __init__(self, address: str, spec: ModelSpec, folder: Path, *, batch_size: int | None, threads: int) -> None:
        """`threads` read pictures here, and so many decode them in each worker."""
        self._address = address
        self._spec = spec
        self._folder = folder.resolve()
        self._batch_size = batch_size
        self._threads = threads

    def select_precision(self, precision: str) -> str:
        """The precision for the workers' machines, which need not be like this one."""
        connect(self._address)
        task = ray.remote(worker.select_worker_precision).options(**resources_per_worker(self._spec).ray_options())
        with cluster_errors():
            name, fault = ray.get(task.remote(self._spec, precision))
        if fault:
            raise UserError(fault)
        return str(name)

    def caption(self, wishes: Iterable[list[PendingCaption]]) -> Iterator[list[Caption]]:
        """What came of the wishes, as it comes. All pictures are looked up before the first one is sent: Ray Data has
        to know its work, and most runs have little left."""
        pictures = list(wishes)
        tasks = list(dict.fromkeys(wish.task for asked in pictures for wish in asked))
        left = {(number, tasks.index(wish.task)): wish for number, asked in enumerate(pictures) for wish in asked}
        for rows in self._answers(pictures, tasks) if pictures else ():
            if fault := next((row["fault"] for row in rows if row["fault"]), None):
                raise UserError(fault)
            known = [(left.pop((row["number"], row["task"]), None), row) for row in rows]
            yield [_written(wish, row) for wish, row in known if wish]
        if left:
            raise UserError(f"{len(left):,} captions did not come back. The same command asks for them again.")

    def _answers(
        self, pictures: Sequence[list[PendingCaption]], tasks: list[CaptionTask]
    ) -> Iterator[list[worker.Row]]:
        connect(self._address)
        each = resources_per_worker(self._spec)
        print(f"blip-space: {each.workers} workers on {self._address}", file=sys.stderr, flush=True)
        work = self._work(_rows(pictures, tasks), tasks, each)
        with cluster_errors():  # nothing is fetched ahead: what is done must not wait for what is not
            for table in work.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                yield table.to_pylist()

    def _work(self, rows: list[worker.Row], tasks: list[CaptionTask], each: WorkerResources) -> Any:
        """Rows are read here and answered by the workers, as Ray Data plans it; it begins when it is asked."""
        at_once = self._batch_size or IMAGES_PER_BATCH
        blocks = -(-len(rows) // at_once)
        shared = {"batch_size": self._batch_size, "threads": self._threads, "attempts": SharedAttempts()}
        read = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
            worker.read_files,
            fn_args=(self._folder,),
            batch_format="pyarrow",
            compute=ray.data.TaskPoolStrategy(size=min(self._threads, blocks)),
            num_cpus=0,  # the workers have them all
            label_selector={"ray.io/node-id": ray.get_runtime_context().get_node_id()},
        )
        return read.map_batches(
            worker.Worker,
            fn_constructor_args=(self._spec, tasks),
            fn_constructor_kwargs=shared,
            batch_size=at_once,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=each.workers),
            **each.ray_options(),
        )


@contextmanager
def open_worker_pool(
    address: str, spec: ModelSpec, folder: Path, *, batch_size: int | None, threads: int
) -> Iterator[WorkerPool]:
    """A crew that leaves the cluster at the end."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"ray\.")  # what it says of itself is of no use to whoever captions
    try:
        yield WorkerPool(address, spec, folder, batch_size=batch_size, threads=threads)
    finally:
        ray.shutdown()


def _rows(pictures: Sequence[list[PendingCaption]], tasks: list[CaptionTask]) -> list[worker.Row]:
    return [
        {
            "number": number,
            "file": wishes[0].image.file,
            "digest": wishes[0].image.digest,
            "tasks": [tasks.index(wish.task) for wish in wishes],
        }
        for number, wishes in enumerate(pictures)
    ]


def _written(wish: PendingCaption, row: dict[str, Any]) -> Caption:
    return Caption(wish, row["caption"], row["tokens"], row["seconds"], row["error"], bool(row.get("repeats")))
