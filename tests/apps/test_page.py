"""Laws of the page's conversation, in a real browser: ask, stop, retry, undo, edit, clear, and errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from blip_space.serving.response import ResponseStream
from tests.apps.browser import (
    PROMPT,
    ask,
    ask_and_wait,
    english,
    note,
    press,
    question_box,
    questions,
    replies,
    upload,
    wait_for,
)
from tests.apps.fake_engine import BLANK, BUSY, FakeEngine


def test_an_answer_streams_in_and_the_box_is_free_again(page: Page, image_file: Path, engine: FakeEngine) -> None:
    engine.hold()
    upload(page, image_file)
    ask(page, PROMPT)
    expect(questions(page)).to_have_text(PROMPT)
    expect(replies(page)).to_have_text("one")
    expect(page.locator("#stop")).to_be_visible()
    expect(page.locator("#ask")).to_be_hidden()
    engine.release()
    expect(replies(page)).to_have_text(PROMPT)
    expect(page.locator("#ask")).to_be_visible()
    expect(question_box(page)).to_have_value("")
    assert engine.image_sizes[0] == (400, 200)


def test_a_follow_up_contains_the_earlier_turn(answered_page: Page, engine: FakeEngine) -> None:
    ask_and_wait(answered_page, "and then?")
    assert engine.requests[1].turns == ((PROMPT, PROMPT),)


def test_an_empty_question_asks_for_a_caption(page: Page, image_file: Path, engine: FakeEngine) -> None:
    upload(page, image_file)
    page.click("#ask")
    expect(questions(page)).to_have_text(english("caption_request"))
    expect(replies(page)).to_have_text("an image of 400 by 200")
    ask_and_wait(page, "and then?")
    assert (engine.requests[0].prompt, engine.requests[1].turns[0][0]) == ("", "")


def test_stop_keeps_the_text_so_far(page: Page, image_file: Path, engine: FakeEngine) -> None:
    engine.hold()
    upload(page, image_file)
    ask(page, PROMPT)
    expect(replies(page)).to_have_text("one")
    page.click("#stop")
    expect(page.locator("#ask")).to_be_visible()
    expect(replies(page)).to_have_text("one")
    wait_for(page, lambda: engine.responses[0].done)
    engine.release()
    ask_and_wait(page, "again")
    assert engine.requests[1].turns == ((PROMPT, "one"),)


def test_a_second_question_waits_for_the_first_answer(page: Page, image_file: Path, engine: FakeEngine) -> None:
    engine.hold()
    upload(page, image_file)
    ask(page, PROMPT)
    expect(replies(page)).to_have_text("one")
    ask(page, "another question")
    expect(note(page, "box")).to_contain_text(english("still_answering"))
    expect(question_box(page)).to_have_value("another question")
    engine.release()
    expect(replies(page)).to_have_text([PROMPT])


def test_retry_asks_again(answered_page: Page, engine: FakeEngine) -> None:
    press(answered_page, "Retry")
    wait_for(answered_page, lambda: len(engine.requests) == 2)
    expect(answered_page.locator("#ask")).to_be_visible()
    expect(replies(answered_page)).to_have_text([PROMPT])
    expect(answered_page.locator("#chat .ways")).to_contain_text("2/2")
    assert engine.requests[1].turns == ()


def test_undo_returns_the_question_to_the_box(answered_page: Page) -> None:
    ask_and_wait(answered_page, "second")
    press(answered_page, "Undo")
    expect(question_box(answered_page)).to_have_value("second")
    expect(questions(answered_page)).to_have_text([PROMPT])
    expect(replies(answered_page)).to_have_text([PROMPT])


def test_an_edited_question_replaces_the_old_one(answered_page: Page, engine: FakeEngine) -> None:
    ask_and_wait(answered_page, "second")
    answered_page.locator("#chat button[aria-label='Edit']").first.click()
    answered_page.locator("#chat textarea").fill("another question")
    press(answered_page, "Submit")
    expect(replies(answered_page)).to_have_text(["another question"])
    expect(questions(answered_page)).to_have_text(["another question"])
    assert engine.requests[2].turns == ()


def test_clear_empties_the_conversation(answered_page: Page, engine: FakeEngine) -> None:
    press(answered_page, "Clear")
    expect(questions(answered_page)).to_have_count(0)
    ask_and_wait(answered_page, "again")
    assert engine.requests[1].turns == ()


def test_clear_stops_a_running_answer(page: Page, image_file: Path, engine: FakeEngine) -> None:
    engine.hold()
    upload(page, image_file)
    ask(page, PROMPT)
    expect(replies(page)).to_have_text("one")
    press(page, "Clear")
    wait_for(page, lambda: engine.responses[0].done)
    expect(page.locator("#ask")).to_be_visible()
    expect(replies(page)).to_have_count(0)


def test_a_message_is_copied_as_it_was_typed(page: Page, image_file: Path) -> None:
    upload(page, image_file)
    ask_and_wait(page, "is 1 < 2 & <b>bold</b>?")
    press(page, "Copy message")
    wait_for(page, lambda: page.evaluate("navigator.clipboard.readText()") == "is 1 < 2 & <b>bold</b>?")


def test_an_error_returns_the_question_to_the_box(answered_page: Page) -> None:
    ask(answered_page, BUSY)
    expect(note(answered_page, "box")).to_contain_text("The server is busy")
    expect(question_box(answered_page)).to_have_value(BUSY)
    expect(questions(answered_page)).to_have_text([PROMPT])
    expect(answered_page.locator("#ask")).to_be_visible()


def test_an_empty_answer_is_an_error_and_leaves_no_turn(answered_page: Page) -> None:
    ask(answered_page, BLANK)
    expect(note(answered_page, "box")).to_contain_text("The model returned an empty answer for this image. Rephrase")
    expect(question_box(answered_page)).to_have_value(BLANK)
    expect(questions(answered_page)).to_have_text([PROMPT])
    expect(replies(answered_page)).to_have_count(1)


def test_a_question_cancelled_in_the_queue_leaves_no_turn(
    answered_page: Page, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue position that the page showed was taken for a reply."""
    engine.hold()
    monkeypatch.setattr(ResponseStream, "publish", lambda *_: None)
    ask(answered_page, "is it my turn")
    wait_for(answered_page, lambda: len(engine.responses) == 2)
    engine.responses[1].queue_position = lambda: 3
    expect(replies(answered_page).last).to_have_text("Waiting: 3 requests ahead of you")
    answered_page.click("#stop")
    expect(question_box(answered_page)).to_have_value("is it my turn")
    expect(questions(answered_page)).to_have_text([PROMPT])


def test_a_late_end_does_not_restore_an_abandoned_conversation(answered_page: Page) -> None:
    """A cancelled answer ends and the page is cleared at the same time, in either order."""
    messages = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    finish = "messages => window.blipSpace.finishAnswer('', messages)[1].length"
    assert answered_page.evaluate(finish, messages) == 2
    answered_page.evaluate("window.blipSpace.abandon()")
    assert answered_page.evaluate(finish, messages) == 0
    ask_and_wait(answered_page, "three four")
    assert answered_page.evaluate(finish, messages) == 2
