"""The core without streams, as in a folder job: no user reads an answer before its end, or asks on."""

from __future__ import annotations

import pytest

from blip_space.engine.stop_tokens import StopTokens
from tests.engine.conftest import NewCore
from tests.engine.fake_model import FakeModel


@pytest.mark.parametrize("streams", [True, False])
def test_only_finished_answers_have_text_and_it_is_the_same(new_core: NewCore, streams: bool) -> None:
    core = new_core(streams=streams)
    numbers = [core.ask("two cats and a dog", digest="a"), core.ask("one two three", digest="b", max_new_tokens=2)]
    core.finish()
    assert [core.text(number) for number in numbers] == ["two cats and a dog", "one two"]
    assert [core.finished[number].tokens for number in numbers] == [5, 2]
    assert [len(core.texts[number]) for number in numbers] == ([6, 2] if streams else [1, 1])


@pytest.mark.parametrize("streams", [True, False])
def test_a_stop_string_ends_an_answer_at_once(new_core: NewCore, model: FakeModel, streams: bool) -> None:
    model.stop_strings = ("e:", "and")
    core = new_core(streams=streams)
    texts = ["two cats and a dog", "one: two three", "not: three four"]
    numbers = [core.ask(text, digest=text) for text in texts]
    core.finish()
    assert [core.text(number) for number in numbers] == ["two cats", "on", "not: three four"]
    assert [core.finished[number].tokens for number in numbers] == [3, 1, 3]
    if not streams:
        assert [len(core.texts[number]) for number in numbers] == [1, 1, 1]


@pytest.mark.parametrize("kind", ["user", "batch", "job"])
def test_prefixes_are_cached_for_users_only(new_core: NewCore, kind: str) -> None:
    """Each copy of keys and values took time, and memory from the conversations of users."""
    core = new_core(streams=kind != "job")
    core.ask("first question", background=kind == "batch")
    core.finish()
    assert len(core.engine._runner.prefixes) == (kind == "user")


def test_a_step_that_prefills_does_not_decode(new_core: NewCore) -> None:
    """Fewer and larger forward passes are better, and no answer has to go on meanwhile."""
    core = new_core(streams=False, max_prefill_tokens=8)
    for _ in range(3):
        core.ask("one two three four")  # the image takes four positions as well
    core.step(3)
    assert core.model.generated_words == ["one"] * 3
    core.step()
    assert core.model.generated_words == ["one"] * 3 + ["two"] * 3


def test_tokens_that_may_end_a_stop_string_are_decoded_once() -> None:
    texts, decoded = ["a", "\n", " is:", "Question", "\ufffd"], list[int]()

    def decode(ids: list[int]) -> str:
        decoded.extend(ids)
        return "".join(texts[number] for number in ids)

    tokens = StopTokens(decode, ("\n", "Question:"))  # type: ignore[arg-type]  # it takes lists only
    assert [[number in tokens for number in range(5)] for _ in range(2)] == [[False, True, True, False, True]] * 2
    assert decoded == list(range(5))
    assert not any(number in StopTokens(decode, ()) for number in range(5))  # type: ignore[arg-type]
