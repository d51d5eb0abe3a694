"""Laws of the first screen, in a real browser: examples that answer at once, and everything in view on a phone."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from blip_space.apps.page import static
from scripts import page_scripts
from tests.apps.browser import ask_and_wait, english, question_box, questions, replies, wait_for
from tests.apps.fake_engine import FakeEngine


def card(page: Page, language: str) -> Any:
    return page.locator("#cards button", has=page.locator(f"q[lang={language}]"))


def test_an_example_is_answered_by_one_click_and_keeps_draft_and_language(page: Page, engine: FakeEngine) -> None:
    expect(page.locator("#cards q")).to_have_count(5)  # that in Swahili is none for this model
    expect(page.locator("#cards .knows")).to_contain_text("parrot is a small test model. It knows: Drawings: dog, …")
    expect(card(page, "ar").locator("q")).to_have_attribute("dir", "rtl")
    expect(page.locator("#ask")).to_have_text(english("describe"))
    question_box(page).fill("a draft")
    expect(page.locator("#ask")).to_have_text(english("ask"))
    card(page, "ja").click()
    expect(replies(page)).to_have_text("これは何ですか？")
    expect(question_box(page)).to_have_value("a draft")
    expect(page.locator("#cards")).to_be_hidden()
    expect(page.locator("#ask")).to_be_visible()
    ask_and_wait(page, "and then?")
    assert [request.language for request in engine.requests] == ["ja", "en"]
    page.locator("#picture [aria-label='Remove Image']").click()
    expect(questions(page)).to_have_count(0)
    card(page, "ja").click()
    wait_for(page, lambda: len(engine.requests) == 3)


@pytest.mark.parametrize("size", [(390, 844), (844, 390)])
def test_image_reply_and_composer_are_in_view_on_a_phone(browser: Browser, url: str, size: tuple[int, int]) -> None:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(url)
    card(page, "en").click()
    expect(replies(page)).to_have_text("How many circles are there?")
    expect(page.locator("#ask")).to_be_visible()
    ask_and_wait(page, "and then?")
    for part in ("#picture img", "#chat [data-testid=bot] >> nth=-1", "#question textarea", "#ask"):
        expect(page.locator(part)).to_be_in_viewport(ratio=0.9)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    context.close()


@pytest.mark.parametrize(("size", "is_mobile"), [((390, 844), True), ((1280, 800), False)], ids=["phone", "desktop"])
def test_the_page_does_not_move_while_it_loads(
    browser: Browser, url: str, size: tuple[int, int], is_mobile: bool
) -> None:
    """The cumulative layout shift, of which 0.1 counts as good."""
    viewport = ViewportSize(width=size[0], height=size[1])
    context = browser.new_context(viewport=viewport, has_touch=is_mobile, is_mobile=is_mobile)
    page = context.new_page()
    page.add_init_script(
        """window.shift = 0;
        new PerformanceObserver((list) => list.getEntries().forEach(({ value, hadRecentInput }) => {
            if (!hadRecentInput) window.shift += value;
        })).observe({ type: "layout-shift", buffered: true });"""
    )
    page.goto(url)
    page.locator("#budget .budget").wait_for(state="attached")
    for part in ("#cards button >> nth=-1", "#ready button >> nth=-1", "#privacy p >> nth=-1", "#chip"):
        page.locator(part).wait_for()
    assert page.evaluate("window.shift") <= 0.05
    context.close()


def test_settings_are_words_that_reset(page: Page, engine: FakeEngine) -> None:
    page.click("#settings > button")
    page.get_by_label(english("length_short")).click()
    page.get_by_label(english("quality_best")).click()
    page.click("#more-settings > button")
    expect(page.get_by_label(english("seed_label"))).to_be_disabled()
    page.click("#reset-settings")
    expect(page.get_by_label(english("seed_label"))).to_be_enabled()
    card(page, "en").click()
    wait_for(page, lambda: len(engine.requests) == 1)
    options = engine.requests[0].options
    assert (options.max_new_tokens, options.quality) == (64, "stream")


def test_the_chip_opens_the_details_and_escape_closes_them(page: Page) -> None:
    expect(page.locator("#details")).to_be_hidden()
    page.locator("#chip").click()
    expect(page.locator("#details")).to_contain_text("Repeats the prompt.")
    expect(page.locator("#details")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#details")).to_be_hidden()


def test_the_page_asks_for_all_of_gradios_scripts_at_once(browser: Browser, url: str) -> None:
    """After an upgrade of Gradio, `python -m scripts.page_scripts` writes the list again."""
    context = browser.new_context()
    assert sorted(page_scripts.loaded(context.new_page(), url)) == sorted(static.gradio_scripts())
    context.close()
    assert {httpx.get(f"{url}{path}").status_code for path in static.gradio_scripts()} == {200}
