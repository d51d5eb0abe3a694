"""Two users, two models, memory for one: no answer is lost when the other user's model is swapped in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from blip_space.catalogue import TINY_FOLDER
from tests.apps.conftest import PAGE_MILLISECONDS
from tests.serving.fakes import wait_until
from tests.test_end_to_end import App, wait_for_status

QUESTION = "How many circles are there?"
ROUNDS = 3


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """A server with the embedded model and a copy of it under another name."""
    copy = tmp_path_factory.mktemp("models") / "copy"
    shutil.copytree(TINY_FOLDER, copy)
    config = json.loads((copy / "blip_space.json").read_text("utf-8"))
    (copy / "blip_space.json").write_text(json.dumps(config | {"name": "copy"}), "utf-8")
    app = App(tmp_path_factory.mktemp("app"), "--models", f"tiny,{copy}")
    wait_for_status(app.health, "ready")
    yield app
    app.close()


def open_page(browser: Browser, app: App, image_file: Path, model: str) -> Page:
    """The page in a new browser context, with an image and a model chosen."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(PAGE_MILLISECONDS)
    page.goto(app.url)
    page.locator("#budget .budget").wait_for(state="attached")
    page.set_input_files("#picture input[type=file]", image_file)
    page.locator("#picture img").wait_for()
    if model != "tiny":
        page.locator("#model input").click()
        page.get_by_role("option", name=model).click()
        expect(page.locator("#about")).to_contain_text(f"About {model}.")
    return page


def test_a_swap_during_another_users_answer_loses_none(app: App, browser: Browser, image_file: Path) -> None:
    pages = [open_page(browser, app, image_file, model) for model in ("tiny", "copy")]
    for number in range(1, ROUNDS + 1):
        for page in pages:
            page.fill("#question textarea", QUESTION)
            page.press("#question textarea", "Enter")
        for page in pages:
            replies = page.locator("#chat [data-testid=bot]")
            expect(replies).to_have_count(number)
            expect(replies.last).to_have_text("three")
            expect(page.locator("#ask")).to_be_visible()
    wait_until(lambda: app.health()["running"] == app.health()["waiting"] == 0)
    assert wait_for_status(app.health, "ready")["model"] in ("tiny", "copy")
    for page in pages:
        page.context.close()
