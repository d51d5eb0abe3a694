"""Keys and values in slots, without a model: copies without padding, capacities, and memory that is freed."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from blip_space.engine.kv_cache import KVCache
from blip_space.engine.left_aligned import DecoderOnlyBatch, EncoderDecoderBatch
from blip_space.engine.slot_batches import DecoderOnlySlots, EncoderDecoderSlots
from blip_space.engine.slot_cache import SlotCache, capacity_for, next_power_of_two
from blip_space.engine.step_graphs import StepGraphs


@pytest.mark.parametrize("width", [6, 70])
@pytest.mark.parametrize("left", [True, False])
def test_write_copies_rows_without_their_padding(left: bool, width: int) -> None:
    """And overwrites everything that was in the slots before."""
    lengths, cache = (3, 5), SlotCache()
    rows = torch.arange(2 * 2 * width * 4, dtype=torch.float32).view(2, 2, width, 4) + 1
    for row, length in enumerate(lengths):
        rows[row, :, : width - length if left else 0] = torch.nan
        rows[row, :, width if left else length :] = torch.nan
    cache.rebuild(4, 64, [])
    for _ in range(2):
        cache.write([3, 1], KVCache.from_row([(rows, rows)], width), lengths, left=left)
        keys, values = cache.buffers.layers[0]
        for slot, row, length in zip((3, 1), rows, lengths, strict=True):
            expected = row[:, width - length :] if left else row[:, :length]
            for part in (keys[slot], values[slot]):
                assert torch.equal(part[:, :length], expected)
                assert not part[:, length:].any()
        keys.fill_(torch.nan)  # of earlier rows


def random_row(length: int, *, heads: int = 2, width: int = 4, layers: int = 3) -> KVCache:
    """Random keys and values of one row of this length."""
    generator = torch.Generator().manual_seed(length)

    def part() -> torch.Tensor:
        return torch.rand(1, heads, length, width, generator=generator) + 1

    return KVCache.from_row([(part(), part()) for _ in range(layers)], length)


def test_a_removed_long_row_frees_memory_and_the_others_keep_their_slots() -> None:
    decoder: Any = SimpleNamespace(device=torch.device("cpu"), axes=1, slot_mask=lambda *_: None)
    rows = {length: DecoderOnlyBatch.from_row(decoder, random_row(length), length, length) for length in (200, 10, 20)}
    batch = DecoderOnlySlots(decoder, StepGraphs(None, torch.float32, 0))
    for row_batch in rows.values():
        batch.merge(row_batch)
    assert batch.nbytes == 2 * 3 * 4 * (2 * 256 * 4) * 4  # parts, layers, slots, heads by positions by width, bytes
    batch.select([1, 2])
    assert batch.nbytes == 2 * 3 * 4 * (2 * 64 * 4) * 4
    for row, length in enumerate((10, 20)):
        for (keys, values), (row_keys, row_values) in zip(
            batch.key_values(row) or (), rows[length].cache.layers, strict=True
        ):
            assert torch.equal(keys, row_keys[0])
            assert torch.equal(values, row_values[0])
    shapes = list[tuple[int, ...]]()

    def forward(*, ids: torch.Tensor, **_: Any) -> torch.Tensor:
        shapes.append(tuple(ids.shape))
        return torch.zeros(len(ids), 5)

    decoder.forward = forward
    assert len(batch.decode([1, 2])) == 2
    assert shapes == [(4, 1)]  # a power of two, so that there are few


def test_a_prompt_longer_than_its_answer_is_kept() -> None:
    decoder: Any = SimpleNamespace(device=torch.device("cpu"), axes=1)
    batch, lengths = EncoderDecoderSlots(decoder, StepGraphs(None, torch.float32, 0)), (100, 300)
    for length in lengths:
        batch.merge(EncoderDecoderBatch.from_row(decoder, (random_row(1), random_row(length)), 1, 1, length))
    assert batch.nbytes == 2 * 3 * 2 * (2 * (64 + 512) * 4) * 4
    for row, length in enumerate(lengths):
        for parts, row_parts in zip(batch.copy(row).cross_attention.layers, random_row(length).layers, strict=True):
            assert all(torch.equal(part, expected) for part, expected in zip(parts, row_parts, strict=True))


def test_a_row_is_written_after_its_prefix_and_read_as_one_tensor() -> None:
    """The slot's earlier numbers are gone, and what was read does not change with the slot."""
    cache, prefix, new = SlotCache(), torch.rand(4, 2, 3, 5), torch.rand(4, 2, 6, 5)
    cache.rebuild(2, 64, [])
    cache.write_row(1, torch.full((4, 2, 64, 5), torch.nan))
    cache.write_row(1, new, prefix)
    row = cache.key_values(1, 9)
    cache.write_row(1, new)
    assert torch.equal(row.tensor, torch.cat([prefix, new], dim=2))
    for number, (keys, values) in enumerate(row):
        assert torch.equal(keys, row.tensor[2 * number])
        assert torch.equal(values, row.tensor[2 * number + 1])
    assert len(row) == 2
    assert not cache.buffers.layers[1][1][1, :, 6:].any()


def test_the_memory_of_slots_is_freed_without_the_collector() -> None:
    """After memory ran out, the next batch needs that of the last one at once."""
    gc.disable()
    try:
        cache = SlotCache(StepGraphs(None, torch.float32, 0))
        cache.rebuild(1, 64, [])
        cache.write_row(0, torch.zeros(4, 2, 8, 8))
        assert cache.buffers.tensor is not None
        tensor = weakref.ref(cache.buffers.tensor)
        del cache
        assert tensor() is None
    finally:
        gc.enable()


def test_powers_of_two() -> None:
    assert [next_power_of_two(number) for number in (0, 1, 2, 3, 4, 5, 64, 65)] == [1, 1, 2, 4, 4, 8, 64, 128]
    assert [capacity_for(length) for length in (0, 1, 64, 65, 129, 257)] == [64, 64, 64, 128, 256, 512]
