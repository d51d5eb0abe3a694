"""The core and its caches: images are encoded once, and a follow-up continues from cached positions."""

from __future__ import annotations

import pytest

from tests.engine.conftest import NewCore


def test_images_of_one_step_are_encoded_as_one_batch(new_core: NewCore) -> None:
    core = new_core()
    for digest in ("a", "b", "a", "c"):
        core.ask("what", digest=digest)
    core.finish()
    assert (core.model.encoded_images, core.model.encoder_batches) == (3, 1)
    core.ask("what", digest="b")
    core.finish()
    assert (core.model.encoded_images, core.engine.image_feature_hits) == (3, 1)


def test_a_closed_core_holds_no_features_and_no_prefixes(new_core: NewCore) -> None:
    """The caller that unloads a model has the core until another one is loaded, which needs the memory."""
    core = new_core()
    core.ask("first question")
    core.finish()
    assert core.engine.cached_bytes
    core.engine.close()
    assert not core.engine.cached_bytes


def test_a_follow_up_continues_from_cached_positions_also_the_second_time(new_core: NewCore) -> None:
    """The last position must be prefilled, even if it is cached because the same question was expected before."""
    core = new_core()
    core.ask("first question")
    core.finish()
    for _ in range(3):
        number = core.ask("first question first question and another", turns=True)
        core.finish()
        assert core.text(number) == "first question first question and another"
    assert core.engine.prefix_hits == 3


def test_follow_ups_of_different_lengths_are_prefilled_in_one_step(new_core: NewCore) -> None:
    core, answers = new_core(), {"a": "one", "b": "two three four five", "c": "six seven"}
    for digest, words in answers.items():
        core.ask(words, digest=digest)
        core.finish()
    expected = {}
    for digest, words in answers.items():
        text = f"{words} {words} and another {digest}"
        expected[core.ask(text, digest=digest, turns=True)] = text
    core.step()
    assert core.engine.running == 3
    core.finish()
    assert {number: core.text(number) for number in expected} == expected
    assert core.engine.prefix_hits == 3


@pytest.mark.parametrize("words", ["first question explode", "first question"])
def test_prefixes_of_beam_searches_and_failed_answers_are_not_cached(new_core: NewCore, words: str) -> None:
    """Rows of a beam search include those of rejected beams, and a failed answer would fail again."""
    core = new_core()
    core.ask(words, quality="stream" if "explode" in words else "best")
    core.finish()
    number = core.ask("first question and another", turns=True)
    core.finish()
    assert core.text(number) == "first question and another"
    assert core.engine.prefix_hits == 0


def test_a_prefix_with_another_image_is_not_used(new_core: NewCore) -> None:
    core = new_core()
    core.ask("first question", digest="a")
    core.finish()
    core.ask("first question and another", digest="b", turns=True)
    core.finish()
    assert core.engine.prefix_hits == 0
