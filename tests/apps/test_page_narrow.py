"""Laws of the page in narrow windows, on phones and when it is magnified, in a real browser: nothing scrolls sideways,
is cut off or is covered, and everything is large enough to be pressed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from tests.apps.browser import PROMPT, ask_and_wait, english, question_box, questions, replies, upload
from tests.apps.conftest import PAGE_MILLISECONDS

CUT_OFF = """() => {
    const found = [], name = (node) => node.outerHTML.slice(0, 120);
    const root = document.documentElement;
    if (root.scrollWidth > innerWidth) found.push(`the page scrolls sideways: ${root.scrollWidth}`);
    for (const node of document.querySelectorAll("button, input, textarea, summary, p, small, q, label, #details")) {
        const shape = node.getBoundingClientRect();
        if (!node.checkVisibility({ visibilityProperty: true, opacityProperty: true }) || shape.width < 2) continue;
        if (node.closest("[aria-hidden=true], header p, [role=log]")) continue;
        let [left, right] = [-1, innerWidth + 1];
        for (let outer = node.parentElement; outer; outer = outer.parentElement) {
            const { overflowX, position } = getComputedStyle(outer), edge = outer.getBoundingClientRect();
            if (/auto|scroll/.test(overflowX)) [left, right] = [-Infinity, Infinity];
            if (/hidden|clip/.test(overflowX)) {
                [left, right] = [Math.max(left, edge.left - 1), Math.min(right, edge.right + 1)];
            }
            if (position === "fixed" || left === -Infinity) break;
        }
        if (shape.left < left || shape.right > right) found.push(`cut off: ${name(node)}`);
        if (!node.placeholder || node.value) continue;
        const { font, paddingLeft, paddingRight } = getComputedStyle(node);
        const pen = Object.assign(document.createElement("canvas").getContext("2d"), { font });
        const room = node.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
        if (pen.measureText(node.placeholder).width > room + 1) found.push(`cut off: ${node.placeholder}`);
    }
    return found;
}"""

SMALL_TARGETS = """(size) => [...document.querySelectorAll(
        "button, a[href], summary, input, textarea, [role=tab], [role=option]")].flatMap((node) => {
    const shape = node.getBoundingClientRect(), label = node.closest("label")?.getBoundingClientRect();
    if (!node.checkVisibility({ visibilityProperty: true, opacityProperty: true }) || shape.width < 2) return [];
    if (node.closest("[aria-hidden=true]")) return [];
    const [width, height] = ["width", "height"].map((side) => Math.max(shape[side], label?.[side] ?? 0));
    return width < size - 0.5 || height < size - 0.5 ? [`${node.outerHTML.slice(0, 90)}: ${width} x ${height}`] : [];
})"""


IS_UNCOVERED = """(node) => {
    const { x, y, width, height } = node.getBoundingClientRect();
    const at = (share) => document.elementFromPoint(x + width / 2, y + share * height);
    return [0.2, 0.5, 0.8].every((share) => node.contains(at(share)));
}"""


class Phone:
    """A browser window of some size and language."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser, self._url = browser, url

    def open(self, width: int, height: int, **options: Any) -> Page:
        """The page in a new window of that size."""
        size = ViewportSize(width=width, height=height)
        self._context = self._browser.new_context(viewport=size, reduced_motion="reduce", **options)
        self._context.set_default_timeout(PAGE_MILLISECONDS)
        page = self._context.new_page()
        page.goto(self._url)
        page.locator("#budget .budget").wait_for(state="attached")
        return page

    def close(self) -> None:
        self._context.close()


@pytest.fixture
def phone(browser: Browser, url: str) -> Iterator[Phone]:
    window = Phone(browser, url)
    yield window
    window.close()


def box(part: Locator) -> Any:
    """The part's place in the window."""
    return part.evaluate("node => node.getBoundingClientRect()")


def states(page: Page, image_file: Any) -> Iterator[str]:
    """Bring the page into each of its states, one after another."""
    yield "first"
    page.click("#chip")
    yield "details"
    page.keyboard.press("Escape")
    upload(page, image_file)
    ask_and_wait(page, PROMPT)
    yield "answered"
    page.locator("#settings button").first.click()
    page.locator("#more-settings button").first.click()
    page.locator("#more-settings input[type=range]").last.wait_for()
    yield "settings"
    page.locator("#compare > button").click()
    page.click("#compare-ask")
    page.locator("#use-second").wait_for()
    yield "comparison"
    page.click("#kept-list")
    page.locator("#kept-items li > button").nth(1).click()
    yield "conversations"
    page.keyboard.press("Escape")
    page.locator("#tabs [role=tab]").nth(1).click()
    page.set_input_files("#batch-files input[type=file]", image_file)
    page.locator("#batch-files .file").wait_for()
    page.click("#batch-start")
    page.locator("#batch-downloads button").last.wait_for()
    yield "batch"


