"""Which way a model's rows are laid out: fixed slots where a GPU decodes, aligned at their ends elsewhere.

A GPU wants the same shapes and addresses in every step; a processor wants no position computed that is not needed.
Depends on both ways; must not import requests.
"""

from __future__ import annotations

from blip_space.engine.batch_interface import Batch
from blip_space.engine.left_aligned import DecoderOnlyBatch, EncoderDecoderBatch
from blip_space.engine.slots import DecoderOnlySlots, EncoderDecoderSlots
from blip_space.models.interface import DecoderOnly, EncoderDecoder


def new_batch(decoder: DecoderOnly | EncoderDecoder, *, slots: bool | None = None) -> Batch:
    """A batch without rows on this decoder; `slots` chooses the way, which the device does where it is None."""
    if slots is None:
        slots = decoder.device.type == "cuda"
    if isinstance(decoder, DecoderOnly):
        return DecoderOnlySlots(decoder) if slots else DecoderOnlyBatch(decoder)
    return EncoderDecoderSlots(decoder) if slots else EncoderDecoderBatch(decoder)
