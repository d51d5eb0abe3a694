"""A step that is launched before the host knows its ids computes what a later one would, or is not taken."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from blip_space.engine import model_runner, sampling, slot_rows, slots, step_graphs
from blip_space.engine.batch import new_batch
from blip_space.engine.batch_interface import Batch
from blip_space.engine.kv_cache import BLOCK_TOKENS
from blip_space.engine.slots import Slots
from blip_space.models.families.blip2 import Blip2
from blip_space.models.interface import Embedded
from blip_space.options import GenerationOptions
from tests.engine.fake_graphs import recording_graphs
from tests.engine.models.both_batches import BothBatches, Inputs
from tests.engine.models.driving import add, finish, generate_alone, make_core, make_request

pytestmark = pytest.mark.usefixtures("recorded")

STEPS = 120


@pytest.fixture
def launch_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps without a graph are launched ahead, too."""
    monkeypatch.setattr(slots, "LAUNCH_EAGER", True)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each launched step that was taken."""
    counts, take = list[int](), Slots._take

    def counting(batch: Slots, launched: Any) -> torch.Tensor:
        counts.append(len(batch))
        return take(batch, launched)

    monkeypatch.setattr(Slots, "_take", counting)
    return counts


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("graphs", [False, True], ids=["eager", "graphs"])
def test_launched_steps_have_the_logits_of_left_aligned_rows(
    model: Blip2, prompts: list[Embedded], taken: list[int], graphs: bool, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rows removed, added, repeated, reordered, preempted and resumed after the launch, and with wrong ids."""
    monkeypatch.setattr(slots, "LAUNCH_EAGER", not graphs)
    monkeypatch.setattr(step_graphs, "MIN_EAGER_STEPS", 2)
    monkeypatch.setattr(step_graphs, "MAX_CAPTURES", 9)
    both, rng = BothBatches(model, recording_graphs()[0] if graphs else None), random.Random(seed)
    both.slots.warm_up(prompts[0])
    launched = 0
    for _ in range(STEPS):
        both.churn(rng, prompts, select=0.2, preempt=0.1, resume=0.2, add=0.2)
        if len(both.tokens) > 1 and rng.random() < 0.1:
            for batch in both.pair:
                batch.reorder([(0, 0)])
        if both.tokens:
            both.decode(rng)
            both.launch(rng, wrong=0.05, ending=0.02)
            launched += both.slots.is_launched
            removed = [row for row in range(len(both.tokens)) if rng.random() < 0.9]
            if rng.random() < 0.4:
                both.select(rng.sample(removed, len(removed)))
    assert 5 < len(taken) < launched


