"""Laws of conversations that the browser keeps: they come back after a reload and a restart of the server, and what a
new image or a clearing took away can be taken back."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from playwright.sync_api import Browser, FilePayload, Locator, Page, expect

from blip_space import settings
from tests.apps.browser import (
    EXAMPLE,
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

BLOCKED = """for (const name of ["localStorage", "sessionStorage", "indexedDB"]) {
    Object.defineProperty(window, name, {configurable: true, get() { throw new Error("blocked"); }});
}"""


def note(page: Page) -> Locator:
    return page.locator("#kept-note p")


def open_list(page: Page) -> Locator:
    """Open the list of conversations; returns its items."""
    page.click("#kept-list")
    expect(page.locator("#kept-dialog")).to_be_visible()
    return page.locator("#kept-items li")


def json_file(content: str) -> FilePayload:
    return {"name": "conversation.json", "mimeType": "application/json", "buffer": content.encode()}


def export(page: Page, form: str) -> str:
    """The newest conversation as a file of that form."""
    if not page.locator("#kept-dialog").is_visible():
        open_list(page).first.get_by_text(english("kept_more")).click()
    with page.expect_download() as download:
        page.locator("#kept-items").get_by_text(english(f"kept_export_{form}")).first.click()
    return download.value.path().read_text("utf-8")


def test_a_reload_comes_back_to_the_conversation_and_says_what_was_interrupted(
    answered_page: Page, engine: FakeEngine
) -> None:
    page = answered_page
    ask_and_wait(page, "is 1 < 2?")
    page.fill("#question textarea", "a draft")
    expect(page.get_by_text(english("kept_privacy")).last).to_be_visible()
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
        page.evaluate("window.isOld = true")
        running.close()
        page.fill("#question textarea", "a draft")
        for folder in settings.upload_folder().iterdir():
            shutil.rmtree(folder, ignore_errors=True)
        restarted = FakeEngine()
        running = server.launch(restarted, host="127.0.0.1", port=port)
        page.wait_for_function("() => !window.isOld")  # the page loads itself again
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
    upload(page, EXAMPLE)
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


def test_conversations_are_listed_opened_renamed_deleted_and_forgotten(answered_page: Page, engine: FakeEngine) -> None:
    page = answered_page
    page.click("#kept-new")
    expect(questions(page)).to_have_count(0)
    ask_and_wait(page, "the second")
    items = open_list(page)
    expect(items).to_contain_text(["the second", PROMPT])
    expect(items.locator("img")).to_have_count(2)
    items.last.locator(".kept-open").click()
    expect(replies(page)).to_have_text([PROMPT])
    ask_and_wait(page, "and then?")
    assert engine.requests[-1].turns == ((PROMPT, PROMPT),)

    items = open_list(page)
    items.last.get_by_text(english("kept_more")).click()
    items.last.get_by_text(english("kept_rename")).click()
    page.keyboard.type("Second one")
    page.keyboard.press("Enter")
    expect(items).to_contain_text(["Second one", PROMPT])
    items.first.get_by_text(english("kept_more")).click()
    items.first.get_by_text(english("kept_delete")).click()
    expect(items).to_contain_text([PROMPT])
    page.locator("#kept-said button").click()
    expect(items).to_contain_text(["Second one", PROMPT])
    page.click("#kept-forget")
    expect(items).to_have_count(0)
    page.keyboard.press("Escape")
    expect(questions(page)).to_have_count(0)
    expect(page.locator("#picture img")).to_have_count(0)
    page.reload()
    expect(open_list(page)).to_have_count(0)
    expect(questions(page)).to_have_count(0)


def test_a_conversation_is_exported_and_imported(answered_page: Page, image_file: Path, engine: FakeEngine) -> None:
    page = answered_page
    ask_and_wait(page, "is 1 < 2 & *true*?")
    digest = hashlib.sha256(image_file.read_bytes()).hexdigest()
    saved = {form: export(page, form) for form in ("json", "markdown", "html")}
    conversation = json.loads(saved["json"])
    assert conversation["image"] == {"name": image_file.name, "sha256": digest}
    words = (PROMPT, PROMPT, "is 1 < 2 & *true*?", "is 1 < 2 & *true*?")
    roles = ("user", "assistant", "user", "assistant")
    history = [{"role": role, "content": content} for role, content in zip(roles, words, strict=True)]
    assert conversation["history"] == history
    assert f"> {PROMPT}\n\n{PROMPT}\n\n> is 1 \\< 2 & \\*true\\*?" in saved["markdown"]
    assert digest in saved["markdown"]
    assert "is 1 &#60; 2 &#38; *true*?" in saved["html"]
    assert 'src="data:image/png;base64,' in saved["html"]

    page.click("#kept-forget")
    expect(page.locator("#kept-items li")).to_have_count(0)
    page.set_input_files("#kept-file", json_file("[]"))
    expect(page.locator("#kept-said")).to_have_text(english("kept_not_imported"))
    page.set_input_files("#kept-file", json_file(saved["json"]))
    expect(replies(page)).to_have_text(words[1::2])
    expect(note(page)).to_have_text(english("kept_no_image", name=image_file.name))
    upload(page, image_file)
    expect(note(page)).to_be_hidden()
    ask_and_wait(page, "and then?")
    assert engine.requests[-1].turns == ((PROMPT, PROMPT), words[2:])


def test_nothing_is_kept_where_the_user_or_the_browser_does_not_want_it(
    answered_page: Page, image_file: Path, url: str
) -> None:
    page = answered_page
    open_list(page)
    page.uncheck("#kept-on")
    page.click("#kept-close")
    ask_and_wait(page, "not kept")
    page.reload()
    expect(open_list(page)).to_have_count(1)
    expect(page.locator("#kept-items")).not_to_contain_text("not kept")
    expect(questions(page)).to_have_count(0)

    page.add_init_script(BLOCKED)
    page.goto(url)
    upload(page, image_file)
    expect(note(page)).to_have_text(english("kept_not_stored"))
    ask_and_wait(page, PROMPT)
    upload(page, EXAMPLE)
    expect(questions(page)).to_have_count(0)
    note(page).get_by_role("button").click()
    expect(replies(page)).to_have_text([PROMPT])


def test_the_oldest_conversation_is_deleted_for_a_new_one(answered_page: Page) -> None:
    page = answered_page
    page.evaluate("window.blipSpace.store.limits.conversations = 2")
    for prompt in ("the second", "the third"):
        page.click("#kept-new")
        expect(questions(page)).to_have_count(0)
        ask_and_wait(page, prompt)
    expect(note(page)).to_have_text(english("kept_dropped", n=1))
    expect(open_list(page)).to_contain_text(["the third", "the second"])


def test_an_image_that_the_server_has_deleted_is_sent_again_with_the_next_question(
    answered_page: Page, engine: FakeEngine
) -> None:
    """The server deletes uploads after a day, and a conversation about one goes on: in the page that has asked about
    it, and in one that opens the kept conversation and shows the image while it is still there."""
    page = answered_page
    page.wait_for_function("Boolean(window.blipSpace.currentConversation.get().blob)")
    shutil.rmtree(settings.upload_folder())
    ask_and_wait(page, "and then?")
    page.reload()
    expect(replies(page)).to_have_text([PROMPT, "and then?"])
    page.locator("#picture img").wait_for()
    shutil.rmtree(settings.upload_folder())
    press(page, "Retry")
    expect(page.locator("#chat .ways").last).to_contain_text("2/2")
    expect(replies(page)).to_have_text([PROMPT, "and then?"])
    assert engine.requests[-1].turns == ((PROMPT, PROMPT),)
    assert len(engine.requests) == 3
    assert {request.image.digest for request in engine.requests} == {engine.requests[0].image.digest}


def test_a_browser_that_stores_no_blob_keeps_conversations_with_their_images(
    page: Page, url: str, image_file: Path, engine: FakeEngine
) -> None:
    """WebKit refuses to store a Blob in a private window."""
    page.add_init_script("""const { put } = IDBObjectStore.prototype;
        IDBObjectStore.prototype.put = function (value, ...key) {
            if (value instanceof Blob) throw new DOMException("no Blob", "UnknownError");
            return put.call(this, value, ...key);
        };""")
    page.goto(url)
    upload(page, image_file)
    ask_and_wait(page, PROMPT)
    page.reload()
    expect(replies(page)).to_have_text([PROMPT])
    page.locator("#picture img").wait_for()
    shutil.rmtree(settings.upload_folder())
    ask_and_wait(page, "and then?")
    assert engine.requests[-1].image.digest == engine.requests[0].image.digest


def test_two_tabs_with_one_conversation_keep_both_continuations(answered_page: Page, url: str) -> None:
    counts = "window.blipSpace.store.list().then(list => list.map(({ messages }) => messages.length))"
    second = answered_page.context.new_page()
    second.goto(url)
    open_list(second).first.locator(".kept-open").click()
    expect(replies(second)).to_have_text([PROMPT])
    ask_and_wait(second, "in the second tab")
    wait_for(second, lambda: second.evaluate(counts) == [4])
    ask_and_wait(answered_page, "in the first tab")
    wait_for(second, lambda: second.evaluate(counts) == [4, 4])
    second.reload()
    expect(replies(second)).to_have_text([PROMPT, "in the second tab"])
