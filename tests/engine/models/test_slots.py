"""A batch in fixed slots computes what a left-aligned batch computes, whichever rows are added and removed."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch

from blip_space.engine.batch import new_batch
from blip_space.engine.batch_interface import Batch
from blip_space.engine.slot_cache import SlotCache
from blip_space.engine.slots import Slots
from blip_space.models.families.blip2 import Blip2
from blip_space.models.interface import Embedded
from tests.engine.models.both_batches import TOLERANCE, BothBatches

STEPS = 60


def used_slots(batch: Batch) -> list[int]:
    assert isinstance(batch, Slots)
    return [row.slot for row in batch._rows]


@pytest.mark.parametrize("seed", [0, 1])
def test_rows_in_slots_have_the_logits_of_left_aligned_rows(model: Blip2, prompts: list[Embedded], seed: int) -> None:
    """Prompts with one or several rows; removed, repeated and reordered rows; preempted and resumed rows."""
    rng, both = random.Random(seed), BothBatches(model)
    max_rows = 0
    for _ in range(STEPS):
        both.churn(rng, prompts, select=0.4, preempt=0.2, resume=0.3, add=0.5)
        if both.tokens:
            both.decode(rng)
        max_rows = max(max_rows, len(both.tokens))
        used = used_slots(both.slots)
        assert len(set(used)) == len(used) == len(both.slots) == len(both.aligned) == len(both.tokens)
    assert max_rows > 8
    assert both.largest > 1


def test_beams_are_reordered_to_their_parents(model: Blip2, prompts: list[Embedded]) -> None:
    """All sources are read before a target is written: two beams may be swapped."""
    both, rng = BothBatches(model), random.Random(5)
    both.prefill(prompts[3:5], [4, 1])
    for moves in ([], [(0, 1), (1, 0), (2, 3)], [(3, 0), (0, 3)], [(1, 2)]):
        for batch in both.pair:
            batch.reorder(moves)
        both.decode(rng)


def test_a_prompt_continues_from_the_key_values_of_a_row(model: Blip2, prompts: list[Embedded], slots: bool) -> None:
    """Beside another with a longer prefix: each as if prefilled at once, and so are the steps after it."""
    if not model.spec.decoder_only:
        return
    prompt, cuts = prompts[-1], (5, 9)
    earlier = new_batch(model.decoder, slots=slots)
    for cut in cuts:
        earlier.prefill([Embedded(prompt.embeddings[:cut], prompt.positions[:, :cut], cut)])
    cached = [earlier.key_values(row) for row in range(len(cuts))]
    batch, alone = new_batch(model.decoder, slots=slots), new_batch(model.decoder, slots=False)
    logits, expected = batch.prefill([prompt.without_prefix(cut) for cut in cuts], cached), alone.prefill([prompt])
    for token in (5, 6, 7):
        assert (logits - expected).abs().max() <= TOLERANCE
        logits, expected = batch.decode([token] * len(cuts)), alone.decode([token])
    for row in range(len(cuts)):
        for parts in zip(batch.key_values(row) or (), alone.key_values(0) or (), strict=True):
            assert all(torch.allclose(*pair, atol=TOLERANCE) for pair in zip(*parts, strict=True))


def test_rows_keep_their_slots_and_new_ones_take_the_lowest(model: Blip2, prompts: list[Embedded]) -> None:
    batch = new_batch(model.decoder, slots=True)
    batch.prefill(prompts[:1] * 5)
    addresses = pointers(batch)
    batch.select([0, 2, 4])
    assert used_slots(batch) == [0, 2, 4]
    batch.prefill(prompts[:2])
    assert used_slots(batch) == [0, 2, 4, 1, 3]
    batch.decode([5] * 5)
    assert pointers(batch) == addresses


def test_buffers_that_could_not_grow_lose_no_position(
    model: Blip2, prompts: list[Embedded], monkeypatch: pytest.MonkeyPatch
) -> None:
    both, rng = BothBatches(model), random.Random(4)
    both.prefill(prompts[:1], [1])
    both.decode(rng)

    def failing(*_: int) -> torch.Tensor:
        raise ValueError("no more")

    with monkeypatch.context() as patched:
        patched.setattr(SlotCache, "_empty", failing)
        with pytest.raises(ValueError, match="no more"):
            both.slots.prefill(prompts[:2])
    assert len(both.slots) == 1
    both.decode(rng)
    both.prefill(prompts[1:3], [1, 1])
    for _ in range(3):
        both.decode(rng)


def test_buffers_are_powers_of_two_and_shrink(model: Blip2, prompts: list[Embedded]) -> None:
    batch = new_batch(model.decoder, slots=True)
    assert batch.nbytes == 0
    sizes = []
    for _ in range(9):
        batch.prefill(prompts[:1])
        sizes.append(batch.nbytes)
    assert [size // sizes[0] for size in sizes] == [1, 2, 4, 4, 8, 8, 8, 8, 16]
    batch.select(range(8))
    assert batch.nbytes == sizes[-1]  # one more row would copy it again
    batch.select([7, 2, 5])
    assert batch.nbytes == sizes[2]
    batch.select([])
    assert batch.nbytes == 0
    batch.prefill(prompts[:1])
    assert batch.nbytes == sizes[0]


def test_a_row_longer_than_the_capacity_grows_it_once(model: Blip2, prompts: list[Embedded]) -> None:
    both, rng = BothBatches(model), random.Random(9)
    both.prefill(prompts[:2], [1, 1])
    capacities = list[int]()
    for _ in range(90):
        both.decode(rng)
        capacities.append(capacity(both.slots))
    assert capacities == sorted(capacities)
    assert set(capacities) == {64, 128}


def capacity(batch: Batch) -> int:
    assert isinstance(batch, Slots)
    return batch._cache.capacity


def pointers(batch: Batch) -> list[int]:
    """The addresses of the buffers."""

    def addresses() -> Iterator[int]:
        for cache in vars(batch).values():
            for layer in cache.buffers.layers if isinstance(cache, SlotCache) else ():
                yield from (part.data_ptr() for part in layer)

    return list(addresses())
