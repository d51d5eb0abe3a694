"""Sequences that run together are the sequences alone, token for token, whoever comes and goes beside them."""

from __future__ import annotations

import random
from collections.abc import Sequence as List
from dataclasses import replace

import pytest
import torch
from PIL import Image

from blip_space.engine.batch_interface import Batch
from blip_space.engine.kv_cache import BLOCK_TOKENS, KVCache
from blip_space.engine.request import PreparedRequest
from blip_space.engine.slot_cache import SlotCache
from blip_space.engine.slots import Slots
from blip_space.loading.memory import kv_positions
from blip_space.models.families.blip2 import Blip2
from blip_space.options import GenerationOptions
from tests.engine.models.driving import add, finish, generate_alone, make_core, make_request

pytestmark = pytest.mark.usefixtures("slots")

REQUESTS, REQUESTS_OVER_SLOTS = 200, 60
WORDS = ("Question:", "how", "many", "cats", "are", "there?", "Answer:", "two", "blau", "赤い丸", "a photo of", "دائرة")


@pytest.fixture(scope="module")
def asked(model: Blip2, two_images: list[Image.Image]) -> list[PreparedRequest]:
    """Prompts of every length with options of every kind."""
    rng = random.Random(7)
    return [
        make_request(
            model,
            two_images[number % 2],
            " ".join(rng.choices(WORDS, k=rng.randint(1, 9))),
            GenerationOptions(
                max_new_tokens=rng.randint(1, 14),
                temperature=0.0 if number % 5 == 0 else rng.choice((0.0, 0.0, 0.7, 1.5)),
                top_p=rng.choice((1.0, 0.8)),
                repetition_penalty=rng.choice((1.0, 1.0, 1.3)),
                seed=rng.randint(0, 5),
                quality="best" if number % 5 == 0 else "stream",
                num_beams=rng.choice((2, 5)),
            ),
            digest=str(number % 2),
        )
        for number in range(REQUESTS)
    ]


@pytest.fixture(scope="module")
def alone(model: Blip2, asked: List[PreparedRequest]) -> list[list[int]]:
    """What each is answered without any neighbour."""
    return [generate_alone(model, one) for one in asked]


def test_sequences_that_come_and_go_are_the_sequences_alone(
    model: Blip2, asked: List[PreparedRequest], alone: List[list[int]], slots: bool
) -> None:
    """With beam searches, samples, preemptions, cancels, and a batch that is begun again."""
    core, rng = make_core(model, max_batch_size=5, time_slice_tokens=2), random.Random(8)
    count = REQUESTS_OVER_SLOTS if slots else REQUESTS
    waiting, left, now = list(enumerate(asked[:count])), set[int](), 0.0
    together = {}
    while waiting or core.has_work:
        while waiting and rng.random() < 0.5:
            number, one = waiting.pop(0)
            together[number] = add(core, replace(one, background=rng.random() < 0.2))
        if together and rng.random() < 0.03:
            number = rng.choice(list(together))
            core.cancel(together[number].id)
            left.add(number)
        if rng.random() < 0.01:
            core._recover(RuntimeError("out of memory"), now)
            core._scheduler.row_limit = 99
        now += 1.0
        core.step(now)
    assert len(together) == count
    for number, sequence in together.items():
        if number not in left:
            assert sequence.ids == alone[number]
        elif not sequence.uses_beam_search:
            assert sequence.ids == alone[number][: len(sequence.ids)]


def test_a_batch_keeps_no_more_than_its_rows_need(model: Blip2, asked: List[PreparedRequest]) -> None:
    core = make_core(model)
    streams = [replace(one, options=GenerationOptions(max_new_tokens=60)) for one in asked[:9]]
    first = add(core, streams[0])
    core.step(1.0)
    one = core._runner._batch.nbytes
    others = [add(core, stream) for stream in streams[1:]]
    core.step(2.0)
    assert core._runner._batch.nbytes > one
    for sequence in others:
        core.cancel(sequence.id)
    core.step(3.0)
    assert core._runner._batch.nbytes <= 2 * one
    core.cancel(first.id)
    core.step(4.0)
    assert core._runner._batch.nbytes == 0