def test_a_core_takes_the_launched_steps_of_greedy_sampled_and_penalized_answers(
    model: Blip2, two_images: list[Image.Image], taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By replays; two end early and one by its last token, and the answers are those of each alone."""
    options = [GenerationOptions(max_new_tokens=9 + 3 * number, repetition_penalty=1.3) for number in range(3)]
    options.append(replace(options[0], repetition_penalty=1.0, max_new_tokens=17))
    options[1] = replace(options[1], temperature=0.8, top_p=0.9)
    requests = [make_request(model, two_images[0], "how many cats are there?", each) for each in options]
    alone = [generate_alone(model, request) for request in requests]
    graphs, backend = recording_graphs()
    monkeypatch.setattr(sampling, "computes_on_host", lambda _: False)
    monkeypatch.setattr(model_runner, "new_step_graphs", lambda *_, **__: graphs)
    core = make_core(model, slots=True)
    for _ in range(2):
        taken.clear()
        sequences = [add(core, request) for request in requests]
        finish(core)
        assert [sequence.ids for sequence in sequences] == alone
        while core.capture_pending():
            pass
    longest = max(map(len, alone))
    assert len(taken) >= longest - 2
    assert backend.replays >= len(taken)
    assert set(taken) >= {4, 1}


@pytest.mark.usefixtures("launch_eager")
def test_a_row_is_not_launched_beyond_its_last_position(
    model: Blip2, prompts: list[Embedded], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A position that the model does not have would end the process's GPU; a row that ends keeps its own."""
    batch = new_batch(model.decoder, slots=True)
    batch.prefill(prompts[:2])
    batch.decode([5, 6])
    assert isinstance(batch, Slots)
    rows, seen = batch._rows, list[list[list[int]]]()
    before = [(row.length, row.next_position) for row in rows]
    plain = batch._step

    def step(inputs: torch.Tensor) -> torch.Tensor:
        seen.append(inputs.tolist())
        return plain(inputs)

    monkeypatch.setattr(batch, "_step", step)
    batch.launch(Inputs(model.decoder.device, [7, 8], {1}))
    assert batch.is_launched
    ids, lengths, _, positions, _ = seen[0]
    assert ids == [7, 8]
    assert lengths == [length for length, _ in before]
    assert positions == [before[0][1], before[1][1] - 1]
    assert [(row.length, row.next_position) for row in rows] == before
    batch.decode([7, 8])
    assert len(seen) == 2  # row 1 is still there, so the launched step was not taken
    batch.launch(Inputs(model.decoder.device, [7, 8], {0, 1}))
    assert not batch.is_launched


@pytest.mark.usefixtures("launch_eager")
def test_a_row_without_room_for_the_next_position_is_not_launched(model: Blip2, prompts: list[Embedded]) -> None:
    batch = new_batch(model.decoder, slots=True)
    batch.prefill(prompts[:1])
    launched = list[bool]()
    for _ in range(80):
        length = batch._rows[0].length  # type: ignore[attr-defined]
        batch.decode([5])
        batch.launch(Inputs(model.decoder.device, [5]))
        launched.append(batch.is_launched)
        assert batch.is_launched == (length + 1 < capacity(batch))
    assert launched.count(False) == 1


@pytest.mark.usefixtures("launch_eager")
def test_a_launched_step_is_dropped_with_the_buffers_that_have_its_positions(
    model: Blip2, prompts: list[Embedded]
) -> None:
    """They shrink to the length of the rows, and the next position was beyond it."""
    both, rng = BothBatches(model), random.Random(2)
    if not model.spec.decoder_only:
        return  # answers have buffers of their own, which start empty
    both.prefill([resized(prompts[-1], length) for length in (60, 3 * BLOCK_TOKENS)], [1, 1])
    slots_batch = both.slots
    assert isinstance(slots_batch, Slots)
    while slots_batch._rows[0].length < BLOCK_TOKENS:
        both.decode(rng)
    assert capacity(slots_batch) >= slot_rows.SHRINK_FACTOR * BLOCK_TOKENS
    both.launch(rng, wrong=0, ending=0)
    both.select([0])
    assert capacity(slots_batch) == BLOCK_TOKENS
    for _ in range(3):
        both.decode(rng)


@pytest.mark.usefixtures("launch_eager")
def test_a_launched_step_is_dropped_when_beams_take_keys_and_values_of_others(
    model: Blip2, prompts: list[Embedded]
) -> None:
    both, rng = BothBatches(model), random.Random(3)
    both.prefill(prompts[3:4], [3])
    for moves in ([(0, 1), (1, 0)], [(2, 0)]):
        both.decode(rng)
        both.tokens = [5, 5, 5]
        both.launch(rng, wrong=0, ending=0)
        for batch in both.pair:
            batch.reorder(moves)
        both.decode(rng)


def resized(prompt: Embedded, length: int) -> Embedded:
    """A prompt of this length, whose positions begin again before they are none of a small model's."""
    embeddings = prompt.embeddings.repeat(-(-length // len(prompt)), 1)[:length]
    return Embedded(embeddings, torch.arange(length, device=embeddings.device)[None] % 50, 50)


def capacity(batch: Batch) -> int:
    assert isinstance(batch, Slots)
    return batch._cache.capacity


def test_without_a_graph_no_step_is_launched(model: Blip2, prompts: list[Embedded]) -> None:
    """Its kernels would be launched one by one before the ids are read."""
    batch = new_batch(model.decoder, slots=True)
    batch.prefill(prompts[:1])
    batch.decode([5])
    batch.launch(Inputs(model.decoder.device, [5]))
    assert not batch.is_launched
