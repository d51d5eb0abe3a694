"""Sequences in one batch equal each alone, token for token, whichever others are added and removed."""

from __future__ import annotations

import random
from collections.abc import Sequence as List
from dataclasses import replace

import pytest
import torch
from PIL import Image

from blip_space.callers import Caller
from blip_space.engine import sampling
from blip_space.engine import slots as slots_module
from blip_space.engine.batch_interface import Batch
from blip_space.engine.kv_cache import BLOCK_TOKENS, KVCache
from blip_space.engine.request import PreparedRequest
from blip_space.engine.slot_cache import SlotBuffers, SlotCache
from blip_space.engine.slots import Slots
from blip_space.loading.memory import kv_positions
from blip_space.models.families.blip2 import Blip2
from blip_space.options import GenerationOptions
from tests.engine.models.driving import add, finish, generate_alone, make_core, make_request

pytestmark = pytest.mark.usefixtures("slots")

REQUESTS, REQUESTS_OVER_SLOTS = 200, 60
CALLERS = [Caller(address, "") for address in ("127.0.0.2", "127.0.0.2", "127.0.0.2", "127.0.0.3")]
WORDS = ("Question:", "how", "many", "cats", "are", "there?", "Answer:", "two", "blau", "赤い丸", "a photo of", "دائرة")


@pytest.fixture(scope="module")
def requests(model: Blip2, two_images: list[Image.Image]) -> list[PreparedRequest]:
    """Prompts of many lengths with options of every kind."""
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
def alone(model: Blip2, requests: List[PreparedRequest]) -> list[list[int]]:
    """The answer to each request alone."""
    return [generate_alone(model, request) for request in requests]