@pytest.mark.parametrize(
    ("language", "is_touched", "sizes"),
    [("ar", False, [(320, 640), (640, 400), (768, 1024), (1280, 800)]), ("ja-JP", True, [(320, 640), (390, 844)])],
    ids=["Arabic, mouse", "Japanese, finger"],
)
def test_nothing_is_cut_off_or_too_small_in_narrow_and_magnified_windows(
    phone: Phone, image_file: Any, language: str, is_touched: bool, sizes: list[tuple[int, int]]
) -> None:
    """Magnified to 200 %, a window of 1280 by 800 has 640 by 400 CSS pixels. For fingers 44 px, for a mouse 24."""
    page = phone.open(*sizes[0], locale=language, has_touch=is_touched, is_mobile=is_touched)
    for state in states(page, image_file):
        for width, height in sizes:
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate(CUT_OFF) == [], (state, width)
            assert page.evaluate(SMALL_TARGETS, 44 if is_touched else 24) == [], (state, width)
        page.set_viewport_size({"width": sizes[0][0], "height": sizes[0][1]})


@pytest.mark.parametrize("language", ["de-DE", "ru"])
def test_long_words_fit_the_composer(phone: Phone, language: str) -> None:
    """The longest button, and the longest placeholder."""
    page = phone.open(320, 640, locale=language)
    for width in (320, 360, 390, 560, 768):
        page.set_viewport_size({"width": width, "height": 740})
        assert page.evaluate(CUT_OFF) == [], width


def test_the_top_of_a_phone_has_two_rows_with_several_models(phone: Phone) -> None:
    """In the language with the longest names of its buttons."""
    page = phone.open(390, 844, locale="fr-FR", has_touch=True, is_mobile=True)
    parts = [box(page.locator(part)) for part in ("#kept-list", "#model", "#chip", "#page-menu")]
    assert parts[0]["bottom"] <= min(part["top"] for part in parts[1:])
    assert max(part["top"] for part in parts[1:]) < min(part["bottom"] for part in parts[1:])
    assert parts[-1]["bottom"] < 110


def test_the_composer_is_in_view_and_not_covered_while_the_keyboard_is_open(phone: Phone) -> None:
    page = phone.open(390, 844, has_touch=True, is_mobile=True)
    page.locator("#cards button").first.click()
    expect(replies(page)).to_have_count(1)
    expect(page.locator("#ask")).to_be_visible()
    question_box(page).focus()
    question_box(page).fill("What is on the left of it? " * 6)
    for width in (390, 320):
        page.set_viewport_size({"width": width, "height": 400})
        for part in ("#question textarea", "#ask", "#language"):
            expect(page.locator(part)).to_be_in_viewport(ratio=1)
            assert page.locator(part).evaluate(IS_UNCOVERED), (part, width)


@pytest.mark.parametrize("language", ["en", "ar"])
def test_no_button_covers_a_message_or_is_cut_off(phone: Phone, image_file: Any, language: str) -> None:
    """The buttons above the conversation lay over its words, in Arabic over the beginning of a question, whose own
    buttons were cut off at the edge."""
    page = phone.open(1280, 720, locale=language)
    upload(page, image_file)
    for prompt in ("Is there a banana in this picture, or is there none of them?", "what colour is it?", "and there?"):
        ask_and_wait(page, prompt)
    panel, log = box(page.locator("#chat .top-panel")), page.locator("#chat .bubble-wrap")
    visible_top = log.evaluate("node => node.getBoundingClientRect().top + node.clientTop")
    assert log.evaluate("node => node.scrollHeight > node.clientHeight")
    assert panel["bottom"] <= visible_top + 1
    page.locator("#chat .message-row").nth(-2).hover()
    question, buttons = box(questions(page).last), box(page.locator("#chat .message-buttons-right button").last)
    edge = box(page.locator("#chat"))
    assert edge["left"] + 10 < buttons["left"] < buttons["right"] < edge["right"] - 10
    side = "left" if language == "ar" else "right"
    first = page.locator("#chat .message-buttons-right").last.locator("button").last
    assert abs(box(first)[side] - question[side]) < 16


def test_the_state_of_the_model_is_at_the_edge_of_a_tablet(phone: Phone) -> None:
    page = phone.open(768, 1024)
    state, tabs = box(page.locator("#state")), box(page.locator("#tabs"))
    assert abs(state["right"] - tabs["right"]) < 2
    assert state["top"] < 20 < box(page.get_by_role("heading", name="blip-space"))["bottom"] < state["bottom"] + 2
    expect(page.locator("#ask")).to_have_text(english("describe"))
