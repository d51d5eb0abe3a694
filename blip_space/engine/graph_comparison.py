"""Compares a captured step with the eager one before it is used: logits, and the keys and values that it writes.

Depends on torch and slot buffers; must not import a batch or a language model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from blip_space.engine.slot_cache import SlotBuffers
from blip_space.models.transfer import copy_to_device, to_device

PROOF_STEPS = 3
"""How many steps of a graph are compared with eager ones."""

Columns = Sequence[Sequence[int]]
"""The numbers of a step, each a list with one for every slot: ids, lengths, prompt lengths, positions, and the slots of
the rows."""

Step = Callable[[torch.Tensor], torch.Tensor]
"""Columns as a tensor on the device to logits (slots, vocabulary)."""

MAX_ROUNDING = 2.0
"""How many times as far as the eager step a fused one in 16 bits may be from float32. Two steps that are right differ
by up to 1.7 times in models of 16 dimensions, and less in large ones."""

MIN_ROUNDING = 1e-3
"""How far it may be in any case, relative to the numbers themselves."""


@dataclass(frozen=True, eq=False)
class Fused:
    """A fused step that a graph may capture. `precise` is the eager step in float32 where the model has 16 bits: fused
    and eager steps round differently, in some models by a tenth of the logits, so that only their distances from
    float32 can be compared."""

    step: Step
    precise: Step | None = None


def compare(
    replay: Callable[[], None],
    inputs: torch.Tensor,
    logits: torch.Tensor,
    columns: Columns,
    buffers: SlotBuffers,
    step: Step,
    tolerance: float,
    precise: Step | None = None,
) -> str:
    """Replay some steps that begin like `columns`, and say how they differ from eager ones; empty if they agree.

    A replay reads `inputs` and writes `logits`, and keys and values to `buffers`. `precise` is as in `Fused`.
    """
    rounding = {"logits": _Rounding(), "keys and values": _Rounding()}
    for number in reversed(range(PROOF_STEPS)):
        numbers = _varied(columns, number, buffers.capacity)
        copy_to_device(numbers, inputs)
        replay()
        # before the eager step, which might write what the graph did not
        results = logits.clone(), _written(buffers, inputs)
        expected = step(to_device(numbers, inputs.device)), _written(buffers, inputs)
        if precise is None:
            if reason := difference(expected[0], results[0], tolerance) or written_difference(
                expected[1], results[1], tolerance
            ):
                return reason
            continue
        exact = precise(to_device(numbers, inputs.device)), _written(buffers, inputs)
        for own, *tensors in zip(rounding.values(), exact, expected, results, strict=True):
            own.add(*tensors)
    return next((reason for name, own in rounding.items() if (reason := own.problem(name))), "")


def difference(expected: torch.Tensor, result: torch.Tensor, tolerance: float) -> str:
    """How two tensors of logits differ; empty if they agree, and choose the same tokens unless two are almost equal."""
    error, largest = float((expected - result).abs().max()), float(expected.abs().max())
    allowed = tolerance * max(1.0, largest)
    if not error <= allowed:  # also where one is NaN
        return f"the logits of a graph differ from the eager ones by {error:.2g}, and {allowed:.2g} is allowed"
    chosen = expected.gather(-1, result.argmax(-1, keepdim=True))
    gap = float((expected.amax(-1, keepdim=True) - chosen).max())
    return f"a graph chooses a token whose logit is smaller by {gap:.2g}" if gap > allowed else ""


def written_difference(expected: torch.Tensor, result: torch.Tensor, tolerance: float) -> str:
    """How keys and values differ that a graph and the eager step wrote; empty if they agree."""
    error, allowed = float((expected - result).abs().max()), tolerance * max(1.0, float(expected.abs().max()))
    return "" if error <= allowed else f"the keys and values of a graph differ by {error:.2g} from the eager ones"


class _Rounding:
    """How far eager steps and a graph are from float32, in all steps together."""

    def __init__(self) -> None:
        self._allowed = self._error = 0.0

    def add(self, exact: torch.Tensor, expected: torch.Tensor, result: torch.Tensor) -> None:
        """The numbers of one step, each (slots, n)."""
        size = float(_row_distances(exact, torch.zeros_like(exact)).max())
        self._allowed += MAX_ROUNDING * float(_row_distances(exact, expected).max()) + MIN_ROUNDING * size
        self._error += float(_row_distances(exact, result).max())

    def problem(self, name: str) -> str:
        """What is wrong with these numbers; empty if the graph is about as far from float32 as the eager steps."""
        if self._error <= self._allowed:  # not where one is NaN
            return ""
        error, allowed = self._error / PROOF_STEPS, self._allowed / PROOF_STEPS
        return f"the {name} of a graph are {error:.2g} from those in float32, and {allowed:.2g} is allowed"


def _row_distances(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The root of the mean square of each row's differences."""
    return (first - second).square().mean(-1).sqrt()


def _written(buffers: SlotBuffers, inputs: torch.Tensor) -> torch.Tensor:
    """A copy of the keys and values at the new position of each slot, (slots, layers * heads * width)."""
    slots, lengths = torch.arange(inputs.shape[1], device=inputs.device), inputs[1]
    return torch.cat([part[slots, :, lengths].flatten(1) for layer in buffers.layers for part in layer], 1).float()


def _varied(columns: Columns, number: int, capacity: int) -> list[list[int]]:
    """Other valid numbers for each `number`, the same for 0: longer rows, smaller ids and positions, since what is
    smaller than a valid one is valid."""
    ids, lengths, prompts, positions, slots = columns
    smaller = [[max(0, value - number) for value in column] for column in (ids, prompts, positions)]
    longer = [min(length + number, capacity - 1) for length in lengths]
    return [smaller[0], longer, smaller[1], smaller[2], list(slots)]