def test_a_new_sequence_takes_the_place_of_a_removed_one(model: Blip2, asked: List[PreparedRequest]) -> None:
    core = make_core(model)
    stream = replace(asked[0], options=GenerationOptions(max_new_tokens=60))
    sequences = [add(core, stream) for _ in range(4)]
    core.step(1.0)
    full = core._runner._batch.nbytes
    for place in (0, 3, 1):
        core.cancel(sequences[place].id)
        sequences[place] = add(core, stream)
        core.step(2.0)
        assert core._runner._batch.nbytes == full


@torch.inference_mode()
def overflow(batch: Batch, rows: list[int]) -> None:
    """Make no numbers of all keys and values that are kept for these rows."""
    places = [batch._rows[row].slot for row in rows] if isinstance(batch, Slots) else rows
    for cache in vars(batch).values():
        parts = cache.layers if isinstance(cache, KVCache) else cache._buffers if isinstance(cache, SlotCache) else ()
        for keys, values in parts:
            keys[places] = values[places] = torch.nan


def test_nothing_is_left_of_a_removed_sequence(
    model: Blip2, asked: List[PreparedRequest], alone: List[list[int]]
) -> None:
    """Not even numbers that are none, which an answer that overflowed leaves behind."""
    core = make_core(model)
    lasting = [number for number, one in enumerate(asked) if one.options.max_new_tokens > 3]
    by_length = sorted(lasting, key=lambda number: len(asked[number].prompt))
    short, middle, long = by_length[0], by_length[len(by_length) // 2], by_length[-1]
    gone, stays = add(core, asked[long]), add(core, asked[middle])
    core.step(1.0)
    rows = [row for row, (sequence, _) in enumerate(core._runner._rows) if sequence is gone]
    overflow(core._runner._batch, rows)
    core.cancel(gone.id)
    comes = add(core, asked[short])  # so that there is padding in the place of the removed one
    finish(core)
    assert (stays.ids, comes.ids) == (alone[middle], alone[short])


def test_a_sequences_memory_is_what_its_keys_and_values_take(
    model: Blip2, two_images: list[Image.Image], slots: bool
) -> None:
    core = make_core(model)
    for _ in range(3):
        add(core, make_request(model, two_images[0], "a photo of", GenerationOptions()))
    core.step(1.0)
    # buffers are whole blocks of positions, for the decoder's own and for those of the encoder's output
    each = model.decoder.kv_bytes(BLOCK_TOKENS)
    assert core._runner._batch.nbytes == (4 if slots else 3) * each  # slots are a power of two
    # which is what the scheduler counts
    reserved = [core._runner.reserved_positions(3, length) for length in (1, BLOCK_TOKENS)]
    assert reserved == [(4 if slots else 3) * BLOCK_TOKENS] * 2
    assert kv_positions(model) > 16 * model.spec.context_tokens


def test_a_later_turn_reads_only_what_is_new(model: Blip2, two_images: list[Image.Image]) -> None:
    """And says what it would have said without the memory, beside others with and without one."""
    options = GenerationOptions(max_new_tokens=6)
    first = "Question: how many cats are there? Answer:"
    core = make_core(model)
    varied = replace(options, repetition_penalty=2.0)  # so that the answer is not blank
    sequence = add(core, make_request(model, two_images[0], first, varied, digest="one"))
    finish(core)
    said = model.decode(sequence.ids)
    later = [
        (0, "one", f"{first} {said}. Question: a blue dog? Answer:"),
        (1, "other", f"{first} {said}. Question: a blue dog? Answer:"),
        (0, "one", f"{first} something else entirely. Question: and two? Answer:"),
        (0, "one", "Caption the image in German. Ein roter"),
    ]
    follow = [
        make_request(model, two_images[place], text, options, digest=name, turns=True) for place, name, text in later
    ]
    whole = len(follow[0].prompt)
    sequences = [add(core, one) for one in follow]
    assert core._runner.uncached_tokens(follow[1]) == whole
    assert (
        core._runner.uncached_tokens(follow[0]) < whole - follow[0].prompt.image_positions
    ) == model.spec.decoder_only
    finish(core)
    assert [one.ids for one in sequences] == [generate_alone(model, one) for one in follow]
    # two of the four, or three where every text begins with the same token
    assert core.prefix_hits in ((2, 3) if model.spec.decoder_only else (0,))
