"""A fake GPU, on which a model runner does complete steps and every host synchronisation raises.

Its tensors have shapes and no numbers, so everything that makes the host wait raises: reading numbers (`item`,
`tolist`, `bool`), shapes that depend on numbers (`nonzero`, a mask as an index), and copies to the CPU. What a graph
captures of a step copies nothing to the GPU either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from blip_space.engine.model_runner import ModelRunner
from blip_space.engine.plan import Plan
from blip_space.engine.request import PreparedRequest
from blip_space.engine.sequence import FinishReason, Sequence, Status
from blip_space.engine.slots import Slots
from blip_space.models.interface import Precision, VisionLanguageModel
from blip_space.models.preparation import PLACEHOLDER, ImageSpan, Prompt
from blip_space.options import GenerationOptions

GPU = torch.device("cuda")
CHOSEN = 7
"""The sampled token of every row."""


class HostSyncError(RuntimeError):
    """The host waits for numbers of the GPU."""


class HostCopyError(RuntimeError):
    """A captured step copies numbers of the host, which a graph cannot, or would do with old ones."""


aten = torch.ops.aten
HOST_COPIES = (aten.lift_fresh.default, aten._to_copy.default, aten.copy_.default)
"""`torch.tensor`, `to` and `copy_`; other operations take a number of the host as an argument of their kernel."""


class FakeGpu(FakeTensorMode):  # type: ignore[no-untyped-call]  # of a metaclass of torch's
    """Raises where an operation takes tensors of the GPU and returns one of the CPU. No tensor has numbers, not even a
    constant."""

    is_capturing = False

    def may_turn_const(self, _: torch.Tensor) -> bool:
        return False

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = super().dispatch(func, types, args, kwargs or {})
        tensors = [part for part in tree_leaves((args, kwargs)) if isinstance(part, torch.Tensor)]
        inputs = [part.device.type for part in tensors if part.numel()]  # to copy nothing takes no time
        outputs = [part.device.type for part in tree_leaves(output) if isinstance(part, torch.Tensor)]
        if "cuda" in inputs and "cpu" in outputs:
            raise HostSyncError(str(func))
        if FakeGpu.is_capturing and func in HOST_COPIES and "cpu" in inputs:
            raise HostCopyError(str(func))
        return output


class Indexing(TorchFunctionMode):
    """`tensor[index]` by operations, since a torch built for CPUs rejects it for tensors of a GPU, fake ones too. A
    list or a tensor of the CPU as an index would be copied, and the host would wait."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__getitem__ and args[0].device.type == "cuda":
            return indexed(*args)
        if func is torch.Tensor.__setitem__ and args[0].device.type == "cuda":
            view, indices = basic_index(args[0], args[1])
            if indices:
                values = args[2] if isinstance(args[2], torch.Tensor) else torch.full((), args[2], device=GPU)
                return aten.index_put_.default(view, indices, values.to(view.dtype))
            if isinstance(args[2], torch.Tensor):
                return aten.copy_.default(view, args[2])
            return view.fill_(args[2])
        if func is torch.Tensor.contiguous and args[0].device.type == "cuda":
            return args[0].clone(memory_format=torch.contiguous_format)
        if func is torch.Tensor.copy_ and args[0].device.type == "cuda":
            return aten.copy_.default(*args)
        return func(*args, **(kwargs or {}))


def indexed(tensor: torch.Tensor, index: Any) -> torch.Tensor:
    view, indices = basic_index(tensor, index)
    return aten.index.Tensor(view, indices) if indices else view


def basic_index(tensor: torch.Tensor, index: Any) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """The view by integers, slices and None, and the tensors that index it, by dimension."""
    parts = index if isinstance(index, tuple) else (index,)
    if Ellipsis in [part for part in parts if not isinstance(part, torch.Tensor)]:
        at = next(index for index, part in enumerate(parts) if part is Ellipsis)
        used = sum(part is not None and part is not Ellipsis for part in parts)
        parts = (*parts[:at], *[slice(None)] * (tensor.dim() - used), *parts[at + 1 :])
    dim, indices = 0, list[Any]()
    for part in parts:
        if part is None:
            tensor = tensor.unsqueeze(dim)
        elif isinstance(part, int):
            tensor = tensor.select(dim, part)
            continue
        elif isinstance(part, slice):
            start, stop, step = part.indices(tensor.shape[dim])
            tensor = aten.slice.Tensor(tensor, dim, start, max(start, stop), step)
        elif not isinstance(part, torch.Tensor) or part.device.type != "cuda":
            raise HostSyncError(f"an index of {type(part)} is copied")
        indices.append(part if isinstance(part, torch.Tensor) else None)
        dim += 1
    return tensor, indices if any(part is not None for part in indices) else []


