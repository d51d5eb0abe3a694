"""Chooses the batch layout for a device: fixed slots on a GPU, left-aligned rows elsewhere.

A GPU is fastest if shapes and addresses are the same in every step, a CPU if no unused position is computed. Depends on
both batches; must not import requests.
"""

from __future__ import annotations

from blip_space.engine.batch_interface import Batch
from blip_space.engine.cuda_graphs import new_step_graphs
from blip_space.engine.left_aligned import DecoderOnlyBatch, EncoderDecoderBatch
from blip_space.engine.slot_batches import DecoderOnlySlots, EncoderDecoderSlots
from blip_space.engine.step_graphs import StepGraphs
from blip_space.models.interface import DecoderOnly, EncoderDecoder


def new_batch(
    decoder: DecoderOnly | EncoderDecoder, *, slots: bool | None = None, graphs: StepGraphs | None = None
) -> Batch:
    """An empty batch for this decoder, in fixed slots if `slots` is true; None lets the device decide. `graphs` are
    those of its slots; None is no graphs."""
    if slots is None:
        slots = decoder.device.type == "cuda"
    if not slots:
        return DecoderOnlyBatch(decoder) if isinstance(decoder, DecoderOnly) else EncoderDecoderBatch(decoder)
    graphs = graphs or new_step_graphs(decoder.device, decoder.dtype, enabled=False)
    return (
        DecoderOnlySlots(decoder, graphs) if isinstance(decoder, DecoderOnly) else EncoderDecoderSlots(decoder, graphs)
    )
