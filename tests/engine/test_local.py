"""Laws of the core in the caller's own thread: every reply is whole, in whatever order replies are iterated."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from blip_space.engine.local import LocalEngine
from blip_space.engine.request import Request
from blip_space.errors import UserError
from blip_space.images import SafeImage
from tests.engine.fake_model import FakeModel

IMAGE = SafeImage(Image.new("RGB", (2, 2)), digest="a")


def ask(words: str, **changes: Any) -> Request:
    return Request(IMAGE, f"What is {words}?", **changes)


def answer(words: str) -> str:
    return f"Question: What is {words}? Short answer in English:"


@pytest.fixture
def engine(model: FakeModel) -> LocalEngine:
    return LocalEngine(model)  # type: ignore[arg-type]


def test_a_reply_grows_and_ends_whole(engine: LocalEngine) -> None:
    reply = engine.generate(ask("it"))
    texts = list(reply)
    assert (texts[0], texts[-1]) == ("Question", answer("it"))
    assert (reply.tokens, reply.repeats) == (8, False)
    assert list(engine.generate(ask("it")))[-1] == answer("it")


def test_replies_are_whole_in_whatever_order_they_are_iterated(engine: LocalEngine) -> None:
    """The steps of one gave the tokens of all others away, and a reply that was iterated later was empty."""
    first, second, third = (engine.generate(ask(words)) for words in ("one", "two and more", "three"))
    assert list(third)[-1] == answer("three")
    pairs = list(zip(first, second, strict=False))
    assert pairs[-1][0] == answer("one")
    assert list(second)[-1] == answer("two and more")


def test_a_closed_reply_is_generated_no_further(engine: LocalEngine, model: FakeModel) -> None:
    reply = engine.generate(ask("it"))
    assert next(iter(reply)) == "Question"
    reply.close()
    assert list(engine.generate(ask("that")))[-1] == answer("that")
    assert "it?" not in model.generated_words


def test_a_language_that_the_model_does_not_support_is_refused(engine: LocalEngine) -> None:
    with pytest.raises(UserError, match="fake does not support French"):
        engine.generate(ask("it", language="fr"))


def test_an_unread_reply_that_is_closed_is_never_generated(engine: LocalEngine, model: FakeModel) -> None:
    engine.generate(ask("it")).close()
    assert list(engine.generate(ask("that")))[-1] == answer("that")
    assert "it?" not in model.generated_words


def test_what_there_is_in_place_of_an_answer_is_raised(engine: LocalEngine) -> None:
    with pytest.raises(UserError, match="internal error"):
        list(engine.generate(ask("about to explode")))