@contextmanager
def capturing() -> Iterator[None]:
    """What is captured as a graph."""
    FakeGpu.is_capturing = True
    try:
        yield
    finally:
        FakeGpu.is_capturing = False


Build = Callable[[Any, Precision], VisionLanguageModel]


@contextmanager
def on_fake_gpu(hf_model: Any, build: Build) -> Iterator[VisionLanguageModel]:
    """A model whose weights have no numbers, while the context lasts."""
    hf_model.requires_grad_(False)
    with FakeGpu(), Indexing():
        for module in hf_model.modules():
            for tensors in (module._parameters, module._buffers):
                tensors.update({name: on_gpu(part) for name, part in tensors.items() if part is not None})
        yield build(hf_model, Precision("fp32", "cuda", "it is fake"))


def on_gpu(part: torch.Tensor) -> torch.Tensor:
    fake = torch.empty(part.shape, dtype=part.dtype, device=GPU)
    return torch.nn.Parameter(fake, requires_grad=False) if isinstance(part, torch.nn.Parameter) else fake


def make_sequence(model: VisionLanguageModel, number: int, words: int, options: GenerationOptions) -> Sequence:
    """A sequence with a prompt of this many words."""
    positions: int = model.preparation.query_tokens  # type: ignore[attr-defined]  # of a fake
    ids = (PLACEHOLDER,) * positions + tuple(range(3, 3 + words))
    prompt = Prompt("", ids, (ImageSpan(0, positions, str(number)),))
    pixels = torch.zeros(1, 3, 28, 28, device="cpu")
    request = PreparedRequest(model.spec, prompt, (pixels,), options, continues_conversation=True)
    return Sequence(number, request, None)  # type: ignore[arg-type]  # without text


def admit(runner: ModelRunner, *sequences: Sequence) -> None:
    """Prefill their prompts; an error of that would only fail the sequence."""
    runner.run(Plan(admitted=list(sequences)))
    for sequence in sequences:
        if sequence.error is not None:
            raise sequence.error


def finished(sequence: Sequence) -> Sequence:
    sequence.finish(FinishReason.STOP)
    return sequence


def run_all_steps(runner: ModelRunner, model: VisionLanguageModel) -> None:
    """Prefill three prompts of different lengths, decode, remove one, admit another and a follow-up of the removed one,
    preempt and resume one, and remove all but one."""
    options = GenerationOptions(max_new_tokens=9, repetition_penalty=1.3)
    first, second, third, fourth = (
        make_sequence(model, number, number + 2, replace(options, temperature=number % 2 / 2, top_p=0.9))
        for number in range(4)
    )
    admit(runner, first, second, third)
    runner.run(Plan())
    runner.run(Plan(removed=[finished(first)]))
    admit(runner, fourth, follow_up(model, first))
    runner.run(Plan())
    second.status = Status.PREEMPTED
    runner.run(Plan(preempted=[second]))
    admit(runner, second)
    runner.run(Plan(removed=[finished(second), finished(third), finished(fourth)]))
    assert isinstance(runner._batch, Slots)
    assert len(runner._batch) == 1
    assert second.ids == [CHOSEN] * 5
    runner._batch.select([0, 0, 0])  # as with beams, whose scores are computed on the host
    runner._batch.reorder([(0, 1), (1, 0)])
    assert runner._batch.decode([CHOSEN] * 3).shape[0] == 3


def follow_up(model: VisionLanguageModel, earlier: Sequence) -> Sequence:
    """The next question of a conversation."""
    request = earlier.request
    prompt = Prompt("", (*request.prompt.ids, *earlier.ids, 4, 5, 6), request.prompt.images)
    return Sequence(9, PreparedRequest(model.spec, prompt, request.pixels, request.options, True), None)  # type: ignore[arg-type]
