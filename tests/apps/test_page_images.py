"""Laws of the page's image, in a real browser: choosing, pasting, dropping, and refusing one."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from blip_space.apps.page import static
from blip_space.apps.server import MAX_STORED_BYTES
from tests.apps.browser import (
    PROMPT,
    ask,
    ask_and_wait,
    question_box,
    questions,
    replies,
    toast,
    upload,
    wait_for,
)
from tests.apps.fake_engine import FakeEngine
from tests.example_images import blue_circles

EXAMPLE = static.load_examples()[0].file


def test_a_new_image_starts_a_new_conversation(answered_page: Page, engine: FakeEngine) -> None:
    answered_page.set_input_files("#picture input[type=file]", EXAMPLE)
    expect(questions(answered_page)).to_have_count(0)
    ask_and_wait(answered_page, "hello")
    assert engine.requests[1].turns == ()
    assert engine.requests[1].image.digest != engine.requests[0].image.digest


def test_a_new_image_stops_the_answer_about_the_old_one(page: Page, image_file: Path, engine: FakeEngine) -> None:
    engine.hold()
    upload(page, image_file)
    ask(page, PROMPT)
    expect(replies(page)).to_have_text("one")
    page.set_input_files("#picture input[type=file]", EXAMPLE)
    wait_for(page, lambda: engine.responses[0].done)
    expect(questions(page)).to_have_count(0)
    expect(page.locator("#ask")).to_be_visible()


def test_a_question_without_an_image_is_refused_and_stays_in_the_box(page: Page) -> None:
    ask(page, PROMPT)
    expect(toast(page)).to_contain_text("There is no image yet")
    expect(question_box(page)).to_have_value(PROMPT)


def test_a_file_that_is_not_an_image_is_refused_when_it_is_chosen(page: Page, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("I am a text")
    page.set_input_files("#picture input[type=file]", tmp_path / "text.png")
    expect(toast(page)).to_contain_text("that can be read")


def test_a_file_over_20_megabytes_is_refused_when_it_is_chosen(page: Page, tmp_path: Path) -> None:
    (tmp_path / "big.png").write_bytes(b"x" * (MAX_STORED_BYTES + 1))
    page.set_input_files("#picture input[type=file]", tmp_path / "big.png")
    expect(toast(page)).to_contain_text("maximum allowed size of 20.0 M")


def test_an_image_can_be_taken_by_webcam(page: Page, engine: FakeEngine) -> None:
    page.locator("#picture [aria-label='Capture from camera']").click()
    page.locator("#picture button", has_text=re.compile("access", re.I)).click()
    page.wait_for_function("document.querySelector('#picture video')?.readyState > 2")
    page.locator("#picture [aria-label='capture photo']").click()
    page.locator("#picture img:visible").wait_for()
    ask_and_wait(page, PROMPT)
    assert engine.image_sizes[0][0] > 1


def test_an_image_can_be_pasted(page: Page, engine: FakeEngine) -> None:
    copy = """bytes => navigator.clipboard.write([
        new ClipboardItem({"image/png": new Blob([new Uint8Array(bytes)], {type: "image/png"})})])"""
    page.bring_to_front()
    page.evaluate(copy, list(blue_circles(2)))
    page.locator("#picture [aria-label='Paste from clipboard']").click()
    page.locator("#picture img").wait_for()
    ask_and_wait(page, PROMPT)
    assert engine.image_sizes[0] == (400, 200)


def test_an_image_can_be_dropped(page: Page, engine: FakeEngine) -> None:
    drop = """(node, bytes) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"}));
        node.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
    }"""
    page.locator("#picture .upload-container button").first.evaluate(drop, list(blue_circles(2)))
    page.locator("#picture img").wait_for()
    ask_and_wait(page, PROMPT)
    assert engine.image_sizes[0] == (400, 200)
