"""The core: streaming, admission, preemption and the queue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from blip_space.engine import core as core_module
from blip_space.engine import sampling
from blip_space.engine import slots as slots_module
from blip_space.engine.core import EngineCore
from blip_space.engine.model_runner import ModelRunner
from blip_space.models.interface import Embedded
from blip_space.models.preparation import Prompt
from tests.engine.conftest import NewCore, SteppedCore
from tests.engine.fake_model import SURE, FakeModel, FakePrecision


def test_an_answer_is_streamed_until_it_is_complete(new_core: NewCore) -> None:
    core = new_core()
    number = core.ask("two cats and a dog")
    core.finish()
    shown = ["tw", "two cat", "two cats an", "two cats and", "two cats and a do", "two cats and a dog"]
    assert core.texts[number] == shown
    assert (core.finished[number].tokens, core.finished[number].repeats) == (5, False)
    assert (core.engine.running, core.engine.waiting, core.engine.has_work) == (0, 0, False)


def test_an_answer_ends_at_max_new_tokens(new_core: NewCore) -> None:
    core = new_core()
    number = core.ask("one two three", max_new_tokens=2)
    core.finish()
    assert (core.text(number), core.finished[number].tokens) == ("one two", 2)


def test_running_sequences_decode_in_the_step_that_admits_others(new_core: NewCore) -> None:
    core = new_core()
    core.ask("one two three")
    core.step()
    core.ask("four five")
    core.step()
    assert core.model.generated_words == ["one", "two", "four"]


def test_long_prompts_are_prefilled_in_separate_steps(new_core: NewCore) -> None:
    core = new_core(max_prefill_tokens=8)
    for _ in range(2):
        core.ask("one two three four")  # the image takes four positions as well
    core.step()
    assert (core.engine.running, core.engine.waiting) == (1, 1)


def test_many_concurrent_requests_each_get_their_own_answer(new_core: NewCore) -> None:
    core = new_core(max_batch_size=5, time_slice_tokens=2)
    expected = {}
    for number in range(30):
        text = " ".join(f"w{number}.{word}" for word in range(number % 7 + 1))
        options = {"quality": "best", "num_beams": 3} if number % 4 == 0 else {"temperature": 0.5 * (number % 3)}
        expected[core.ask(text, digest=str(number % 3), background=number % 5 == 0, **options)] = text
        core.step()
    core.finish()
    assert {number: core.text(number) for number in expected} == expected
    assert core.model.encoded_images == 3


def test_a_background_beam_search_restarts_after_that_of_a_user(
    new_core: NewCore, caplog: pytest.LogCaptureFixture
) -> None:
    core = new_core(max_beam_groups=1)
    first = core.ask("one two three", background=True, quality="best")
    core.step()
    core.step()
    other = core.ask("four five", quality="best")
    core.finish()
    assert list(core.finished) == [other, first]
    assert [core.text(number) for number in (first, other)] == ["one two three", "four five"]
    assert not caplog.records  # of an error, which also restarts


class ModelWithStartToken(FakeModel):
    """Its decoder has a start token, which then is a little more likely than another token."""

    start_token, other = 5, 6

    def embed(self, prompt: Prompt, features: Sequence[torch.Tensor]) -> Embedded:
        return replace(super().embed(prompt, features), start=(self.start_token,))

    def next(self, words: torch.Tensor, is_prompt: torch.Tensor) -> torch.Tensor:
        scores = super().next(words, is_prompt)
        if is_prompt[-1]:
            scores[self.start_token], scores[self.other] = 2 * SURE, 2 * SURE - 0.2
        return scores


@pytest.mark.parametrize("quality", ["stream", "best"])
@pytest.mark.usefixtures("slots")
def test_the_repetition_penalty_counts_start_tokens(quality: str) -> None:
    core = SteppedCore(ModelWithStartToken())
    core.model.encode("start other a b c d e")
    plain, penalized = (
        core.ask("c d", quality=quality, max_new_tokens=1, repetition_penalty=penalty) for penalty in (1.0, 2.0)
    )
    core.finish()
    words = core.model.words
    assert [core.text(number) for number in (plain, penalized)] == [
        words[ModelWithStartToken.start_token],
        words[ModelWithStartToken.other],
    ]


def test_prompts_of_very_different_lengths_are_prefilled_in_one_step(new_core: NewCore) -> None:
    core = new_core()
    expected = {core.ask(text): text for text in ("who is it", "word " * 40 + "end", "what", "other " * 30 + "end")}
    core.step()
    assert core.engine.running == 4
    core.finish()
    assert {number: core.text(number) for number in expected} == expected


def test_a_long_answer_is_preempted_for_a_short_one_and_resumes(new_core: NewCore) -> None:
    core = new_core(max_batch_size=1, time_slice_tokens=3)
    long = core.ask(" ".join(map(str, range(20))))
    core.step()
    short = core.ask("who")
    core.step(6)
    assert core.text(short) == "who"
    assert long not in core.finished
    assert core.engine._answers.unfinished[long].saved_row is None  # its row is in the batch again
    core.finish()
    assert core.text(long) == " ".join(map(str, range(20)))
    assert [core.model.generated_words.count(str(number)) for number in range(20)] == [1] * 20


def test_streams_run_beside_a_beam_search(new_core: NewCore) -> None:
    core = new_core()
    search = core.ask("one two three four five six seven eight nine ten", quality="best")
    core.step()
    stream = core.ask("who is it")
    core.step(5)
    assert core.text(stream) == "who is it"
    assert search not in core.texts
    core.finish()
    assert core.texts[search] == ["one two three four five six seven eight nine ten"]


def test_queue_positions_count_waiting_user_requests(new_core: NewCore) -> None:
    core = new_core(max_batch_size=1)
    ids = [core.ask("one two"), core.ask("three"), core.ask("four"), core.ask("five", background=True)]
    core.step()
    late = core.ask("six")
    assert [core.engine.queue_position(number) for number in (*ids, late)] == [None, 0, 1, None, 2]
    assert (core.engine.running, core.engine.waiting, core.engine.background) == (1, 3, 1)
    core.engine.cancel(ids[1])
    core.engine.cancel(ids[3])
    assert [core.engine.queue_position(number) for number in (ids[2], late)] == [0, 1]
    assert (core.engine.running, core.engine.waiting, core.engine.background) == (1, 2, 0)


def test_a_decode_is_launched_unless_the_next_step_prefills(new_core: NewCore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a prefill, with the first tokens of the new rows, whose ids the host does not have yet."""
    monkeypatch.setattr(slots_module, "LAUNCH_EAGER", True)
    monkeypatch.setattr(sampling, "computes_on_host", lambda _: False)
    core = new_core(slots=True, max_prefill_tokens=12)
    launched = list[bool]()

    def steps(count: int) -> list[bool]:
        launched.clear()
        for _ in range(count):
            core.step()
            launched.append(core.engine._runner._batch.is_launched)
        return launched

    first = core.ask("a b c d e f g h")
    assert steps(2) == [True, True]
    others = [core.ask(f"{word} x y z") for word in "tuv"]
    assert steps(4) == [False, False, True, True]
    decoded = core.model.decodes
    core.step()
    assert core.model.decodes == decoded + 1  # the step took the launched decode, and launched another
    core.finish()
    assert [core.text(number) for number in (first, *others)] == ["a b c d e f g h", "t x y z", "u x y z", "v x y z"]


