"""Computes with a 16-bit model in float32, one layer's weights at a time, to know how much 16 bits round.

Depends on torch only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from typing import Any

import torch


@contextmanager
def computing_in_float32(modules: Sequence[Any], head: Any) -> Iterator[None]:
    """While the context lasts, the modules compute in float32 with their weights. Embeddings are looked up as they are,
    and `head`, whose float32 copy would be the largest, rounds its input and its output."""
    with ExitStack() as hooks:
        for module in modules:
            _hook(module, head, hooks)
        yield


def float32_copy(cache: Any) -> Any:
    """A transformers cache with the same keys and values in float32."""
    result = copy(cache)
    result.layers = [copy(layer) for layer in cache.layers]
    for layer in result.layers:
        layer.keys, layer.values = layer.keys.float(), layer.values.float()
    return result


def _hook(module: Any, head: Any, hooks: ExitStack) -> None:
    """Hook a module and those in it; the layers of a list are float32 one after the other, each as a whole."""
    if module is head:
        hooks.callback(module.register_forward_pre_hook(_rounded).remove)
    elif isinstance(module, torch.nn.Embedding):
        hooks.callback(module.register_forward_hook(_float32_output).remove)
    elif isinstance(module, torch.nn.ModuleList):
        for layer in module:
            inner = [part for part in layer.modules() if isinstance(part, torch.nn.Embedding)]
            for part in inner:
                _hook(part, head, hooks)
            _hook_weights(layer, [part for part in layer.modules() if part not in inner], hooks)
    else:
        _hook_weights(module, [module], hooks)
        for child in module.children():
            _hook(child, head, hooks)


def _hook_weights(module: Any, owners: Sequence[Any], hooks: ExitStack) -> None:
    """Let the 16-bit weights of `owners` be float32 in the module's forward pass."""
    weights = [weight for owner in owners for weight in owner._parameters.values() if weight is not None]
    weights = [weight for weight in weights if weight.dtype in (torch.float16, torch.bfloat16)]
    kept: list[tuple[Any, torch.Tensor]] = []

    def enter(*_: Any) -> None:
        for weight in weights:
            kept.append((weight, weight.data))
            weight.data = weight.data.float()

    def leave(*_: Any) -> None:
        while kept:
            weight, original = kept.pop()
            weight.data = original

    if weights:
        hooks.callback(module.register_forward_pre_hook(enter).remove)
        hooks.callback(module.register_forward_hook(leave, always_call=True).remove)


def _rounded(head: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    weight = getattr(head, "weight", None)
    dtype = weight.dtype if weight is not None and weight.dtype.is_floating_point else inputs[0].dtype
    return tuple(part.to(dtype) for part in inputs)


def _float32_output(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
    return output.float()