def test_sequences_in_changing_batches_equal_each_alone(
    model: Blip2, requests: List[PreparedRequest], alone: List[list[int]], slots: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With beam searches, samples, callers, preemptions, cancellations, batches that are restarted, and launched
    steps."""
    monkeypatch.setattr(slots_module, "LAUNCH_EAGER", True)
    if slots:
        monkeypatch.setattr(sampling, "computes_on_host", lambda _: False)
    core, rng = make_core(model, max_batch_size=5, time_slice_tokens=2), random.Random(8)
    count = REQUESTS_OVER_SLOTS if slots else REQUESTS
    waiting, cancelled, now = list(enumerate(requests[:count])), set[int](), 0.0
    together = {}
    while waiting or core.has_work:
        while waiting and rng.random() < 0.5:
            number, request = waiting.pop(0)
            together[number] = add(core, replace(request, background=rng.random() < 0.2, caller=rng.choice(CALLERS)))
        if together and rng.random() < 0.03:
            number = rng.choice(list(together))
            core.cancel(together[number].id)
            cancelled.add(number)
        if rng.random() < 0.01:
            core._recover(RuntimeError("out of memory"), now)
            core._scheduler.memory.row_limit = 99
        now += 1.0
        core.step(now)
    assert len(together) == count
    for number, sequence in together.items():
        if number not in cancelled:
            assert sequence.ids == alone[number]
        elif not sequence.uses_beam_search:
            assert sequence.ids == alone[number][: len(sequence.ids)]


def test_a_batch_frees_the_memory_of_removed_rows(model: Blip2, requests: List[PreparedRequest]) -> None:
    core = make_core(model)
    streams = [replace(request, options=GenerationOptions(max_new_tokens=60)) for request in requests[:9]]
    first = add(core, streams[0])
    core.step(1.0)
    row_bytes = core._runner._batch.nbytes
    others = [add(core, stream) for stream in streams[1:]]
    core.step(2.0)
    assert core._runner._batch.nbytes > row_bytes
    for sequence in others:
        core.cancel(sequence.id)
    core.step(3.0)
    assert core._runner._batch.nbytes <= 2 * row_bytes
    core.cancel(first.id)
    core.step(4.0)
    assert core._runner._batch.nbytes == 0


def test_a_new_row_takes_the_memory_of_a_removed_one(model: Blip2, requests: List[PreparedRequest]) -> None:
    core = make_core(model)
    stream = replace(requests[0], options=GenerationOptions(max_new_tokens=60))
    sequences = [add(core, stream) for _ in range(4)]
    core.step(1.0)
    full = core._runner._batch.nbytes
    for index in (0, 3, 1):
        core.cancel(sequences[index].id)
        sequences[index] = add(core, stream)
        core.step(2.0)
        assert core._runner._batch.nbytes == full


@torch.inference_mode()
def overflow(batch: Batch, rows: list[int]) -> None:
    """Set all keys and values of these rows to NaN."""
    indices = [batch._rows[row].slot for row in rows] if isinstance(batch, Slots) else rows
    for cache in vars(batch).values():
        owner = cache.buffers if isinstance(cache, SlotCache) else cache
        parts = owner.layers if isinstance(owner, KVCache | SlotBuffers) else ()
        for keys, values in parts:
            keys[indices] = values[indices] = torch.nan


def test_a_new_row_reads_nothing_of_a_removed_one(
    model: Blip2, requests: List[PreparedRequest], alone: List[list[int]]
) -> None:
    """Not even the NaN of an answer that overflowed."""
    core = make_core(model)
    lasting = [number for number, request in enumerate(requests) if request.options.max_new_tokens > 3]
    by_length = sorted(lasting, key=lambda number: len(requests[number].prompt))
    short, middle, long = by_length[0], by_length[len(by_length) // 2], by_length[-1]
    removed, running = add(core, requests[long]), add(core, requests[middle])
    core.step(1.0)
    rows = [row for row, (sequence, _) in enumerate(core._runner._rows) if sequence is removed]
    overflow(core._runner._batch, rows)
    core.cancel(removed.id)
    added = add(core, requests[short])  # shorter, so that its padding is in the buffers of the removed one
    finish(core)
    assert (running.ids, added.ids) == (alone[middle], alone[short])


def test_memory_is_what_kv_bytes_and_the_scheduler_count(
    model: Blip2, two_images: list[Image.Image], slots: bool
) -> None:
    core = make_core(model)
    for _ in range(3):
        add(core, make_request(model, two_images[0], "a photo of", GenerationOptions()))
    core.step(1.0)
    # buffers are complete blocks of positions, for self-attention and for cross-attention
    row_bytes = model.decoder.kv_bytes(BLOCK_TOKENS)
    assert core._runner._batch.nbytes == (4 if slots else 3) * row_bytes  # slots are a power of two
    reserved = [core._runner.reserved_positions(3, length) for length in (1, BLOCK_TOKENS)]
    assert reserved == [(4 if slots else 3) * BLOCK_TOKENS] * 2
    assert kv_positions(model) > 16 * model.spec.context_tokens


def test_a_follow_up_prefills_only_new_positions(model: Blip2, two_images: list[Image.Image]) -> None:
    """And its answer is the one without a cache, beside others with and without cached positions."""
    options = GenerationOptions(max_new_tokens=6)
    first = "Question: how many cats are there? Answer:"
    core = make_core(model)
    varied = replace(options, repetition_penalty=2.0)  # so that the answer is not blank
    sequence = add(core, make_request(model, two_images[0], first, varied, digest="one"))
    finish(core)
    reply = model.decode(sequence.ids)
    follow_ups = [
        (0, "one", f"{first} {reply}. Question: a blue dog? Answer:"),
        (1, "other", f"{first} {reply}. Question: a blue dog? Answer:"),
        (0, "one", f"{first} something else entirely. Question: and two? Answer:"),
        (0, "one", "Caption the image in German. Ein roter"),
    ]
    follow = [
        make_request(model, two_images[index], text, options, digest=name, turns=True)
        for index, name, text in follow_ups
    ]
    length = len(follow[0].prompt)
    sequences = [add(core, request) for request in follow]
    assert core._runner.uncached_tokens(follow[1]) == length
    assert (
        core._runner.uncached_tokens(follow[0]) < length - follow[0].prompt.image_positions
    ) == model.spec.decoder_only
    finish(core)
    assert [sequence.ids for sequence in sequences] == [generate_alone(model, request) for request in follow]
    # two of the four, or three where every text begins with the same token
    assert core.prefix_hits in ((2, 3) if model.spec.decoder_only else (0,))