def test_admitted_sequences_wait_for_no_decode_and_running_ones_for_one_prefill_at_most(new_core: NewCore) -> None:
    """The first token of a follow-up came after a decode of all other sequences."""
    core = new_core()
    first = core.ask("a b c d e f g h")
    core.step(2)
    steps = []
    for word in "tuvw":
        number, before = core.ask(word), len(core.texts[first])
        core.step()
        steps.append((number in core.texts, len(core.texts[first]) - before))
    assert steps == [(True, 0), (True, 1), (True, 0), (True, 1)]
    core.finish()
    assert core.text(first) == "a b c d e f g h"


def test_running_sequences_finish_while_none_is_admitted(new_core: NewCore) -> None:
    core = new_core()
    first = core.ask("one two three")
    core.step()
    second = core.ask("four")
    core.step(6, admit=False)
    assert (core.text(first), second in core.finished, core.engine.running) == ("one two three", False, 0)
    core.finish()
    assert core.text(second) == "four"


def test_the_models_gpu_is_the_current_one_whenever_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several engines have a thread and a GPU each, and kernels of other libraries run on the thread's current GPU."""
    current, seen = list[str](), list[list[str]]()

    @contextmanager
    def on_device(name: str) -> Iterator[None]:
        current.append(name)
        yield
        current.pop()

    def note(*_: Any) -> None:
        seen.append(list(current))

    monkeypatch.setattr(core_module, "on_device", on_device)
    for method in ("warm_up", "run", "capture_pending"):
        monkeypatch.setattr(ModelRunner, method, note)
    model = FakeModel()
    model.precision = FakePrecision(device="its GPU")
    engine = EngineCore(model)
    engine.step(0.0)
    engine.capture_pending()
    assert seen == [["its GPU"]] * 3
