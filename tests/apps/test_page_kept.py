"""Laws of conversations that the browser keeps: they come back after a reload and a restart of the server, and what a
new image or a clearing took away can be taken back."""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect

from blip_space import settings
from tests.apps.browser import (
    PROMPT,
    ask,
    ask_and_wait,
    english,
    press,
    question_box,
    questions,
    replies,
    upload,
    wait_for,
)
from tests.apps.conftest import free_port
from tests.apps.fake_engine import FakeEngine


def note(page: Page) -> Locator:
    return page.locator("#kept-note p")


def test_a_reload_comes_back_to_the_conversation_and_says_what_was_interrupted(
    answered_page: Page, engine: FakeEngine
) -> None:
    page = answered_page
    ask_and_wait(page, "is 1 < 2?")
    page.fill("#question textarea", "a draft")
    page.reload()
    expect(questions(page)).to_have_text([PROMPT, "is 1 < 2?"])
    expect(replies(page)).to_have_text([PROMPT, "is 1 < 2?"])
    expect(question_box(page)).to_have_value("a draft")
    page.locator("#picture img").wait_for()
    expect(note(page)).to_be_hidden()

    engine.hold()
    ask(page, "eins zwei")
    expect(replies(page).last).to_have_text("eins")
    page.reload()
    wait_for(page, lambda: engine.responses[2].done)
    expect(replies(page).last).to_have_text("eins")
    expect(note(page)).to_have_text(english("kept_interrupted_answer"))
    expect(page.locator("#ask")).to_be_visible()

    engine.release()
    ask_and_wait(page, "and now?")
    expect(note(page)).to_be_hidden()
    assert engine.requests[-1].turns[-1] == ("eins zwei", "eins")
    assert engine.requests[-1].image.digest == engine.requests[0].image.digest


def test_a_restarted_server_gets_the_image_again(browser: Browser, image_file: Path) -> None:
    """A Space that restarts has no uploads."""
    from blip_space.apps import server

    port, engine = free_port(), FakeEngine()
    running = server.launch(engine, host="127.0.0.1", port=port)
    page = browser.new_context().new_page()
    try:
        page.goto(running.url)
        upload(page, image_file)
        ask_and_wait(page, PROMPT)
        running.close()
        page.fill("#question textarea", "a draft")
        for folder in settings.upload_folder().iterdir():
            shutil.rmtree(folder, ignore_errors=True)
        restarted = FakeEngine()
        running = server.launch(restarted, host="127.0.0.1", port=port)
        page.reload()
        expect(replies(page)).to_have_text([PROMPT])
        expect(question_box(page)).to_have_value("a draft")
        ask_and_wait(page, "and then?")
        assert restarted.requests[0].turns == ((PROMPT, PROMPT),)
        assert restarted.requests[0].image.digest == engine.requests[0].image.digest
    finally:
        page.context.close()
        running.close()


def test_a_new_image_and_a_clearing_can_be_taken_back(answered_page: Page, engine: FakeEngine) -> None:
    page = answered_page
    page.locator("#examples button").first.click()
    expect(questions(page)).to_have_count(0)
    note(page).get_by_role("button").click()
    expect(replies(page)).to_have_text([PROMPT])
    press(page, "Clear")
    expect(questions(page)).to_have_count(0)
    note(page).get_by_role("button").click()
    expect(replies(page)).to_have_text([PROMPT])
    page.fill("#question textarea", "")
    ask_and_wait(page, "and then?")
    assert engine.requests[-1].turns == ((PROMPT, PROMPT),)
    assert engine.requests[-1].image.digest == engine.requests[0].image.digest
