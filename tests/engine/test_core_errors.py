"""The core when something fails: which requests end, which restart, and what happens when memory runs out."""

from __future__ import annotations

from typing import Any

import pytest

from blip_space.engine.sampling import Sampler
from blip_space.errors import BusyError, EmptyAnswerError, UserError
from tests.engine.conftest import NewCore

pytestmark = pytest.mark.usefixtures("launch")

MEMORY = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


def test_an_empty_answer_fails_alone(new_core: NewCore, monkeypatch: pytest.MonkeyPatch) -> None:
    core = new_core()
    monkeypatch.setattr(core.model, "decode", lambda ids: "" if core.model.encode("blank")[0] in ids else "good")
    for quality in ("stream", "best"):
        blank, good = core.ask("blank", quality=quality), core.ask("good", quality=quality)
        core.finish()
        with pytest.raises(EmptyAnswerError, match=r"empty answer for this image\. Rephrase the prompt"):
            core.text(blank)
        assert core.text(good) == "good"


@pytest.mark.parametrize("options", [{}, {"quality": "best"}, {"temperature": 1.0}])
def test_logits_that_are_not_finite_fail_their_own_request(new_core: NewCore, options: dict[str, Any]) -> None:
    core = new_core()
    bad, good = core.ask("will this explode now", **options), core.ask("will this be good now", **options)
    core.finish()
    with pytest.raises(UserError, match="internal error"):
        core.text(bad)
    assert core.text(good) == "will this be good now"
    assert core.engine.restarts == 0


@pytest.mark.parametrize("quality", ["stream", "best"])
def test_a_prompt_whose_prefill_fails_fails_alone(new_core: NewCore, quality: str) -> None:
    core = new_core()
    good, bad, other = (core.ask(f"is it {word}", quality=quality) for word in ("good", "unreadable", "other"))
    core.finish()
    assert (core.text(good), core.text(other)) == ("is it good", "is it other")
    with pytest.raises(UserError, match="internal error"):
        core.text(bad)


