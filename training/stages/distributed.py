"""Data-parallel training with one process per core: each has its part of every batch, and gradients are averaged.

Depends on torch only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, distributed

Shard = tuple[int, int]
"""The rank of this process, and the number of processes."""


def init_group(rendezvous: Path, shard: Shard) -> None:
    """Add this process to the process group; the processes find each other by the file `rendezvous`."""
    rank, size = shard
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size)


def destroy_group() -> None:
    """Remove this process from the process group."""
    distributed.destroy_process_group()


def shard() -> Shard:
    """This process's shard, which is (0, 1) without a process group."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def is_main_process() -> bool:
    """Whether this is the process that logs and saves."""
    return shard()[0] == 0


def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace the gradients of `parameters` by their mean over all processes, each of which must call this."""
    _, size = shard()
    if size == 1:
        return
    gradients = [one.grad for one in parameters if one.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= size
    for gradient, mean in zip(gradients, torch.split(flat, [one.numel() for one in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
