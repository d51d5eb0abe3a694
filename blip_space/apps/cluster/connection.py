"""How a cluster is reached, and what of it one worker gets.

Knows Ray's processors and GPUs; knows nothing of what the workers do.
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

LOCAL = "local"
ADDRESSES = f"the HOST:PORT that `ray start --head` prints, auto on one of the cluster's machines, or {LOCAL}"
CONNECT_TIMEOUT_SECONDS = 5.0


def connect(address: str) -> None:
    """Be a part of the cluster at that address; of one of this machine alone, which ends with us, where it is `local`.

    `UserError` where there is none. Call it again as often as you like.
    """
    if ray.is_initialized():
        return
    _knock(address)
    _hush()
    try:
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        raise UserError(_unreachable(address)) from error
    except (RuntimeError, RayError) as error:  # another version, or a token that is not ours
        raise UserError(f"The cluster at {address!r} takes nobody from here: {_last_line(error)}") from error


@contextmanager
def cluster_errors() -> Iterator[None]:
    """What breaks on other machines as a sentence: that a package is missing there, or that nobody is left."""
    try:
        yield
    except RayError as error:
        log.debug("the cluster failed", exc_info=error)
        raise UserError(
            f"The cluster failed: {_last_line(error)} Every machine needs this package, of the same version. What came "
            "back until now is saved, and the same command goes on."
        ) from error


@dataclass(frozen=True)
class WorkerResources:
    """What a worker gets, and how many workers there are for it."""

    workers: int
    num_cpus: int
    num_gpus: int

    def ray_options(self) -> dict[str, int]:
        """As Ray wants it told."""
        return {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus}


def resources_per_worker(spec: ModelSpec) -> WorkerResources:
    """A GPU for each where there are any; else a processor for each of a small model, a machine for each of a large
    one. Ray tells torch how many threads that makes."""
    from blip_space.models.threads import MIN_PARAMETERS

    machines = [machine["Resources"] for machine in ray.nodes() if machine["Alive"]]
    if gpus := sum(int(machine.get("GPU", 0)) for machine in machines):
        return WorkerResources(gpus, num_cpus=1, num_gpus=1)
    processors = [int(count) for machine in machines if (count := machine.get("CPU", 0)) >= 1]
    if not processors:
        raise UserError("The cluster has no processor to offer. Add a machine to it with `ray start --address`.")
    each = 1 if spec.parameters < MIN_PARAMETERS else min(processors)
    return WorkerResources(sum(count // each for count in processors), num_cpus=each, num_gpus=0)


def _knock(address: str) -> None:
    """Ray itself waits minutes for an address that nobody answers at, and then ends the process."""
    host, _, port = address.rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_SECONDS).close()
    except (OSError, ValueError, OverflowError):
        raise UserError(_unreachable(address)) from None


def _last_line(error: Exception) -> str:
    """Of Ray's many, the one that says what happened."""
    return f"{str(error).strip().splitlines()[-1].rstrip('.')}."


def _unreachable(address: str) -> str:
    return f"There is no cluster at {address!r}. Name {ADDRESSES}."


def _hush() -> None:
    """Ray prints on stdout, where our own lines are, that a worker died; it belongs to the log."""

    def tell(data: dict[str, Any], **_: object) -> None:
        log.info("%s", "\n".join(data["lines"]))

    ray._private.worker.print_to_stdstream = tell
