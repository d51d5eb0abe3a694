"""The engine in the caller's thread: every reply is complete, in whatever order replies are iterated."""

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


def test_a_reply_is_streamed_until_it_is_complete(engine: LocalEngine) -> None:
    reply = engine.generate(ask("it"))
    texts = list(reply)
    assert (texts[0], texts[-1]) == ("Question", answer("it"))
    assert (reply.tokens, reply.repeats) == (8, False)
    assert list(engine.generate(ask("it")))[-1] == answer("it")


def test_replies_are_complete_in_any_order_of_iteration(engine: LocalEngine) -> None:
    """The steps of one reply dropped the tokens of all others, and a reply that was iterated later was empty."""
    first, second, third = (engine.generate(ask(words)) for words in ("one", "two and more", "three"))
    assert list(third)[-1] == answer("three")
    pairs = list(zip(first, second, strict=False))
    assert pairs[-1][0] == answer("one")
    assert list(second)[-1] == answer("two and more")


def test_close_stops_a_reply(engine: LocalEngine, model: FakeModel) -> None:
    reply = engine.generate(ask("it"))
    assert next(iter(reply)) == "Question"
    reply.close()
    assert list(engine.generate(ask("that")))[-1] == answer("that")
    assert "it?" not in model.generated_words


def test_an_unsupported_language_is_rejected(engine: LocalEngine) -> None:
    with pytest.raises(UserError, match="fake does not support French"):
        engine.generate(ask("it", language="fr"))


def test_a_reply_closed_before_its_iteration_is_never_generated(engine: LocalEngine, model: FakeModel) -> None:
    engine.generate(ask("it")).close()
    assert list(engine.generate(ask("that")))[-1] == answer("that")
    assert "it?" not in model.generated_words


def test_the_error_of_a_failed_answer_is_raised(engine: LocalEngine) -> None:
    with pytest.raises(UserError, match="internal error"):
        list(engine.generate(ask("about to explode")))