def test_an_error_of_a_whole_step_fails_only_the_request_that_causes_it(
    new_core: NewCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All requests that ran beside it failed with it."""
    core = new_core()
    decode = core.batch_class.decode

    def failing(self: Any, tokens: list[int]) -> Any:
        if core.model.encode("poison")[0] in tokens:
            raise RuntimeError("a bug in decode")
        return decode(self, tokens)

    monkeypatch.setattr(core.batch_class, "decode", failing)
    good = [core.ask(f"is it good {number}") for number in range(3)]
    bad = core.ask("is it poison now")
    core.finish()
    assert [core.text(number) for number in good] == [f"is it good {number}" for number in range(3)]
    with pytest.raises(UserError, match="internal error"):
        core.text(bad)


def test_an_error_does_not_count_against_preempted_sequences(
    new_core: NewCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sequence that was preempted while others failed twice had no answer either."""
    core = new_core(max_batch_size=1, time_slice_tokens=2)
    decode = core.batch_class.decode

    def failing(self: Any, tokens: list[int]) -> Any:
        if core.model.encode("poison")[0] in tokens:
            raise RuntimeError("a bug in decode")
        return decode(self, tokens)

    monkeypatch.setattr(core.batch_class, "decode", failing)
    good = core.ask(" ".join(map(str, range(30))))
    for _ in range(2):
        core.step(3)
        bad = core.ask("poison now")
        core.step(8)
        with pytest.raises(UserError, match="internal error"):
            core.text(bad)
    core.finish()
    assert core.text(good) == " ".join(map(str, range(30)))


def test_an_answer_that_finishes_in_a_failing_step_is_not_restarted(
    new_core: NewCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    core, failures = new_core(), [MEMORY]
    prefill = core.batch_class.prefill

    def failing(self: Any, *arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return prefill(self, *arguments)

    first = core.ask("one two", max_new_tokens=2)
    core.step()
    monkeypatch.setattr(core.batch_class, "prefill", failing)
    second = core.ask("three")
    core.step()
    assert core.text(first) == "one two"
    core.finish()
    assert core.text(second) == "three"
    assert (core.model.generated_words.count("one"), core.engine.restarts) == (1, 1)


@pytest.mark.parametrize("background", [False, True])
def test_a_restarted_answer_never_becomes_shorter(new_core: NewCore, background: bool) -> None:
    core = new_core(max_batch_size=4)
    ids = [core.ask(f"{number} one two three four", background=background) for number in range(2)]
    core.step(4)
    core.model.memory_rows = 1
    core.finish()
    assert core.engine.restarts == 1
    for number, request_id in enumerate(ids):
        assert core.text(request_id) == f"{number} one two three four"
        assert core.texts[request_id] == sorted(core.texts[request_id], key=len)


def test_out_of_memory_reduces_the_batch_and_every_answer_completes(new_core: NewCore) -> None:
    core = new_core()
    core.model.memory_rows = 2
    ids = [core.ask(f"what is {number}") for number in range(8)]
    core.finish()
    assert [core.text(number) for number in ids] == [f"what is {number}" for number in range(8)]
    assert core.engine.row_limit == 2
    for number in ids:  # never shorter
        assert core.texts[number] == sorted(core.texts[number], key=len)


def test_the_batch_grows_again_soon(new_core: NewCore) -> None:
    """After memory ran out once, the batch stayed smaller until the model was swapped, and then for minutes."""
    core = new_core(recovery_steps=4, max_batch_size=8)
    core.model.memory_rows = 4
    for number in range(24):
        core.ask(f"what is {number}")
    while not core.engine.restarts:
        core.step()
    assert core.engine.row_limit == 4
    core.model.memory_rows = core.model.largest_batch = 0
    core.finish()
    assert core.engine.restarts == 1
    assert core.model.largest_batch > 6


@pytest.mark.parametrize("quality", ["stream", "best"])
def test_an_answer_without_memory_alone_fails_with_that_message(new_core: NewCore, quality: str) -> None:
    """A beam search failed with an internal error and was not tried again."""
    core = new_core()
    core.model.memory_rows = -1
    number = core.ask("two words", quality=quality)
    core.finish()
    assert core.engine.restarts == 2
    with pytest.raises(BusyError, match="ran out of memory"):
        core.text(number)


@pytest.mark.parametrize("method", ["copy", "merge", "key_values", "select"])
def test_out_of_memory_at_any_point_of_a_step_fails_no_answer(
    new_core: NewCore, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Outside of the guarded lines it failed every answer, and one waited until its timeout."""
    core, failures = new_core(max_batch_size=1, time_slice_tokens=2), [MEMORY]
    plain = getattr(core.batch_class, method)

    def failing(self: Any, *arguments: Any) -> Any:
        if failures and (method != "merge" or core.model.generated_words):
            raise failures.pop()
        return plain(self, *arguments)

    ids = [core.ask("a b c d e f g h"), core.ask("i j k l m n o p")]
    core.step()
    monkeypatch.setattr(core.batch_class, method, failing)
    core.finish()
    assert not failures
    assert [core.text(number) for number in ids] == ["a b c d e f g h", "i j k l m n o p"]
    assert core.engine.restarts == (method != "key_values")


def test_an_error_after_a_prefill_leaves_no_row_without_a_sequence(
    new_core: NewCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts were prefilled again, each alone, beside the rows that they had already."""
    core, plain, failures = new_core(), Sampler.choose, [RuntimeError("a bug")]

    def failing(self: Any, *arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return plain(self, *arguments)

    monkeypatch.setattr(Sampler, "choose", failing)
    ids = [core.ask("a b c d"), core.ask("e f g")]
    core.finish()
    assert [core.text(number) for number in ids] == ["a b c d", "e f g"]
    core.ask("h i")
    core.step(2)
    assert len(core.engine._runner._batch) == 1


def test_out_of_memory_clears_the_caches(new_core: NewCore) -> None:
    core = new_core()
    core.ask("what", digest="a")
    core.finish()
    core.model.memory_rows = 1
    for number in range(2):
        core.ask(f"is it {number}", digest="b")
    core.finish()
    core.model.memory_rows = 0
    number = core.ask("what what now", digest="a", turns=True)
    core.finish()
    assert core.text(number) == "what what now"
    assert core.model.encoded_images == 4  # both images again after the caches were cleared
    assert core.engine.prefix_hits == 0
