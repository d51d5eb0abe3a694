"""Rows in fixed slots compute what rows aligned at their ends compute, whoever comes and goes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from blip_space.engine import slot_cache
from blip_space.engine.batch import new_batch
from blip_space.engine.batch_interface import Batch
from blip_space.engine.kv_cache import KVCache
from blip_space.engine.left_aligned import DecoderOnlyBatch, EncoderDecoderBatch
from blip_space.engine.slot_cache import SlotCache, capacity_for, next_power_of_two
from blip_space.engine.slots import DecoderOnlySlots, EncoderDecoderSlots, Slots
from blip_space.models.families.blip2 import Blip2
from blip_space.models.interface import Embedded
from tests.checkpoints.generation import embed_text, image_features

WORDS = ("Question:", "how", "many", "cats", "are", "there?", "Answer:", "two", "blau", "赤い丸", "a photo of", "دائرة")
STEPS, TOLERANCE = 60, 1e-3


@pytest.fixture(scope="module")
def prompts(model: Blip2, two_images: list[Image.Image]) -> list[Embedded]:
    """Prompts of every length; one of them is longer than the smallest capacity."""
    rng, features = random.Random(3), image_features(model, two_images)
    lengths = (1, 1, 2, 3, 4, 5, 7, 9, 24)
    found = [
        embed_text(model, features[number % 2], " ".join(rng.choices(WORDS, k=k))) for number, k in enumerate(lengths)
    ]
    third = found[2]  # whose answer stands further on than the prompt is long, as where images count otherwise
    found[2] = Embedded(third.embeddings, third.positions, third.next_position + 3, third.start)
    return found


class Both:
    """The same done to rows aligned at their ends and to rows in slots; both must give the same logits."""

    def __init__(self, model: Blip2) -> None:
        self.aligned = new_batch(model.decoder, slots=False)
        self.slots = new_batch(model.decoder, slots=True)
        self.tokens: list[int] = []
        self.largest = 0.0

    def prefill(self, prompts: Sequence[Embedded], copies: Sequence[int]) -> None:
        logits = self._same([batch.prefill(prompts, (), copies) for batch in self.pair])
        ids = logits.argmax(-1).tolist()
        self.tokens += [token for token, count in zip(ids, copies, strict=True) for _ in range(count)]

    def decode(self, rng: random.Random) -> None:
        """A token that is likely, another for each row."""
        logits = self._same([batch.decode(self.tokens) for batch in self.pair])
        best = logits.topk(3)[1].tolist()
        self.tokens = [rng.choice(row) for row in best]

    def select(self, rows: list[int]) -> None:
        for batch in self.pair:
            batch.select(rows)
        self.tokens = [self.tokens[row] for row in rows]

    @property
    def pair(self) -> tuple[Batch, Batch]:
        return self.aligned, self.slots

    def _same(self, logits: list[torch.Tensor]) -> torch.Tensor:
        aligned, slots = logits
        assert aligned.shape == slots.shape
        self.largest = max(self.largest, float(aligned.abs().max()))
        assert (aligned - slots).abs().max() <= TOLERANCE * max(1.0, self.largest)
        return aligned


def used_slots(batch: Batch) -> list[int]:
    assert isinstance(batch, Slots)
    return [row.slot for row in batch._rows]


@pytest.mark.parametrize("seed", [0, 1])
def test_rows_that_come_and_go_have_the_logits_of_rows_aligned_at_their_ends(
    model: Blip2, prompts: list[Embedded], seed: int
) -> None:
    """Prompts, some of them for several rows; removed, repeated and reordered rows; rows set aside and taken back."""
    rng, both, aside = random.Random(seed), Both(model), list[tuple[Batch, Batch, int]]()
    most = 0
    for _ in range(STEPS):
        if both.tokens and rng.random() < 0.4:
            both.select(rng.choices(range(len(both.tokens)), k=rng.randint(0, len(both.tokens))))
        if both.tokens and rng.random() < 0.2:
            row = rng.randrange(len(both.tokens))
            aside.append((both.aligned.copy(row), both.slots.copy(row), both.tokens[row]))
        if aside and rng.random() < 0.3:
            aligned, slots, token = aside.pop(0)
            both.aligned.merge(aligned)
            both.slots.merge(slots)
            both.tokens.append(token)
        if len(both.tokens) < 9 and rng.random() < 0.5:
            chosen = sorted(rng.choices(prompts, k=rng.randint(1, 3)), key=len)
            both.prefill(chosen, [rng.choice((1, 1, 1, 3)) for _ in chosen])
        if both.tokens:
            both.decode(rng)
        most = max(most, len(both.tokens))
        taken = used_slots(both.slots)
        assert len(set(taken)) == len(taken) == len(both.slots) == len(both.aligned) == len(both.tokens)
    assert most > 8
    assert both.largest > 1


def test_beams_take_over_each_others_keys_and_values(model: Blip2, prompts: list[Embedded]) -> None:
    """All are read before any is written: two beams may change places."""
    both, rng = Both(model), random.Random(5)
    both.prefill(prompts[3:5], [4, 1])
    for moves in ([], [(0, 1), (1, 0), (2, 3)], [(3, 0), (0, 3)], [(1, 2)]):
        for batch in both.pair:
            batch.reorder(moves)
        both.decode(rng)


def test_a_prompt_goes_on_from_what_was_read_in_a_slot(model: Blip2, prompts: list[Embedded], slots: bool) -> None:
    """Beside another that has read more: each as if it was read at once, and so are the steps after it."""
    if not model.spec.decoder_only:
        return
    whole, cuts = prompts[-1], (5, 9)
    earlier = new_batch(model.decoder, slots=slots)
    for cut in cuts:
        earlier.prefill([Embedded(whole.embeddings[:cut], whole.positions[:, :cut], cut)])
    cached = [earlier.key_values(row) for row in range(len(cuts))]
    batch, alone = new_batch(model.decoder, slots=slots), new_batch(model.decoder, slots=False)
    logits, expected = batch.prefill([whole.without_prefix(cut) for cut in cuts], cached), alone.prefill([whole])
    for token in (5, 6, 7):
        assert (logits - expected).abs().max() <= TOLERANCE
        logits, expected = batch.decode([token] * len(cuts)), alone.decode([token])
    for row in range(len(cuts)):
        for parts in zip(batch.key_values(row) or (), alone.key_values(0) or (), strict=True):
            assert all(torch.allclose(one, other, atol=TOLERANCE) for one, other in zip(*parts, strict=True))


@pytest.mark.parametrize("width", [6, 70])
@pytest.mark.parametrize("left", [True, False])
def test_nothing_but_its_rows_comes_from_a_batch_into_slots(left: bool, width: int) -> None:
    """No number of its padding, and none of what was in the slots before."""
    lengths, cache = (3, 5), SlotCache()
    rows = torch.arange(2 * 2 * width * 4, dtype=torch.float32).view(2, 2, width, 4) + 1
    for row, length in enumerate(lengths):
        rows[row, :, : width - length if left else 0] = torch.nan
        rows[row, :, width if left else length :] = torch.nan
    cache.rebuild(4, 64, [])
    for _ in range(2):
        cache.write([3, 1], KVCache.from_row([(rows, rows)], width), lengths, left=left)
        keys, values = cache._buffers[0]
        for slot, row, length in zip((3, 1), rows, lengths, strict=True):
            own = row[:, width - length :] if left else row[:, :length]
            for part in (keys[slot], values[slot]):
                assert torch.equal(part[:, :length], own)
                assert not part[:, length:].any()
        keys.fill_(torch.nan)  # of whatever was there


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
    """Of two layers one has grown: what is decoded from then on is written where it is read."""
    both, rng, calls = Both(model), random.Random(4), list[int]()
    both.prefill(prompts[:1], [1])
    both.decode(rng)
    resized = slot_cache._resized

    def failing(*given: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) > 2:  # the keys and the values of the first layer
            raise ValueError("no more")
        return resized(*given)

    with monkeypatch.context() as patched:
        patched.setattr(slot_cache, "_resized", failing)
        with pytest.raises(ValueError, match="no more"):
            both.slots.prefill(prompts[:2])
    assert len(both.slots) == 1
    both.decode(rng)
    both.prefill(prompts[1:3], [1, 1])
    for _ in range(3):
        both.decode(rng)


def test_buffers_are_powers_of_two_and_follow_the_need(model: Blip2, prompts: list[Embedded]) -> None:
    batch = new_batch(model.decoder, slots=True)
    assert batch.nbytes == 0
    sizes = []
    for _ in range(9):
        batch.prefill(prompts[:1])
        sizes.append(batch.nbytes)
    assert [size // sizes[0] for size in sizes] == [1, 2, 4, 4, 8, 8, 8, 8, 16]
    batch.select(range(8))
    assert batch.nbytes == sizes[-1]  # the next that comes would have it copied again
    batch.select([7, 2, 5])
    assert batch.nbytes == sizes[2]
    batch.select([])
    assert batch.nbytes == 0
    batch.prefill(prompts[:1])
    assert batch.nbytes == sizes[0]


def made(length: int, *, heads: int = 2, width: int = 4, layers: int = 3) -> KVCache:
    """Numbers as keys and values of one row of that length."""
    generator = torch.Generator().manual_seed(length)

    def part() -> torch.Tensor:
        return torch.rand(1, heads, length, width, generator=generator) + 1

    return KVCache.from_row([(part(), part()) for _ in range(layers)], length)


def test_a_long_row_gives_its_room_back_and_the_others_stay_where_they_are() -> None:
    decoder: Any = SimpleNamespace(device=torch.device("cpu"), axes=1, slot_mask=lambda *_: None)
    rows = {length: DecoderOnlyBatch.from_row(decoder, made(length), length, length) for length in (200, 10, 20)}
    batch = DecoderOnlySlots(decoder)
    for alone in rows.values():
        batch.merge(alone)
    assert batch.nbytes == 2 * 3 * 4 * (2 * 256 * 4) * 4  # parts, layers, slots, heads by positions by width, bytes
    batch.select([1, 2])
    assert batch.nbytes == 2 * 3 * 4 * (2 * 64 * 4) * 4
    for row, length in enumerate((10, 20)):
        for (keys, values), (own_keys, own_values) in zip(
            batch.key_values(row) or (), rows[length].cache.layers, strict=True
        ):
            assert torch.equal(keys, own_keys[0])
            assert torch.equal(values, own_values[0])
    shapes = list[tuple[int, ...]]()

    def forward(*, ids: torch.Tensor, **_: Any) -> torch.Tensor:
        shapes.append(tuple(ids.shape))
        return torch.zeros(len(ids), 5)

    decoder.forward = forward
    assert len(batch.decode([1, 2])) == 2
    assert shapes == [(4, 1)]  # a power of two, so that there are few


def test_a_prompt_is_kept_whole_beside_a_short_answer() -> None:
    decoder: Any = SimpleNamespace(device=torch.device("cpu"), axes=1)
    batch, lengths = EncoderDecoderSlots(decoder), (100, 300)
    for length in lengths:
        batch.merge(EncoderDecoderBatch.from_row(decoder, (made(1), made(length)), 1, 1, length))
    assert batch.nbytes == 2 * 3 * 2 * (2 * (64 + 512) * 4) * 4
    for row, length in enumerate(lengths):
        for parts, own in zip(batch.copy(row).cross_attention.layers, made(length).layers, strict=True):
            assert all(torch.equal(part, one) for part, one in zip(parts, own, strict=True))


def test_a_row_longer_than_the_capacity_grows_it_once(model: Blip2, prompts: list[Embedded]) -> None:
    both, rng = Both(model), random.Random(9)
    both.prefill(prompts[:2], [1, 1])
    capacities = list[int]()
    for _ in range(90):
        both.decode(rng)
        capacities.append(capacity(both.slots))
    assert capacities == sorted(capacities)
    assert set(capacities) == {64, 128}


def test_powers_of_two() -> None:
    assert [next_power_of_two(number) for number in (0, 1, 2, 3, 4, 5, 64, 65)] == [1, 1, 2, 4, 4, 8, 64, 128]
    assert [capacity_for(length) for length in (0, 1, 64, 65, 129, 257)] == [64, 64, 64, 128, 256, 512]


def capacity(batch: Batch) -> int:
    assert isinstance(batch, Slots)
    return batch._cache.capacity


def pointers(batch: Batch) -> list[int]:
    """Where the buffers are."""

    def every() -> Iterator[int]:
        for cache in vars(batch).values():
            for layer in cache._buffers if isinstance(cache, SlotCache) else ():
                yield from (part.data_ptr() for part in layer)

    return list(every())
