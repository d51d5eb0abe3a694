"""Photographs on the page, with the embedded model, and with a copy of it that lacks the photo encoder's files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from blip_space.catalogue import TINY_FOLDER
from tests.apps.browser import ask, replies, upload
from tests.apps.conftest import PAGE_MILLISECONDS
from tests.photographs import photograph
from tests.test_end_to_end import App, wait_for_status

MISSING = "The photo encoder of bare"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """A server with the embedded model and a copy without its photo encoder's files."""
    bare = tmp_path_factory.mktemp("models") / "bare"
    shutil.copytree(TINY_FOLDER, bare, ignore=shutil.ignore_patterns("photo_*"))
    config = json.loads((bare / "blip_space.json").read_text("utf-8"))
    (bare / "blip_space.json").write_text(json.dumps(config | {"name": "bare"}), "utf-8")
    app = App(tmp_path_factory.mktemp("app"), "--models", f"tiny,{bare}")
    wait_for_status(app.health, "ready")
    yield app
    app.close()


@pytest.fixture
def own_page(browser: Browser, app: App) -> Iterator[Page]:
    """The page of that server, in a new browser context."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PAGE_MILLISECONDS)
    page = context.new_page()
    page.goto(app.url)
    page.locator("#budget .budget").wait_for(state="attached")
    yield page
    context.close()


def test_a_photograph_is_named_and_a_missing_encoder_is_said(own_page: Page) -> None:
    upload(own_page, photograph("chelsea.png"))
    asked = {
        "What is this?": "cat",
        "How many are there?": "I cannot tell that of a photograph.",
        "Is there a dog?": "no",
    }
    for number, (question, answer) in enumerate(asked.items(), start=1):
        ask(own_page, question)
        expect(replies(own_page)).to_have_count(number)
        expect(replies(own_page).last).to_have_text(answer)
        expect(own_page.locator("#ask")).to_be_visible()
    own_page.locator("#model input").click()
    own_page.get_by_role("option", name="bare").click()
    ask(own_page, "What is this?")
    expect(own_page.get_by_text(MISSING).first).to_be_visible()
