"""Batches in fixed slots for decoder-only and encoder-decoder models: the forward pass of a step, and its buffers.

Depends on slots and the left-aligned batch; must not import requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

import torch

from blip_space.engine.caches import KeyValues
from blip_space.engine.graph_comparison import Fused, Step
from blip_space.engine.left_aligned import DecoderOnlyBatch, EncoderDecoderBatch
from blip_space.engine.prefill_functions import DecoderOnlyPrefill, EncoderDecoderPrefill
from blip_space.engine.slot_cache import SlotCache
from blip_space.engine.slot_prefill import prefix_length
from blip_space.engine.slot_rows import Row
from blip_space.engine.slots import Slots
from blip_space.engine.step_graphs import StepGraphs
from blip_space.models.interface import DecoderOnly, Embedded, EncoderDecoder

PREFILL = "prefill prompts"
"""What graphs do for prompts, as part of a sentence."""

PREFILL_MEMORY_SHARE = 1.0
"""How much memory the graphs that prefill prompts may take, as a share of that of the steps' graphs."""


class DecoderOnlySlots(Slots):
    """Slots for a decoder-only model: one slot holds a prompt and its answer."""

    first_capacities = ((128,), (256,))

    def __init__(self, decoder: DecoderOnly, graphs: StepGraphs) -> None:
        prefill = DecoderOnlyPrefill(decoder, graphs.for_function(PREFILL, PREFILL_MEMORY_SHARE))
        super().__init__(decoder.device, graphs, prefill)
        self._decoder = decoder

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        ids, lengths, _, positions, _ = inputs
        return self._decoder.forward(
            ids=ids[:, None],
            positions=positions[:, None].expand(self._decoder.axes, -1, -1),
            mask=self._decoder.slot_mask(lengths, self._cache.capacity),
            key_values=self._cache.view(len(ids), lengths),
        )

    @property
    def _fused(self) -> Fused | None:
        return _fused_steps(self._decoder, self._fused_step, self._step)

    def _fused_step(self, inputs: torch.Tensor) -> torch.Tensor:
        assert self._decoder.fused is not None
        ids, lengths, _, positions, _ = inputs
        return self._decoder.fused.step(
            ids, lengths, positions.expand(self._decoder.axes, -1), self._cache.buffers.layers
        )

    @torch.inference_mode()
    def copy(self, row: int) -> DecoderOnlyBatch:
        source = self._rows[row]
        cache = self._cache.copy_row(source.slot, source.length)
        return DecoderOnlyBatch.from_row(self._decoder, cache, source.length, source.next_position)

    @torch.inference_mode()
    def merge(self, other: DecoderOnlyBatch) -> None:
        new = self._add(other, [1] * len(other))
        self._cache.write([row.slot for row in new], other.cache, other.lengths)
        self._rows += new

    @torch.inference_mode()
    def key_values(self, row: int) -> KeyValues | None:
        return self._cache.key_values(self._rows[row].slot, self._rows[row].length)

    def _new_row(self, prompt: Embedded, prefix: torch.Tensor | None) -> Row:
        return Row(-1, prefix_length(prefix) + len(prompt), prompt.next_position)

    def _write(self, row: Row, index: int, key_values: Sequence[torch.Tensor], prefix: torch.Tensor | None) -> None:
        new = key_values[0][:, index]
        self._cache.write_row(row.slot, new[:, :, prefix_length(prefix) - row.length :], prefix)


class EncoderDecoderSlots(Slots):
    """Slots for an encoder-decoder model, separate for self-attention (answers) and cross-attention (prompts)."""

    first_capacities = ((64, 64), (64, 128))

    def __init__(self, decoder: EncoderDecoder, graphs: StepGraphs) -> None:
        prefill = EncoderDecoderPrefill(decoder, graphs.for_function(PREFILL, PREFILL_MEMORY_SHARE))
        super().__init__(decoder.device, graphs, prefill)
        self._decoder = decoder
        self._prompt_cache = SlotCache(graphs)

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        ids, lengths, prompts, positions, _ = inputs
        return self._decoder.forward(
            ids[:, None],
            positions=positions[None, :, None],
            mask=self._decoder.slot_mask(lengths, self._cache.capacity),
            states=None,
            prompt_mask=self._decoder.slot_mask(prompts, self._prompt_cache.capacity),
            self_attention=self._cache.view(len(ids), lengths),
            cross_attention=self._prompt_cache.view(len(ids)),
        )

    @property
    def _fused(self) -> Fused | None:
        return _fused_steps(self._decoder, self._fused_step, self._step)

    def _fused_step(self, inputs: torch.Tensor) -> torch.Tensor:
        assert self._decoder.fused is not None
        ids, lengths, prompts, positions, _ = inputs
        return self._decoder.fused.step(
            ids, lengths, positions[None], self._cache.buffers.layers, prompts + 1, self._prompt_cache.buffers.layers
        )

    @torch.inference_mode()
    def copy(self, row: int) -> EncoderDecoderBatch:
        slot, length, next_position, prompt_length = astuple(self._rows[row])
        caches = self._cache.copy_row(slot, length), self._prompt_cache.copy_row(slot, prompt_length)
        return EncoderDecoderBatch.from_row(self._decoder, caches, length, next_position, prompt_length)

    @torch.inference_mode()
    def merge(self, other: EncoderDecoderBatch) -> None:
        new = self._add(other, other.prompt_lengths)
        slots = [row.slot for row in new]
        self._cache.write(slots, other.self_attention, other.lengths)
        self._prompt_cache.write(slots, other.cross_attention, other.prompt_lengths, left=False)
        self._rows += new

    def key_values(self, row: int) -> KeyValues | None:  # noqa: ARG002  # an encoder takes the complete prompt
        return None

    def _new_row(self, prompt: Embedded, prefix: torch.Tensor | None) -> Row:  # noqa: ARG002
        return Row(-1, len(prompt.start), len(prompt.start), len(prompt))

    def _write(
        self,
        row: Row,
        index: int,
        key_values: Sequence[torch.Tensor],
        prefix: torch.Tensor | None,  # noqa: ARG002
    ) -> None:
        own, cross = key_values
        self._cache.write_row(row.slot, own[:, index])
        self._prompt_cache.write_row(row.slot, cross[:, index, :, : row.prompt_length])

    def _caches(self, rows: Sequence[Row] = ()) -> list[tuple[SlotCache, list[int]]]:
        return [*super()._caches(rows), (self._prompt_cache, [row.prompt_length for row in rows])]


def _fused_steps(decoder: DecoderOnly | EncoderDecoder, fused: Step, step: Step) -> Fused | None:
    """The fused step with what it is compared with, if the decoder has one."""
    if decoder.fused is None:
        return None

    def precise(inputs: torch.Tensor) -> torch.Tensor:
        with decoder.in_float32():
            return step(inputs)

    return Fused(fused, None if decoder.dtype == torch.float32 else precise)
