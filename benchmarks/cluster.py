"""A Ray cluster of two machines on this one, one processor each, and what can happen to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from ray.cluster_utils import Cluster

STORE_BYTES = 200 * 1024**2
NOTICED_SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
"""A machine that is silent for two seconds is taken for lost."""


class Machines:
    """Two machines; the first is the head, where jobs are started."""

    def __init__(self) -> None:
        first = {
            "num_cpus": 1,
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
            "_system_config": NOTICED_SOON,
        }
        self._cluster = Cluster(initialize_head=True, head_node_args=first)
        self.replace_it()
        self.address: str = self._cluster.address

    def workers(self, name: str) -> list[psutil.Process]:
        """The processes at work whose class has that name, on this cluster and on no other."""
        found = []
        for process in psutil.Process().children(recursive=True):
            try:
                if f"ray::{name}" in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:  # it ended meanwhile
                continue
        return found

    def lose_one(self) -> None:
        """The second machine's power goes."""
        self._cluster.remove_node(self._second, allow_graceful=False)

    def replace_it(self) -> None:
        """Another second machine."""
        self._second = self._cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)

    def close(self) -> None:
        """Both are gone."""
        self._cluster.shutdown()


@contextmanager
def two_machines() -> Iterator[Machines]:
    """For as long as the block lasts."""
    machines = Machines()
    try:
        yield machines
    finally:
        machines.close()
