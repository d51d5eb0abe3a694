"""Laws of the core in the caller's own thread, with a model of words."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from blip_space.engine.local import LocalEngine
from blip_space.engine.request import Request
from blip_space.errors import UserError
from blip_space.images import SafeImage
from tests.engine.fake_model import FakeModel

IMAGE = SafeImage(Image.new("RGB", (2, 2)), digest="a" * 64)


@pytest.fixture
def engine(model: FakeModel) -> LocalEngine:
    given: Any = model
    return LocalEngine(given)


def asked(number: int) -> Request:
    return Request(IMAGE, f"What is {number}?")


def answer(number: int) -> str:
    return f"Question: What is {number}? Short answer in English:"


def test_replies_that_are_iterated_in_turn_each_come_whole(engine: LocalEngine) -> None:
    """What came of one while another was iterated was dropped, and it ended without a word."""
    replies = {number: iter(engine.answer(asked(number))) for number in range(3)}
    assert [next(reply) for reply in replies.values()]
    for number, reply in replies.items():
        assert list(reply)[-1] == answer(number)


def test_a_reply_that_is_closed_is_generated_no_further(engine: LocalEngine, model: FakeModel) -> None:
    begun, unread = engine.answer(asked(1)), engine.answer(asked(2))
    assert next(iter(begun))
    for reply in (begun, unread):
        reply.close()
    assert list(engine.answer(asked(3)))[-1] == answer(3)
    assert "1?" not in model.said
    assert "2?" not in model.said


def test_what_there_is_in_place_of_an_answer_is_raised(engine: LocalEngine) -> None:
    with pytest.raises(UserError, match="fault of the server"):
        list(engine.answer(Request(IMAGE, "Will this explode?")))
    with pytest.raises(UserError, match="does not speak French"):
        engine.answer(Request(IMAGE, "What?", "fr"))
