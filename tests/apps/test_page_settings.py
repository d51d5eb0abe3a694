"""Laws of the page's languages, models, settings, token budget and status, in a real browser."""

from __future__ import annotations

import re

import httpx
from playwright.sync_api import Page, expect

from blip_space.serving.load_progress import LoadEstimate
from tests.apps.browser import (
    PROMPT,
    ask,
    ask_and_wait,
    choose_language,
    english,
    note,
    question_box,
    questions,
    replies,
    wait_for,
)
from tests.apps.fake_engine import POLYGLOT, UNKNOWN_REPLY, FakeEngine

TYPE = """(box, text) => {
    box.focus();
    for (const letter of text) {
        box.value += letter;
        box.dispatchEvent(new InputEvent("input", { bubbles: true }));
    }
}"""
"""Types without a pause, as a busy machine makes pauses between the keys of a browser's driver."""


def test_a_language_is_found_by_typing_and_used(answered_page: Page, engine: FakeEngine) -> None:
    choose_language(answered_page, "Deutsch")
    ask_and_wait(answered_page, "auf Deutsch")
    assert engine.requests[1].language == "de"
    answered_page.get_by_role("tab", name=english("batch_tab")).click()
    expect(answered_page.locator("#batch-language input")).to_have_value(re.compile("Deutsch"))


def test_an_unsupported_language_is_marked_last_and_refused(answered_page: Page) -> None:
    answered_page.click("#language input")
    options = answered_page.locator("#language [role=option]").all_inner_texts()
    assert len(options) == 96
    marked = [index for index, text in enumerate(options) if "(not supported by parrot)" in text]
    assert marked == list(range(8, 96))
    answered_page.keyboard.press("Escape")
    choose_language(answered_page, "Kiswahili")
    expect(answered_page.locator("#budget")).to_contain_text("parrot does not speak Kiswahili")
    ask(answered_page, "habari")
    expect(note(answered_page, "box")).to_contain_text("parrot does not speak Kiswahili")
    expect(answered_page.get_by_text("parrot does not speak Kiswahili").filter(visible=True)).to_have_count(1)
    expect(answered_page.locator("body")).not_to_contain_text("mblip-bloomz-7b")
    expect(question_box(answered_page)).to_have_value("habari")


def test_each_model_offers_its_own_languages(answered_page: Page, engine: FakeEngine) -> None:
    answered_page.click("#model input")
    answered_page.locator("#model [role=option]", has_text="polyglot").click()
    expect(answered_page.locator("#chip")).to_have_text(english("chip_next", model="polyglot"))
    answered_page.click("#language input")
    expect(answered_page.locator("#language [role=option]", has_text="not supported")).to_have_count(0)
    answered_page.keyboard.press("Escape")
    ask_and_wait(answered_page, "hello polyglot")
    assert engine.requests[1].model == "polyglot"


def test_ready_questions_follow_the_language_and_are_asked_by_a_click(answered_page: Page, engine: FakeEngine) -> None:
    ready = answered_page.locator("#ready button")
    expect(ready).to_have_text(["What is this?", "How many are there?", "What is on the left?"])
    choose_language(answered_page, "Deutsch")
    expect(ready).to_have_text(["Was ist das?", "Wie viele sind es?", "Was ist links?"])
    question_box(answered_page).fill("a draft")
    ready.last.click()
    expect(replies(answered_page).last).to_have_text("Was ist links?")
    expect(question_box(answered_page)).to_have_value("a draft")
    assert (engine.requests[1].language, engine.requests[1].turns) == ("de", ((PROMPT, PROMPT),))
    choose_language(answered_page, "français")
    expect(ready).to_have_count(0)


def test_a_reload_stops_the_answer_and_keeps_language_and_settings(answered_page: Page, engine: FakeEngine) -> None:
    choose_language(answered_page, "Deutsch")
    answered_page.click("#settings > button")
    answered_page.click("#more-settings > button")
    answered_page.get_by_label(english("seed_label")).fill("7")
    answered_page.keyboard.press("Tab")
    engine.hold()
    ask(answered_page, "eins zwei")
    expect(replies(answered_page).last).to_have_text("eins")
    answered_page.reload()
    wait_for(answered_page, lambda: engine.responses[1].done)
    expect(answered_page.locator("#language input")).to_have_value(re.compile("Deutsch"))
    expect(questions(answered_page)).to_have_count(2)
    answered_page.click("#settings > button")
    answered_page.click("#more-settings > button")
    expect(answered_page.get_by_label(english("seed_label"))).to_have_value("7")


