"""The core once its GPU has failed: nothing is tried again, and every request ends with that sentence."""

from __future__ import annotations

from typing import Any

import pytest

from blip_space.engine.sampling import Sampler
from blip_space.errors import DeviceError, UserError
from tests.engine.conftest import NewCore
from tests.lost_device import lose_device


@pytest.mark.parametrize("method", ["decode", "prefill", "key_values"])
def test_every_request_fails_without_another_attempt(
    new_core: NewCore, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    core = new_core(max_batch_size=2)
    requests = [core.ask(f"how many are {number}") for number in range(4)]
    core.step(2)
    calls = list[int]()

    def failing(*_: Any) -> None:
        calls.append(1)
        lose_device()

    monkeypatch.setattr(core.batch_class, method, failing)
    if method != "decode":  # the prefix of a removed row is cached, and a waiting request is admitted
        core.engine.cancel(requests.pop(0))
    core.step(2)
    assert len(calls) == 1
    assert core.engine.restarts == 0
    assert not core.engine.has_work
    for request_id in requests:
        with pytest.raises(DeviceError, match="The GPU failed, and this process cannot use it any more"):
            core.text(request_id)


def test_a_later_request_fails_at_once_and_computes_nothing(new_core: NewCore, monkeypatch: pytest.MonkeyPatch) -> None:
    core = new_core()
    with monkeypatch.context() as lost:
        lost.setattr(core.model, "encode_images", lose_device)
        core.ask("first")
        core.step()
    core.model.generated_words.clear()
    later = core.ask("later")
    core.step()
    assert core.model.generated_words == []
    with pytest.raises(DeviceError):
        core.text(later)


def test_an_answer_that_finished_in_the_failing_step_is_complete(
    new_core: NewCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = new_core()
    first = core.ask("one two", max_new_tokens=2)
    core.step()
    monkeypatch.setattr(core.batch_class, "prefill", lose_device)
    second = core.ask("three")
    core.step()
    assert core.text(first) == "one two"
    with pytest.raises(DeviceError):
        core.text(second)


def test_a_lack_of_memory_of_cuda_is_tried_again(new_core: NewCore, monkeypatch: pytest.MonkeyPatch) -> None:
    core, failures, plain = new_core(), [RuntimeError("CUDA error: out of memory")], Sampler.choose

    def failing(self: Any, *arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return plain(self, *arguments)

    monkeypatch.setattr(Sampler, "choose", failing)
    number = core.ask("one two")
    core.finish()
    assert core.text(number) == "one two"
    assert (core.engine.restarts, core.engine.device_error) == (1, "")


def test_an_answer_beyond_the_models_positions_fails_alone(new_core: NewCore) -> None:
    """On a GPU the lookup of a position that is not in the table would end every later computation."""
    core = new_core()
    core.model.decoder.max_positions = 10  # the image's take four
    fits, too_long = core.ask("a b c", max_new_tokens=4), core.ask("a b c", max_new_tokens=5)
    core.finish()
    assert core.text(fits) == "a b c"
    with pytest.raises(UserError, match="internal error"):
        core.text(too_long)
    assert core.engine.restarts == 0
