"""A Ray cluster of two machines on this one, one processor each, and what can happen to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from ray.cluster_utils import Cluster

STORE_BYTES = 200 * 1024**2
NOTICED_SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
"""A machine that is silent for two seconds is taken for lost."""


class LocalCluster:
    """Two machines; the first is the head, where jobs are started."""

    def __init__(self) -> None:
        first = {
            "num_cpus": 1,
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
            "_system_config": NOTICED_SOON,
        }
        self._cluster = Cluster(initialize_head=True, head_node_args=first)
        self.add_node()
        self.address: str = self._cluster.address

    def worker_processes(self, name: str) -> list[psutil.Process]:
        """The processes at work whose class has that name, on this cluster and on no other."""
        found = []
        for process in psutil.Process().children(recursive=True):
            try:
                if f"ray::{name}" in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:  # it ended meanwhile
                continue
        return found

    def kill_node(self) -> None:
        """The second machine's power goes."""
        self._cluster.remove_node(self._second, allow_graceful=False)

    def add_node(self) -> None:
        """Another second machine."""
        self._second = self._cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)

    def close(self) -> None:
        """Both are gone."""
        self._cluster.shutdown()


@contextmanager
def local_cluster() -> Iterator[LocalCluster]:
    """For as long as the block lasts."""
    machines = LocalCluster()
    try:
        yield machines
    finally:
        machines.close()
