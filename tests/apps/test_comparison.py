"""Laws of the panel that compares two ways to answer a question, in a real browser."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from playwright.sync_api import Locator, Page, expect

from blip_space.apps.page.comparison import Comparison, Way
from blip_space.apps.page.messages import text_of
from blip_space.errors import BusyError
from blip_space.serving.response import ResponseStream
from tests.apps.browser import PROMPT, ask_and_wait, english, questions, replies, wait_for
from tests.apps.fake_engine import BUSY, PARROT, POLYGLOT, FakeEngine


def sides(page: Page) -> list[Locator]:
    """The answers of both ways."""
    return [page.locator(f"#compare-{side} [data-testid=bot]") for side in ("first", "second")]


def test_two_models_answer_together_and_an_answer_can_be_used(answered_page: Page, engine: FakeEngine) -> None:
    engine.set_status(loaded=(PARROT.name, POLYGLOT.name))
    ask_and_wait(answered_page, "what is it?")
    answered_page.get_by_text(english("compare_label")).click()
    engine.hold()
    answered_page.click("#compare-ask")
    for side in sides(answered_page):
        expect(side).to_have_text("what")
    expect(answered_page.locator("#compare-note")).to_have_text(english("compare_together"))
    engine.release()
    expect(sides(answered_page)[1]).to_have_text("what is it?")
    said = [english("compare_first"), "what is it?", english("compare_second"), "what is it?"]
    expect(answered_page.locator("#announcement p")).to_have_text(said)
    assert [request.model for request in engine.requests[2:]] == [PARROT.name, POLYGLOT.name]
    assert all(request.turns == ((PROMPT, PROMPT),) for request in engine.requests[2:])
    answered_page.click("#use-second")
    bar = answered_page.locator("#chat .ways").last
    expect(bar).to_contain_text("2/2")
    bar.get_by_text(english("answer_details")).click()
    expect(bar).to_contain_text("polyglot · English · 3 tokens")
    ask_and_wait(answered_page, "and then?")
    assert engine.requests[-1].turns == ((PROMPT, PROMPT), ("what is it?", "what is it?"))


def test_models_that_are_not_both_in_memory_answer_one_after_the_other(answered_page: Page, engine: FakeEngine) -> None:
    answered_page.fill("#question textarea", "a new question")
    answered_page.get_by_text(english("compare_label")).click()
    engine.hold()
    answered_page.click("#compare-ask")
    first, second = sides(answered_page)
    expect(first).to_have_text("a")
    expect(second).to_have_text("…")
    expect(answered_page.locator("#compare-note")).to_have_text(english("compare_in_turn", model=POLYGLOT.name))
    assert len(engine.requests) == 2
    engine.release()
    expect(second).to_have_text("a new question")
    answered_page.click("#use-first")
    expect(questions(answered_page)).to_have_text([PROMPT, "a new question"])
    expect(replies(answered_page).last).to_have_text("a new question")
    expect(answered_page.locator("#question textarea")).to_have_value("")


def test_a_refused_way_says_why_and_a_stopped_one_keeps_its_text(answered_page: Page, engine: FakeEngine) -> None:
    answered_page.get_by_text(english("compare_label")).click()
    answered_page.fill("#question textarea", BUSY)
    answered_page.click("#compare-ask")
    expect(sides(answered_page)[0]).to_contain_text("The server is busy")
    expect(answered_page.locator("#compare-ask")).to_be_visible()
    expect(answered_page.locator("#use-first")).to_be_hidden()
    answered_page.fill("#question textarea", "one two")
    engine.hold()
    answered_page.click("#compare-ask")
    expect(sides(answered_page)[0]).to_have_text("one")
    answered_page.click("#compare-stop")
    wait_for(answered_page, lambda: engine.responses[-1].done)
    expect(answered_page.locator("#use-first")).to_be_visible()
    expect(sides(answered_page)[0]).to_have_text("one")
    assert len(engine.requests) == 2


def test_an_answer_waits_where_its_user_may_have_only_one(engine: FakeEngine) -> None:
    responses: list[ResponseStream] = []

    def submit(_request: Any) -> ResponseStream:
        if responses and not responses[-1].done:
            raise BusyError("Wait for one to end.", code="too_many_requests")
        responses.append(ResponseStream(deadline=time.monotonic() + 60))
        return responses[-1]

    endpoints: Any = SimpleNamespace(submit=submit, answer_limits={})
    ways = [Way(PARROT, SimpleNamespace(), {}) for _ in range(2)]  # type: ignore[arg-type]  # submit looks at no request
    notes = Comparison(engine, endpoints)._run(ways)
    assert "compare_in_turn_limited" in next(notes)
    for text in ("first", "second"):
        responses[-1].publish(text, finished=True)
        for _ in notes:
            if len(responses) == 2 and not responses[-1].done:
                break
    assert [text_of(way.reply) for way in ways] == ["first", "second"]
