"""A GPU that is not there, on which a model runner does whole steps and every read of a tensor raises.

Tensors here have shapes and no numbers, on a GPU that is not there, so whatever would make the host wait for one
raises: numbers that are read (`item`, `tolist`, `bool`), shapes that depend on numbers (`nonzero`, a mask as an index),
and copies to the processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from blip_space.engine.model_runner import ModelRunner
from blip_space.engine.request import PreparedRequest
from blip_space.engine.scheduler import Plan
from blip_space.engine.sequence import FinishReason, Sequence, Status
from blip_space.engine.slots import Slots
from blip_space.models.interface import Precision, VisionLanguageModel
from blip_space.models.preparation import PLACEHOLDER, ImageSpan, Prompt
from blip_space.options import GenerationOptions

GPU = torch.device("cuda")
CHOSEN = 7
"""What every row is told that it chose."""


class HostSyncError(RuntimeError):
    """Numbers went from the GPU to the host."""


class FakeGpu(FakeTensorMode):  # type: ignore[no-untyped-call]  # of a metaclass of torch's
    """Raises where an operation takes tensors of the GPU and gives one of the processor. No tensor has numbers, not
    even one that was made of a single one."""

    def may_turn_const(self, _: torch.Tensor) -> bool:
        return False

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = super().dispatch(func, types, args, kwargs or {})
        given = [part.device.type for part in tree_leaves((args, kwargs)) if isinstance(part, torch.Tensor)]
        made = [part.device.type for part in tree_leaves(output) if isinstance(part, torch.Tensor)]
        if "cuda" in given and "cpu" in made:
            raise HostSyncError(str(func))
        return output


class Indexing(TorchFunctionMode):
    """`tensor[index]` by operations: a torch that is built for processors refuses it to tensors of a GPU, fake ones
    included. An index that is a list or a tensor of the processor would travel, and the host wait."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__getitem__ and args[0].device.type == "cuda":
            return indexed(*args)
        if func is torch.Tensor.__setitem__ and args[0].device.type == "cuda":
            place, indices = basic(args[0], args[1])
            if indices:
                values = args[2] if isinstance(args[2], torch.Tensor) else torch.full((), args[2], device=GPU)
                return torch.ops.aten.index_put_.default(place, indices, values.to(place.dtype))
            if isinstance(args[2], torch.Tensor):
                return torch.ops.aten.copy_.default(place, args[2])
            return place.fill_(args[2])
        if func is torch.Tensor.contiguous and args[0].device.type == "cuda":
            return args[0].clone(memory_format=torch.contiguous_format)
        if func is torch.Tensor.copy_ and args[0].device.type == "cuda":
            return torch.ops.aten.copy_.default(*args)
        return func(*args, **(kwargs or {}))


def indexed(tensor: torch.Tensor, index: Any) -> torch.Tensor:
    place, indices = basic(tensor, index)
    return torch.ops.aten.index.Tensor(place, indices) if indices else place


def basic(tensor: torch.Tensor, index: Any) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """The part that integers, slices and None choose, and the tensors that then choose in it, by dimension."""
    parts = index if isinstance(index, tuple) else (index,)
    if Ellipsis in [part for part in parts if not isinstance(part, torch.Tensor)]:
        at = next(number for number, part in enumerate(parts) if part is Ellipsis)
        taken = sum(part is not None and part is not Ellipsis for part in parts)
        parts = (*parts[:at], *[slice(None)] * (tensor.dim() - taken), *parts[at + 1 :])
    dim, indices = 0, list[Any]()
    for part in parts:
        if part is None:
            tensor = tensor.unsqueeze(dim)
        elif isinstance(part, int):
            tensor = tensor.select(dim, part)
            continue
        elif isinstance(part, slice):
            start, stop, step = part.indices(tensor.shape[dim])
            tensor = torch.ops.aten.slice.Tensor(tensor, dim, start, max(start, stop), step)
        elif not isinstance(part, torch.Tensor) or part.device.type != "cuda":
            raise HostSyncError(f"an index of {type(part)} travels")
        indices.append(part if isinstance(part, torch.Tensor) else None)
        dim += 1
    return tensor, indices if any(part is not None for part in indices) else []


Build = Callable[[Any, Precision], VisionLanguageModel]


@contextmanager
def on_fake_gpu(network: Any, build: Build) -> Iterator[VisionLanguageModel]:
    """A model whose weights have no numbers, for as long as the context lasts."""
    network.requires_grad_(False)
    with FakeGpu(), Indexing():
        for module in network.modules():
            for own in (module._parameters, module._buffers):
                own.update({name: on_gpu(part) for name, part in own.items() if part is not None})
        yield build(network, Precision("fp32", "cuda", "it is not there"))


def on_gpu(part: torch.Tensor) -> torch.Tensor:
    fake = torch.empty(part.shape, dtype=part.dtype, device=GPU)
    return torch.nn.Parameter(fake, requires_grad=False) if isinstance(part, torch.nn.Parameter) else fake


def sequence(model: VisionLanguageModel, number: int, words: int, options: GenerationOptions) -> Sequence:
    """One that waits, with a prompt of so many words."""
    positions: int = model.preparation.query_tokens  # type: ignore[attr-defined]  # of a fake
    ids = (PLACEHOLDER,) * positions + tuple(range(3, 3 + words))
    prompt = Prompt("", ids, (ImageSpan(0, positions, str(number)),))
    pixels = torch.zeros(1, 3, 28, 28, device="cpu")
    asked = PreparedRequest(model.spec, prompt, (pixels,), options, continues_conversation=True)
    return Sequence(number, asked, None)  # type: ignore[arg-type]  # nobody reads its text


def admit(runner: ModelRunner, *sequences: Sequence) -> None:
    """Read their prompts; a fault in that would be a sequence's own."""
    runner.run(Plan(admitted=list(sequences)))
    for one in sequences:
        if one.error is not None:
            raise one.error


def end(one: Sequence) -> Sequence:
    one.finish(FinishReason.STOP)
    return one


def run_all_steps(runner: ModelRunner, model: VisionLanguageModel) -> None:
    """Three prompts of different lengths, a decode of all, one goes, two come, one of which goes on from what that one
    read, one is preempted and comes back, and all but one go."""
    options = GenerationOptions(max_new_tokens=9, repetition_penalty=1.3)
    first, second, third, fourth = (sequence(model, number, number + 2, options) for number in range(4))
    admit(runner, first, second, third)
    runner.run(Plan())
    runner.run(Plan(removed=[end(first)]))
    admit(runner, fourth, follow_up(model, first))
    runner.run(Plan())
    second.status = Status.PREEMPTED
    runner.run(Plan(preempted=[second]))
    admit(runner, second)
    runner.run(Plan(removed=[end(second), end(third), end(fourth)]))
    assert isinstance(runner._batch, Slots)
    assert len(runner._batch) == 1
    assert second.ids == [CHOSEN] * 5
    runner._batch.select([0, 0, 0])  # as beams do, whose scores are read on the host
    runner._batch.reorder([(0, 1), (1, 0)])
    assert runner._batch.decode([CHOSEN] * 3).shape[0] == 3


def follow_up(model: VisionLanguageModel, earlier: Sequence) -> Sequence:
    """The next question of a conversation, behind what was asked and answered."""
    before = earlier.request.prompt
    prompt = Prompt("", (*before.ids, *earlier.ids, 4, 5, 6), before.images)
    request = earlier.request
    return Sequence(9, PreparedRequest(model.spec, prompt, request.pixels, request.options, True), None)  # type: ignore[arg-type]
