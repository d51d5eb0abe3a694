"""Laws of a page that is open while its server ends and starts again, in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio.context import Context
from gradio.utils import get_upload_folder
from playwright.sync_api import Browser, Page, expect

from blip_space.apps import server
from tests.apps.browser import PROMPT, ask, ask_and_wait, english, note, question_box, questions, replies, upload
from tests.apps.conftest import free_port
from tests.apps.fake_engine import PARROT, POLYGLOT, FakeEngine


class Restarted:
    """A server that can end and start again at its address, as a new process does."""

    def __init__(self) -> None:
        self.port = free_port()
        self._first_id = Context.id  # of the components, which a new process counts from zero
        self.start()

    def start(self) -> None:
        Context.id = self._first_id
        self.engine = FakeEngine(PARROT, POLYGLOT)
        self.running = server.launch(self.engine, host="127.0.0.1", port=self.port)

    def stop(self) -> None:
        self.running.close()


@pytest.fixture
def restarted(_own_uploads: None) -> Iterator[Restarted]:
    own = Restarted()
    yield own
    own.stop()


def test_a_page_goes_on_after_a_restart_without_losing_anything(
    browser: Browser, restarted: Restarted, image_file: Path
) -> None:
    """An answer is cut off, a question is asked meanwhile, and the new server has none of the old one's files."""
    context = browser.new_context()
    page: Page = context.new_page()
    page.goto(restarted.running.url)
    page.locator("#budget .budget").wait_for(state="attached")
    upload(page, image_file)
    ask_and_wait(page, PROMPT)
    page.wait_for_function("Boolean(window.blipSpace.currentConversation.get().blob)")
    page.reload()  # from now on only the kept conversation has the image
    expect(replies(page)).to_have_text([PROMPT])
    page.evaluate("window.isTheSamePage = true")
    restarted.engine.hold()
    ask(page, "five six")
    expect(replies(page).last).to_have_text("five")
    restarted.stop()
    expect(note(page, "box")).to_contain_text("The server stopped during this answer.")
    expect(note(page, "page")).to_contain_text(english("connection_lost"), timeout=5_000)
    expect(replies(page)).to_have_text([PROMPT, "five"])
    ask(page, "seven eight")
    expect(question_box(page)).to_have_value("seven eight")
    shutil.rmtree(get_upload_folder())
    restarted.start()
    expect(replies(page)).to_have_text([PROMPT, "five", "seven eight"])
    expect(note(page, "page")).to_contain_text(english("connection_back"))
    expect(questions(page)).to_have_count(3)
    assert restarted.engine.requests[0].turns == ((PROMPT, PROMPT), ("five six", "five"))
    assert page.evaluate("window.isTheSamePage")
    context.close()
