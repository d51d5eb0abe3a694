"""Laws of the page's image, in a real browser: choosing, pasting, dropping, and refusing one."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from blip_space.apps.gradio_api import upload_security
from blip_space.apps.server import MAX_STORED_BYTES
from blip_space.images.uploaded import UploadedImageFile
from tests.apps.browser import (
    EXAMPLE,
    PROMPT,
    ask,
    ask_and_wait,
    english,
    note,
    question_box,
    questions,
    replies,
    upload,
    wait_for,
)
from tests.apps.fake_engine import FakeEngine
from tests.example_images import blue_circles


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


def test_a_question_without_an_image_is_refused_below_the_box_and_stays_in_it(page: Page) -> None:
    ask(page, PROMPT)
    expect(note(page, "box")).to_contain_text(english("error_no_image"))
    expect(question_box(page)).to_have_value(PROMPT)
    expect(page.locator("[data-testid=toast-body]:visible")).to_have_count(0)
    page.press("#question textarea", "x")
    expect(note(page, "box")).to_have_count(0)


def test_what_cannot_be_read_is_said_in_the_frame_which_stays_empty(
    page: Page, tmp_path: Path, image_file: Path
) -> None:
    """What the server cannot read, what is no image, and what is larger than the server stores."""
    (tmp_path / "text.png").write_text("I am a text")
    page.set_input_files("#picture input[type=file]", tmp_path / "text.png")
    expect(note(page, "frame")).to_contain_text("that can be read")
    expect(page.locator("#picture img")).to_have_count(0)
    (tmp_path / "big.png").write_bytes(b"x" * (MAX_STORED_BYTES + 1))
    page.set_input_files("#picture input[type=file]", tmp_path / "big.png")
    expect(note(page, "frame")).to_have_text(re.compile(r"big\.png is larger than 20 MB"))
    (tmp_path / "a.pdf").write_text("%PDF-1.7")
    page.set_input_files("#picture input[type=file]", tmp_path / "a.pdf")
    expect(note(page, "frame")).to_contain_text(english("not_an_image", file="a.pdf"))
    upload(page, image_file)
    expect(note(page, "frame")).to_have_count(0)


def test_an_image_stays_when_the_one_before_it_is_refused_late(
    page: Page, tmp_path: Path, image_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of the first takes longer than its user waits."""
    check, is_over, ended = UploadedImageFile.check, threading.Event(), list[bytes]()

    def check_late(image: UploadedImageFile) -> None:
        if image.data == b"I am a text":
            is_over.wait(60)
        try:
            check(image)
        finally:
            ended.append(image.data)

    monkeypatch.setattr(UploadedImageFile, "check", check_late)
    monkeypatch.setattr(upload_security, "_checked", {})  # of other tests
    (tmp_path / "text.png").write_text("I am a text")
    page.set_input_files("#picture input[type=file]", tmp_path / "text.png")
    expect(page.locator("#picture img")).to_have_attribute("src", re.compile("text"))
    page.locator("#picture [aria-label='Remove Image']").click()
    upload(page, image_file)
    is_over.set()
    wait_for(page, lambda: len(ended) == 2)
    expect(page.locator("#picture img")).to_have_attribute("src", re.compile("circles"))
    ask_and_wait(page, PROMPT)
    expect(note(page, "frame")).to_have_count(0)


def test_an_image_is_taken_wherever_it_is_dropped_or_pasted(page: Page, engine: FakeEngine) -> None:
    """On the conversation, then on the question box, while one image is shown already; and a pasted text stays one."""
    send = """(node, [kind, file]) => {
        const data = new DataTransfer();
        if (file) data.items.add(new File([new Uint8Array(file)], "some.png", {type: "image/png"}));
        else data.setData("text/uri-list", "https://example.org/");
        const options = {bubbles: true, cancelable: true};
        const event = kind === "paste" ? new ClipboardEvent(kind, {clipboardData: data, ...options})
            : new DragEvent(kind, {dataTransfer: data, ...options});
        return !node.dispatchEvent(event);
    }"""
    image = list(blue_circles(2))
    assert page.locator("#chat").evaluate(send, ["dragover", image])
    hint = "getComputedStyle(document.documentElement, '::after').content"
    assert page.evaluate(hint) == f'"{english("drop_image")}"'
    assert page.locator("#chat").evaluate(send, ["drop", image])
    assert page.evaluate(hint) in ("none", "normal")
    page.locator("#picture img").wait_for()
    ask_and_wait(page, PROMPT)
    assert page.locator("#question textarea").evaluate(send, ["paste", list(blue_circles(1))])
    expect(questions(page)).to_have_count(0)
    ask_and_wait(page, PROMPT)
    assert len({request.image.digest for request in engine.requests}) == 2
    assert page.locator("body").evaluate(send, ["drop", None])
    expect(note(page, "frame")).to_contain_text(english("drop_is_no_file"))


def test_a_refused_camera_and_a_clipboard_without_an_image_are_said(page: Page) -> None:
    page.add_init_script("""
        MediaDevices.prototype.getUserMedia = () => Promise.reject(new DOMException("none", "NotFoundError"));
    """)
    page.reload()
    page.locator("#picture [aria-label='Capture from camera']").click()
    page.locator("#picture button", has_text=re.compile("access", re.I)).click()
    expect(note(page, "frame")).to_contain_text(english("camera_missing"))
    page.bring_to_front()
    page.evaluate("navigator.clipboard.writeText('words')")
    page.locator("#picture [aria-label='Paste from clipboard']").click()
    expect(note(page, "frame")).to_contain_text(english("clipboard_empty"))


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
