"""Prompts prefilled by graphs, for slots, have the logits, keys and values of prompts in a left-aligned batch."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from PIL import Image

from blip_space.engine import model_runner, slot_prefill, slots, step_graphs
from blip_space.engine.batch import new_batch
from blip_space.engine.slot_batches import PREFILL
from blip_space.engine.slot_prefill import MAX_ROWS, SlotPrefill, rounded_positions, rounded_rows
from blip_space.engine.slots import Slots
from blip_space.engine.step_graphs import StepGraphs
from blip_space.models.families.blip2 import Blip2
from blip_space.models.interface import Embedded
from blip_space.options import GenerationOptions
from tests.engine.fake_graphs import RecordingBackend, recording_graphs
from tests.engine.models.both_batches import TOLERANCE, BothBatches
from tests.engine.models.driving import add, finish, generate_alone, make_core, make_request

pytestmark = pytest.mark.usefixtures("recorded")

STEPS = 60


def graph_batches(model: Blip2, **behaviour: Any) -> tuple[BothBatches, StepGraphs, RecordingBackend]:
    """A left-aligned batch, and one in slots with graphs for everything."""
    graphs, backend = recording_graphs(of_steps_only=False, **behaviour)
    return BothBatches(model, graphs), graphs, backend


def capture_all(both: BothBatches) -> None:
    while both.slots.capture_pending():
        pass


def captured_sizes(both: BothBatches) -> list[tuple[int, ...]]:
    assert isinstance(both.slots, Slots)
    return sorted(both.slots._prefill.graphs.sizes)


@pytest.mark.parametrize("seed", [0, 1])
def test_replays_have_the_logits_of_left_aligned_rows(
    model: Blip2, prompts: list[Embedded], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between decode steps, with copies, and with several rows in a graph for more."""
    monkeypatch.setattr(step_graphs, "MIN_EAGER_STEPS", 2)
    monkeypatch.setattr(slot_prefill, "MIN_EAGER", 2)
    (both, graphs, _), rng = graph_batches(model), random.Random(seed)
    both.slots.warm_up(prompts[0], [len(prompts[0])])
    for _ in range(STEPS):
        both.churn(rng, prompts, select=0.4, preempt=0.1, resume=0.2, add=0.6)
        if both.tokens:
            both.decode(rng)
        elif rng.random() < 0.3:
            capture_all(both)
    assert graphs.status.startswith("on, ")
    assert graphs.for_function(PREFILL, 1).status.startswith("on, ")
    assert len({rows for rows, *_ in captured_sizes(both)}) > 1


def test_more_prompts_than_one_pass_takes_keep_their_order(model: Blip2, prompts: list[Embedded]) -> None:
    """Also where two passes are replays of one graph, which overwrites its results."""
    (both, _, backend), rng = graph_batches(model), random.Random(3)
    many = [rng.choice(prompts[:5]) for _ in range(2 * MAX_ROWS + 3)]
    both.prefill(many, [1] * len(many))
    both.select([])
    capture_all(both)
    before = backend.replays
    both.prefill(many[::-1], [1] * len(many))
    assert backend.replays == before + 3
    both.decode(rng)


