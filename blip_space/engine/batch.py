"""Chooses the batch layout for a device: fixed slots on a GPU, left-aligned rows elsewhere.

A GPU is fastest if shapes and addresses are the same in every step, a CPU if no unused position is computed. Depends on
both batches; must not import requests.
"""

from __future__ import annotations

from blip_space.engine.batch_interface import Batch
from blip_space.engine.left_aligned import DecoderOnlyBatch, EncoderDecoderBatch
from blip_space.engine.slots import DecoderOnlySlots, EncoderDecoderSlots
from blip_space.models.interface import DecoderOnly, EncoderDecoder


def new_batch(decoder: DecoderOnly | EncoderDecoder, *, slots: bool | None = None) -> Batch:
    """An empty batch for this decoder, in fixed slots if `slots` is true; None lets the device decide."""
    if slots is None:
        slots = decoder.device.type == "cuda"
    if isinstance(decoder, DecoderOnly):
        return DecoderOnlySlots(decoder) if slots else DecoderOnlyBatch(decoder)
    return EncoderDecoderSlots(decoder) if slots else EncoderDecoderBatch(decoder)