def test_a_full_context_is_said_in_words_and_counted_once_after_typing(answered_page: Page) -> None:
    counts: list[str] = []
    answered_page.on("request", lambda request: counts.append(request.url) if "/queue/join" in request.url else None)
    line, box = answered_page.locator("#budget"), question_box(answered_page)
    expect(line.locator(".free")).to_be_attached()
    box.evaluate(TYPE, "what is it? ")
    assert counts == []
    expect(line.locator(".budget")).to_be_hidden()
    box.blur()
    wait_for(answered_page, lambda: len(counts) == 1)
    box.fill("what " * 30)
    expect(line).to_have_text(english("context_nearly_full"))
    ask(answered_page, "what " * 200)
    expect(note(answered_page, "box")).to_have_text(
        re.compile(r"The question is too long\. Shorten it by at least \d+%")
    )
    box.fill("what " * 30)
    for number in range(2):
        ask_and_wait(answered_page, f"{number} " * 11 + "more?")
    box.fill("what is it? " * 3)
    expect(line).to_contain_text("The conversation is long: the model leaves out")


def test_download_progress_is_shown(page: Page, engine: FakeEngine, web: httpx.Client) -> None:
    engine.set_status(
        status="loading", load_progress=LoadEstimate(0.25, "downloading, 5.00 of 20.00 GB, 4 min left", 240.0)
    )
    page.reload()
    expect(page.locator("#chip")).to_have_text("parrot · loading, 25 %")
    bar = page.locator("#status progress")
    expect(bar).to_have_attribute("value", "0.250")
    expect(page.locator("#status")).to_contain_text("downloading, 5.00 of 20.00 GB, 4 min left")
    assert web.get("/healthz").json()["progress"]["seconds_left"] == 240.0


def test_the_status_changes_from_loading_to_ready(page: Page, engine: FakeEngine) -> None:
    expect(page.locator("#chip")).to_have_text("parrot · fp32 · ready")
    engine.set_status(status="loading")
    page.reload()
    expect(page.locator("#status")).to_contain_text("is loading")
    engine.set_status(status="ready")
    expect(page.locator("#status")).to_be_empty()
    expect(page.locator("#chip")).to_have_text("parrot · fp32 · ready")
    expect(page.locator("#status-details")).to_contain_text("fp32 on cpu")


def test_a_failed_load_is_shown_with_its_reason(page: Page, engine: FakeEngine) -> None:
    engine.set_status(status="failed", error="It is not <here>. Download it.")
    page.reload()
    expect(page.locator("#status")).to_contain_text("It is not <here>. Download it.")


def test_the_page_describes_the_model_other_models_and_privacy(page: Page) -> None:
    about = page.locator("#about")
    expect(about).to_contain_text("Repeats the prompt.")
    expect(about).to_contain_text("python app.py --model mblip-mt0-xl")
    privacy = page.locator("#privacy")
    expect(privacy).to_contain_text("Images and batch results are deleted within 24 hours.")
    expect(privacy).to_contain_text("Images and text are never logged")


def test_an_unknown_image_gives_one_hint_from_which_another_model_is_asked(
    answered_page: Page, engine: FakeEngine
) -> None:
    hint = answered_page.locator("#chat .hint")
    for count in (2, 3):
        ask(answered_page, UNKNOWN_REPLY)
        expect(replies(answered_page)).to_have_text([PROMPT, *[UNKNOWN_REPLY] * (count - 1)])
        expect(answered_page.locator("#ask")).to_be_visible()
        expect(hint).to_have_count(1)
    expect(hint).to_contain_text(english("image_unknown", model="parrot"))
    hint.get_by_text(english("ask_instead", model=POLYGLOT.name)).click()
    wait_for(answered_page, lambda: len(engine.requests) == 4)
    expect(hint).to_have_count(0)
    assert [request.model for request in engine.requests[2:]] == ["parrot", "polyglot"]
    assert len(engine.requests[3].turns) == 2