def test_many_prompts_share_an_eager_pass_that_is_not_captured(
    model: Blip2, prompts: list[Embedded], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a folder job, where a GPU would wait for kernels to be launched for each few prompts."""
    monkeypatch.setattr(slots, "MANY_ROWS", 2 * MAX_ROWS)
    (both, _, backend), rng = graph_batches(model), random.Random(3)
    many = [rng.choice(prompts[:5]) for _ in range(3 * MAX_ROWS)]
    sizes, prefill = list[int](), SlotPrefill.__call__

    def counted(function: SlotPrefill, prompts: Any, prefixes: Any) -> Any:
        sizes.append(len(prompts))
        return prefill(function, prompts, prefixes)

    monkeypatch.setattr(SlotPrefill, "__call__", counted)
    both.prefill(many, [1] * len(many))
    both.decode(rng)
    both.select([])
    capture_all(both)
    assert sizes == [2 * MAX_ROWS, MAX_ROWS]
    assert max(rows for rows, *_ in captured_sizes(both)) == MAX_ROWS
    before = backend.replays
    both.prefill(many, [1] * len(many))
    assert backend.replays == before + 1


def test_a_continued_conversation_is_a_replay_as_if_prefilled_at_once(model: Blip2, prompts: list[Embedded]) -> None:
    """Beside another with a longer prefix and one without, in the same pass."""
    if not model.spec.decoder_only:
        return
    prompt, cuts = prompts[-1], (0, 5, 9)
    graphs, backend = recording_graphs(of_steps_only=False)
    batch, alone = new_batch(model.decoder, slots=True, graphs=graphs), new_batch(model.decoder, slots=False)
    for cut in cuts[1:]:
        batch.prefill([Embedded(prompt.embeddings[:cut], prompt.positions[:, :cut], cut)])
    cached = [None, batch.key_values(0), batch.key_values(1)]
    batch.select([])
    rest = [prompt.without_prefix(cut) for cut in cuts]
    expected = alone.prefill([prompt])
    for is_replay in (False, True):
        before = backend.replays
        logits = batch.prefill(rest, cached)
        assert backend.replays - before == int(is_replay)
        assert (logits - expected).abs().max() <= TOLERANCE
        for row in range(len(cuts)):
            for parts in zip(batch.key_values(row) or (), alone.key_values(0) or (), strict=True):
                assert all(torch.allclose(*pair, atol=TOLERANCE) for pair in zip(*parts, strict=True))
        if not is_replay:
            batch.select([])
            while batch.capture_pending():
                pass
    for token in (5, 6, 7):
        assert (batch.decode([token] * len(cuts)) - alone.decode([token])).abs().max() <= TOLERANCE


def test_a_lone_prompt_is_a_replay_after_the_warm_up(model: Blip2, prompts: list[Embedded]) -> None:
    """Shorter ones too; those for later questions are captured in idle time."""
    both, _, backend = graph_batches(model)
    both.slots.warm_up(prompts[0], [len(prompts[-1])])
    third = len(prompts[0].start)
    assert captured_sizes(both) == [(1, rounded_positions(1, len(prompts[-1])), third)]
    for prompt in (prompts[-1], prompts[3]):
        before = backend.replays
        both.prefill([prompt], [1])
        assert backend.replays == before + 1
        both.select([])
    capture_all(both)
    assert len(captured_sizes(both)) > (3 if model.spec.decoder_only else 1)


def test_a_much_larger_graph_is_not_used(
    model: Blip2, prompts: list[Embedded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_prefill, "FREE_POSITIONS", 16)
    both, _, backend = graph_batches(model)
    both.slots.warm_up(prompts[0], [8 * len(prompts[-1])])
    before = backend.replays
    both.prefill([prompts[0]], [1])
    assert backend.replays == before


@pytest.mark.parametrize(("cut", "captured", "is_replay"), [(5, 256, True), (130, 256, True), (130, 128, False)])
def test_a_graph_for_a_longer_prefix_is_used_and_none_for_a_shorter_one(
    model: Blip2, prompts: list[Embedded], cut: int, captured: int, is_replay: bool
) -> None:
    if not model.spec.decoder_only:
        return
    long = prompts[-1].embeddings.repeat(9, 1)[:140]
    prompt = Embedded(long, torch.arange(len(long), device=long.device)[None] // 2, len(long))  # OPT's table is short
    graphs, backend = recording_graphs(of_steps_only=False)
    batch, alone = new_batch(model.decoder, slots=True, graphs=graphs), new_batch(model.decoder, slots=False)
    batch.prefill([Embedded(prompt.embeddings[:cut], prompt.positions[:, :cut], cut)])
    cached = batch.key_values(0)
    batch.select([])
    assert isinstance(batch, Slots)
    with torch.inference_mode():
        batch._prefill._capture(1, 256, captured)
    before = backend.replays
    logits = batch.prefill([prompt.without_prefix(cut)], [cached])
    assert backend.replays == before + int(is_replay)
    assert (logits - alone.prefill([prompt])).abs().max() <= TOLERANCE


def test_a_graph_is_captured_before_a_prefill_if_there_is_no_idle_time(
    model: Blip2, prompts: list[Embedded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_prefill, "MIN_EAGER", 3)
    """And none if there is a larger one that serves."""
    both, _, backend = graph_batches(model)
    for number in range(6):
        assert len(captured_sizes(both)) == int(number > 3)
        both.prefill(prompts[:2], [1, 1])
        both.decode(random.Random(number))
    for _ in range(5):
        before = backend.replays
        both.prefill(prompts[:1], [1])
        assert backend.replays == before + 1
        assert len(captured_sizes(both)) == 1


def test_a_new_row_reads_nothing_of_an_earlier_prefix(model: Blip2, prompts: list[Embedded]) -> None:
    """The inputs of a graph are used again; what is masked counts 0 times, and 0 times NaN is NaN."""
    if not model.spec.decoder_only:
        return
    prompt, graphs = prompts[-1], recording_graphs(of_steps_only=False)[0]
    batch = new_batch(model.decoder, slots=True, graphs=graphs)
    expected = new_batch(model.decoder, slots=False).prefill([prompt])
    batch.prefill([Embedded(prompt.embeddings[:9], prompt.positions[:, :9], 9)])
    key_values = batch.key_values(0)
    assert key_values
    broken = [(keys * torch.nan, values * torch.nan) for keys, values in key_values]
    short = [(keys[:, :5], values[:, :5]) for keys, values in key_values]
    batch.select([])
    for number in range(2):
        assert batch.prefill([prompt.without_prefix(9)], [broken]).isnan().any()
        batch.select([])
        assert (batch.prefill([prompt.without_prefix(5)], [short]) - expected).abs().max() <= TOLERANCE
        batch.select([])
        while batch.capture_pending():
            assert number == 0


@pytest.mark.parametrize("behaviour", [{"error": ValueError("no")}, {"corrupt": lambda logits: logits.add_(9)}])
def test_graphs_that_fail_are_off_and_prompts_are_prefilled_eagerly(
    model: Blip2, prompts: list[Embedded], behaviour: dict[str, object]
) -> None:
    both, graphs, backend = graph_batches(model, **behaviour)
    both.prefill(prompts[:3], [1, 1, 1])
    both.select([])
    capture_all(both)
    assert graphs.for_function(PREFILL, 1).has_failed
    before = backend.replays
    both.prefill(prompts[:3], [1, 2, 1])
    assert backend.replays == before
    both.decode(random.Random(1))


def test_an_error_adds_no_row(model: Blip2, prompts: list[Embedded], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even those of passes before it; the rows that were there are as before."""
    both, calls, call = graph_batches(model)[0], list[int](), SlotPrefill.__call__
    both.prefill(prompts[:2], [1, 1])

    def failing(*args: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("no more")
        return call(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(SlotPrefill, "__call__", failing)
        with pytest.raises(ValueError, match="no more"):
            both.slots.prefill(prompts[:1] * (MAX_ROWS + 1))
    assert len(both.slots) == 2
    both.decode(random.Random(1))


def test_a_core_captures_a_first_prompt_at_its_start_and_says_what_failed(
    model: Blip2, two_images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = GenerationOptions(max_new_tokens=3)
    requests = [make_request(model, image, "how many cats are there?", options) for image in two_images]
    alone = [generate_alone(model, request) for request in requests]
    graphs, backend = recording_graphs(of_steps_only=False)
    monkeypatch.setattr(model_runner, "new_step_graphs", lambda *_, **__: graphs)
    core = make_core(model, slots=True)
    assert len(graphs.for_function(PREFILL, 1).sizes) == 2
    for request, ids in zip(requests, alone, strict=True):
        before = backend.replays
        sequence = add(core, request)
        finish(core)
        assert sequence.ids == ids
        assert backend.replays >= before + 2  # the image and the prompt
    graphs.for_function(PREFILL, 1).turn_off("it is old")
    assert core.decode_mode[1].endswith("captured; to prefill prompts: off: it is old")


def test_few_numbers_of_positions_are_captured() -> None:
    assert [rounded_positions(1, new) for new in (1, 16, 17, 46, 73, 128, 129, 600)] == [
        32, 32, 32, 64, 128, 128, 256, 640,
    ]  # fmt: skip
    assert [rounded_positions(16, new) for new in (1, 33, 73, 129, 600)] == [32, 64, 96, 192, 640]
    assert [rounded_rows(rows) for rows in (1, 2, 5, 9, 16)] == [1, 4, 8, 16, 16]
