"""Connects to a Ray cluster and divides its processors and GPUs among workers.

Must not import what the workers run.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from blip_space.catalogue import ModelSpec
from blip_space.errors import UserError

log = logging.getLogger(__name__)

ADDRESSES = "the HOST:PORT that `ray start --head` prints, auto on one of the cluster's machines, or local"
CONNECT_TIMEOUT_SECONDS = 5.0


def connect(address: str) -> None:
    """Connect to the cluster at `address`; `local` starts one on this machine, which ends with this process.

    Does nothing if already connected. Raises `UserError` if there is no cluster.
    """
    if ray.is_initialized():
        return
    _check_reachable(address)
    _redirect_output()
    try:
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        raise UserError(_unreachable(address)) from error
    except (RuntimeError, RayError) as error:  # another version, or a wrong token
        raise UserError(f"The cluster at {address!r} refuses this machine: {_last_line(error)}") from error


@contextmanager
def cluster_errors() -> Iterator[None]:
    """Turn any Ray error inside the block into a `UserError`: a machine lacks a package, or all workers are dead."""
    try:
        yield
    except RayError as error:
        log.debug("the cluster failed", exc_info=error)
        raise UserError(
            f"The cluster failed: {_last_line(error)} Every machine needs this package in the same version. Finished "
            "results are saved; run the same command again to resume."
        ) from error


@dataclass(frozen=True)
class WorkerResources:
    """How many workers the cluster has room for, and the resources of each of them, as Ray's options."""

    workers: int
    ray_options: dict[str, int]

    @property
    def has_gpu(self) -> bool:
        """Whether each worker has a GPU."""
        return self.ray_options["num_gpus"] > 0


def resources_per_worker(spec: ModelSpec, device: str) -> WorkerResources:
    """One GPU per worker if there are any, unless the device is the CPU; else one processor per worker for a small
    model, one machine for a large one. Ray sets torch's number of threads to match. `UserError` for a GPU by its
    number."""
    from blip_space.models.threads import MIN_PARAMETERS

    machines = [machine["Resources"] for machine in ray.nodes() if machine["Alive"]]
    if device.startswith("cuda"):
        raise UserError(f"A cluster assigns a GPU to each worker, so {device} cannot be chosen. Choose auto or cpu.")
    if device != "cpu" and (gpus := sum(int(machine.get("GPU", 0)) for machine in machines)):
        return WorkerResources(gpus, {"num_cpus": 1, "num_gpus": 1})
    processors = [int(count) for machine in machines if (count := machine.get("CPU", 0)) >= 1]
    if not processors:
        raise UserError("The cluster has no processor. Add a machine to it with `ray start --address`.")
    num_cpus = 1 if spec.parameters < MIN_PARAMETERS else min(processors)
    return WorkerResources(sum(count // num_cpus for count in processors), {"num_cpus": num_cpus, "num_gpus": 0})


def _check_reachable(address: str) -> None:
    """Raise `UserError` if nothing listens there; Ray would wait for minutes and then end the process."""
    host, _, port = address.rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_SECONDS).close()
    except (OSError, ValueError, OverflowError):
        raise UserError(_unreachable(address)) from None


def _last_line(error: Exception) -> str:
    """The last line of Ray's long message, which says what happened."""
    return f"{str(error).strip().splitlines()[-1].rstrip('.')}."


def _unreachable(address: str) -> str:
    return f"There is no cluster at {address!r}. Name {ADDRESSES}."


def _redirect_output() -> None:
    """Log what Ray would print on stdout, such as the death of a worker: stdout is for the command's own output."""

    def log_lines(data: dict[str, Any], **_: object) -> None:
        log.info("%s", "\n".join(data["lines"]))

    ray._private.worker.print_to_stdstream = log_lines
