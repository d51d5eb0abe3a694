"""Steps of a user in a real browser, for the tests of the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from blip_space.apps import locales
from blip_space.apps.page import static

PROMPT = "one two three four"

EXAMPLE = static.load_examples()[0].file
"""An image that is not that of the fixtures."""

english = locales.english().text
"""The texts of the page as these tests read them."""

BUTTONS = "button:visible:not([aria-hidden=true] *)"
"""The buttons that a user can press; Gradio measures its tabs with hidden copies."""


def upload(page: Page, image_file: Path) -> None:
    """Choose an image file."""
    page.set_input_files("#picture input[type=file]", image_file)
    page.locator("#picture img").wait_for()


def ask(page: Page, prompt: str) -> None:
    """Type and press Enter."""
    page.fill("#question textarea", prompt)
    page.press("#question textarea", "Enter")


def ask_and_wait(page: Page, prompt: str) -> None:
    """Ask, and wait for the complete answer, which repeats the question."""
    ask(page, prompt)
    expect(replies(page).last).to_have_text(prompt)
    expect(page.locator("#ask")).to_be_visible()


def questions(page: Page) -> Locator:
    return page.locator("#chat [data-testid=user]")


def replies(page: Page) -> Locator:
    return page.locator("#chat [data-testid=bot]")


def question_box(page: Page) -> Locator:
    return page.locator("#question textarea")


def press(page: Page, name: str) -> None:
    """Click the last button of that name in the conversation."""
    page.locator(f"#chat button[aria-label='{name}']").last.click()


def note(page: Page, place: str) -> Locator:
    """The note at a place of the page: `frame` (of the image), `box` (of the question), `batch` or `page`."""
    return page.locator(f".note-{place}")


def choose_language(page: Page, name: str) -> None:
    """Type a name into the list of languages and choose the first match."""
    page.click("#language input")
    page.press("#language input", "Control+A")
    page.type("#language input", name)
    expect(page.locator("#language [role=option]").first).to_contain_text(name)
    page.press("#language input", "ArrowDown")
    page.press("#language input", "Enter")
    expect(page.locator("#language [role=option]")).to_have_count(0)


def visible_buttons(page: Page) -> list[str]:
    """The names of the buttons that a user sees now."""
    names = "buttons => buttons.map(button => button.ariaLabel || button.innerText)"
    return list(page.locator(BUTTONS).evaluate_all(names))


def wait_for(page: Page, condition: Callable[[], bool]) -> None:
    """Let the page run until the condition is true."""
    for _ in range(500):
        if condition():
            return
        page.wait_for_timeout(20)
    raise AssertionError("the condition was never true")


def is_dark(page: Page) -> bool:
    return bool(page.evaluate("document.body.classList.contains('dark')"))


def contrast(locator: Locator, part: str = "color", pseudo: str | None = None) -> float:
    """The WCAG contrast ratio between the text and the nearest colour behind it. `part` is the property of another
    colour, such as `borderTopColor`, which is compared with what surrounds the element; `pseudo` is a part of the
    element, such as `::placeholder`."""
    return float(
        locator.evaluate(
            """(node, [part, pseudo]) => {
        const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
        const light = (colour) => colour.slice(0, 3).map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const front = light(rgb(getComputedStyle(node, pseudo)[part]));
        let behind = part === "color" ? node : node.parentElement;
        while (behind && (rgb(getComputedStyle(behind).backgroundColor)[3] ?? 1) < 1) behind = behind.parentElement;
        const back = light(behind ? rgb(getComputedStyle(behind).backgroundColor) : [255, 255, 255]);
        return (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    }""",
            [part, pseudo],
        )
    )
