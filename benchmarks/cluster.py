"""A Ray cluster of two nodes on this machine, with one CPU each, and the failures of its nodes and workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from ray.cluster_utils import Cluster

STORE_BYTES = 200 * 1024**2
FAST_HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}
"""A node that does not respond for two seconds is dead."""


class LocalCluster:
    """Two nodes; the first is the head node, where jobs are started."""

    def __init__(self) -> None:
        head = {
            "num_cpus": 1,
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
            "_system_config": FAST_HEALTH_CHECKS,
        }
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.add_node()
        self.address: str = self._cluster.address

    def worker_processes(self, name: str) -> list[psutil.Process]:
        """The running worker processes of that class, of this cluster only."""
        processes = []
        for process in psutil.Process().children(recursive=True):
            try:
                if f"ray::{name}" in " ".join(process.cmdline()):
                    processes.append(process)
            except psutil.Error:  # it has ended
                continue
        return processes

    def kill_node(self) -> None:
        """Kill the second node with all its processes."""
        self._cluster.remove_node(self._second, allow_graceful=False)

    def add_node(self) -> None:
        """Add a second node."""
        self._second = self._cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)

    def close(self) -> None:
        """Stop both nodes."""
        self._cluster.shutdown()


@contextmanager
def local_cluster() -> Iterator[LocalCluster]:
    """A cluster that is stopped when the context ends."""
    cluster = LocalCluster()
    try:
        yield cluster
    finally:
        cluster.close()
