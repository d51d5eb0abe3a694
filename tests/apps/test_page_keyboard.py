"""Laws of the page for a user of a keyboard or a screen reader, in a real browser."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.apps.browser import PROMPT, ask, ask_and_wait, english, question_box, questions, replies, upload, wait_for
from tests.apps.fake_engine import FakeEngine

FOCUSED = """() => {
    const node = document.activeElement, style = getComputedStyle(node);
    if (node === document.body) return null;
    const isMarked = style.outlineStyle !== 'none' || style.boxShadow !== 'none'
        || style.borderColor !== getComputedStyle(document.querySelector('#question')).borderColor;
    return {name: node.ariaLabel || node.innerText.trim() || node.labels?.[0]?.innerText || node.title || '', isMarked,
            html: node.outerHTML.slice(0, 200)};
}"""


def tab_through(page: Page) -> list[dict[str, Any]]:
    """Press Tab until the page is left; the elements that it reaches."""
    reached: list[dict[str, Any]] = []
    while len(reached) < 100:
        page.keyboard.press("Tab")
        if (focused := page.evaluate(FOCUSED)) is None:
            return reached
        reached.append(focused)
    raise AssertionError("Tab does not leave the page")


def test_a_walk_through_the_page_with_the_keyboard(page: Page, image_file: Path, engine: FakeEngine) -> None:
    page.locator("#settings button").first.press("Enter")
    question_box(page).fill(PROMPT)
    tab_through(page)  # to the end of the page
    reached = tab_through(page)
    assert [focused["html"] for focused in reached if not (focused["name"] and focused["isMarked"])] == []
    names = [focused["name"] for focused in reached]
    assert {english("question_label"), english("ask"), english("language_label")} <= set(names)
    assert any(english("use_history_label") in name for name in names)
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(FOCUSED) is not None  # the body is the end of the page only
    upload(page, image_file)
    question_box(page).fill(PROMPT)
    page.locator("#ask").press("Enter")
    expect(replies(page)).to_have_text([PROMPT])
    expect(question_box(page)).to_be_focused()
    engine.hold()
    ask(page, "five six")
    expect(replies(page).last).to_have_text("five")
    page.keyboard.press("Escape")
    expect(page.locator("#ask")).to_be_visible()
    expect(replies(page).last).to_have_text("five")


def test_a_list_closes_when_it_is_left_and_keeps_the_focus_when_a_row_is_chosen(page: Page) -> None:
    field, rows = page.locator("#language input"), page.locator("#language [role=option]")
    field.focus()
    expect(rows.first).to_be_visible()
    page.keyboard.press("Tab")
    expect(rows).to_have_count(0)
    assert page.evaluate(FOCUSED) is not None
    page.keyboard.press("Shift+Tab")
    expect(field).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("no such language")
    page.keyboard.press("Escape")
    expect(rows).to_have_count(0)
    expect(field).to_have_value("English · strong")
    page.keyboard.press("Control+A")
    page.keyboard.type("Deutsch")
    expect(rows).to_have_count(1)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(rows).to_have_count(0)
    expect(field).to_be_focused()
    expect(field).to_have_value("Deutsch – German · strong")


def test_a_question_is_edited_with_enter_and_escape(answered_page: Page) -> None:
    page, field = answered_page, answered_page.locator("#chat textarea")
    page.locator("#chat button[aria-label='Edit']").press("Enter")
    expect(field).to_be_focused()
    field.fill("another")
    page.keyboard.press("Escape")
    expect(questions(page)).to_have_text([PROMPT])
    expect(page.locator("#chat button[aria-label='Edit']")).to_be_focused()
    page.keyboard.press("Enter")
    width = page.locator("#chat .message-wrap").bounding_box()
    edited = field.bounding_box()
    assert width is not None
    assert edited is not None
    assert edited["width"] > 0.8 * width["width"]
    field.fill("another question")
    page.keyboard.press("Enter")
    expect(replies(page)).to_have_text(["another question"])
    expect(question_box(page)).to_be_focused()


def test_an_answer_is_announced_once_and_whole(page: Page, image_file: Path) -> None:
    page.evaluate(
        """() => new MutationObserver((changes) => changes.forEach(({ target, addedNodes }) => {
            if (target.closest?.('[aria-live]:not([aria-live=off]), [role=status], [role=log]:not([aria-live])'))
                (window.said ??= []).push([...addedNodes].map((node) => node.textContent).join(' '));
        })).observe(document.body, { childList: true, subtree: true, characterData: true })"""
    )
    upload(page, image_file)
    ask_and_wait(page, PROMPT)
    ask_and_wait(page, "five six seven")
    wait_for(page, lambda: page.locator("#announcement p").inner_text() == "five six seven")
    assert page.evaluate("window.said.filter((words) => words.trim())") == [PROMPT, "five six seven"]
    expect(page.locator("#chat [role=article]").first).to_have_attribute("aria-label", english("question_name"))
    expect(page.locator("#picture img")).to_have_attribute("alt", english("image_label"))


AXE = "axe.run(document, {resultTypes: ['violations']}).then(({violations}) => violations.flatMap(" \
    "({id, nodes}) => nodes.map(({html}) => `${id}: ${html.slice(0, 120)}`)))"  # fmt: skip

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "color_scheme": "dark", "locale": "ar"}
DESKTOP = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light", "locale": "de-DE"}


@pytest.mark.parametrize("device", [PHONE, DESKTOP], ids=["phone, dark, Arabic", "desktop, light, German"])
def test_axe_finds_nothing(browser: Browser, url: str, image_file: Path, device: dict[str, Any]) -> None:
    """On the first screen, after an answer with the settings open, and on the batch tab."""
    context = browser.new_context(reduced_motion="reduce", **device)
    page = context.new_page()
    page.goto(url)
    page.locator("#budget .budget").wait_for(state="attached")
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text("utf-8"))
    findings = page.evaluate(AXE)
    upload(page, image_file)
    ask_and_wait(page, PROMPT)
    page.locator("#settings button").first.click()
    findings += page.evaluate(AXE)
    page.locator("#tabs [role=tab]").nth(1).click()
    findings += page.evaluate(AXE)
    assert findings == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()
