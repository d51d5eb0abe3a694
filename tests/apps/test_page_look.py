"""Laws of the page's look, in a real browser: phone and desktop, light and dark, text shown literally."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.apps.browser import (
    BUTTONS,
    PROMPT,
    ask_and_wait,
    contrast,
    is_dark,
    question_box,
    questions,
    replies,
    upload,
    visible_buttons,
)

CONTRASTING = (
    *("#privacy p", "#budget p", "header p", "#chat .user .md", "#chat .bot .md"),
    *("#ask", "#chip", "#ready button", "footer button"),
)
OUTLINED = ("#picture", "#question", "#language .wrap:not([data-testid])", "#chat .user.message")
"""What is seen by its frame, or by its sign (`ICONS`) only."""
ICONS = ("#picture .source-selection button >> nth=0", "#picture .source-selection button >> nth=-1")


def test_text_is_shown_literally(page: Page, image_file: Path) -> None:
    text = "<b>bold</b> <script>x</script> &lt; $x$ *a* **b** # c `d` http://a.example [l](m) ~~s~~ 1. <!-- n -->"
    upload(page, image_file)
    ask_and_wait(page, text)
    expect(questions(page)).to_have_text(text)
    for message in (questions(page), replies(page)):
        assert message.evaluate("node => node.querySelectorAll('b, script, em, code, a, h1, del, .katex').length") == 0


def test_each_message_runs_in_its_own_direction(page: Page, image_file: Path) -> None:
    upload(page, image_file)
    ask_and_wait(page, "ماذا ترى؟ one")
    ask_and_wait(page, "What do you see? ماذا")
    first_is_right = """node => {
        const text = node.querySelector('.md').firstChild, range = document.createRange();
        const x = (index) => { range.setStart(text, index); range.setEnd(text, index + 1);
                               return range.getBoundingClientRect().x; };
        return x(0) > x(text.length - 1);
    }"""
    assert [replies(page).nth(number).evaluate(first_is_right) for number in (0, 1)] == [True, False]
    assert question_box(page).evaluate("node => getComputedStyle(node).unicodeBidi") == "plaintext"


def test_on_a_phone_everything_fits_and_works(browser: Browser, url: str, image_file: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True)
    page.goto(url)
    upload(page, image_file)
    ask_and_wait(page, "a rather long question that has to wrap on a narrow screen, and " + "x" * 60)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    left, right = page.locator("#left").bounding_box(), page.locator("#right").bounding_box()
    assert left is not None
    assert right is not None
    assert left["y"] + left["height"] <= right["y"]
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_in_light_and_dark(browser: Browser, url: str, image_file: Path, scheme: Any) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(url)
    upload(page, image_file)
    ask_and_wait(page, PROMPT)
    for selector in CONTRASTING:
        assert contrast(page.locator(selector).first) >= 4.5, selector
    assert contrast(page.locator("#question textarea"), pseudo="::placeholder") >= 4.5
    for selector in OUTLINED:
        assert contrast(page.locator(selector).first, "borderTopColor") >= 3, selector
    for selector in ICONS:
        assert contrast(page.locator(selector)) >= 3, selector
    assert is_dark(page) == (scheme == "dark")
    page.locator("#tabs [role=tab]").nth(1).click()
    assert contrast(page.locator("#batch-prompt textarea"), pseudo="::placeholder") >= 4.5
    page.close()


def test_the_page_makes_no_request_to_another_host(browser: Browser, url: str, image_file: Path) -> None:
    page = browser.new_page()
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]) if "//" in request.url else None)
    page.goto(url)
    upload(page, image_file)
    ask_and_wait(page, PROMPT)
    page.locator("footer button").first.click()
    page.wait_for_url(re.compile("view=api"))
    assert {host for host in hosts if host} == {url.removeprefix("http://")}
    page.close()


def test_every_visible_button_works(answered_page: Page, image_file: Path) -> None:
    """Each button of the page after one answer, on a reloaded page each time, where no conversation comes back."""
    answered_page.evaluate("window.blipSpace.currentConversation.setKept(false)")
    names = dict.fromkeys(visible_buttons(answered_page))
    assert len(names) > 12
    for name in names:
        answered_page.locator(BUTTONS).nth(visible_buttons(answered_page).index(name)).click()
        answered_page.goto(answered_page.url.split("?")[0])
        upload(answered_page, image_file)
        ask_and_wait(answered_page, PROMPT)
