"""Processes that learn together, one a core: each takes its part of every batch, and their gradients are averaged.

Knows torch's process groups; knows no stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, distributed

Part = tuple[int, int]
"""Which process this is, and of how many."""


def gather(meeting: Path, part: Part) -> None:
    """Join the other processes, which meet at that file."""
    rank, size = part
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)


def part_way() -> None:
    """Leave the others."""
    distributed.destroy_process_group()


def part() -> Part:
    """This process's part; the first of one where it learns alone."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def leads() -> bool:
    """Whether this is the process that reports and saves."""
    return part()[0] == 0


def average(parameters: Sequence[Tensor]) -> None:
    """Make every process's gradients their mean over all processes."""
    _, size = part()
    if size == 1:
        return
    gradients = [one.grad for one in parameters if one.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= size
    for gradient, mean in zip(gradients, torch.split(flat, [one.numel() for one in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
