"""`python -m benchmarks.screenshot`: a screenshot of the page after answers of the embedded model.

Needs Debian's chromium and fonts (fonts-noto-core, fonts-noto-cjk).
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from blip_space import catalogue, settings
from blip_space.serving.threaded import ThreadedEngine

TURNS = (("English", "And on the right?"),)
"""Language and question of each turn after that of the example."""

EXAMPLE = 2
"""Which of the examples is asked about: the whale and the sailboat."""


def main() -> None:
    """Start a server, ask, and save the screenshot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.screenshot", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("page.png"))
    parser.add_argument("--port", type=int, default=7899)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--phone", action="store_true")
    args = parser.parse_args()
    settings.prepare_libraries()
    from blip_space.apps import server  # imports Gradio, after its environment is prepared

    running = server.launch(ThreadedEngine([catalogue.find_model("tiny")]), host="127.0.0.1", port=args.port)
    try:
        take_screenshot(running.url, args.output, dark=args.dark, phone=args.phone)
    finally:
        running.close()


def take_screenshot(url: str, output: Path, *, dark: bool, phone: bool) -> None:
    """Run the conversation in a browser and save a screenshot of its end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": 390, "height": 844} if phone else {"width": 1280, "height": 860},
            color_scheme="dark" if dark else "light",
            device_scale_factor=1.5,
        )
        page.goto(url)
        expect(page.locator("#chip")).to_contain_text("ready", timeout=60_000)
        page.locator("#cards button").nth(EXAMPLE).click()
        page.locator("#chat [data-testid=bot]").wait_for()
        page.locator("#ask").wait_for()
        for language, question in TURNS:
            ask(page, language, question)
        page.mouse.move(0, 0)
        output.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=output, full_page=phone)
        browser.close()


def ask(page: Page, language: str, question: str) -> None:
    """Choose the language, ask, and wait for the complete answer."""
    choose_language(page, language)
    page.fill("#question textarea", question)
    page.press("#question textarea", "Enter")
    expect(page.locator("#chat [data-testid=user]").last).to_have_text(question)
    expect(page.locator("#ask")).to_be_visible(timeout=30_000)


def choose_language(page: Page, language: str) -> None:
    """Choose the language of the answer by its English name."""
    page.locator("#language input").fill(language)
    page.get_by_role("option", name=f"– {language} ·").or_(
        page.get_by_role("option", name=f"{language} ·")
    ).first.click()


if __name__ == "__main__":
    main()
