"""`python -m benchmarks.recording`: the README's moving picture, a conversation with the embedded model.

Needs Debian's chromium and fonts, as `benchmarks.screenshot` does. Saves an animated WebP of at most 1 MB.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from benchmarks.screenshot import choose_language
from blip_space import catalogue, settings
from blip_space.serving.threaded import ThreadedEngine

RECORDING = Path(__file__).resolve().parent.parent / "assets" / "screenshots" / "conversation.webp"
MAX_BYTES = 1_000_000
SIZE = (1100, 760)
WIDTH = 880
EXAMPLE = 2
"""Which example image is asked about: a whale and a sailboat."""

TURNS = (("English", "What is on the right?"), ("Japanese", "これは何ですか？"))
"""Language and question of each turn."""

TYPED_AT_ONCE, TYPING_MS, READING_MS, LAST_MS = 3, 90, 1_100, 3_000


class Recording:
    """Frames of a page, each with the milliseconds for which it stays."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._frames: list[Image.Image] = []
        self._durations: list[int] = []

    def add(self, milliseconds: int) -> None:
        """Take one; a frame that equals the last one makes that one stay longer."""
        image = Image.open(io.BytesIO(self._page.screenshot())).convert("RGB")
        image.thumbnail((WIDTH, image.height), Image.Resampling.LANCZOS)
        if self._frames and image.tobytes() == self._frames[-1].tobytes():
            self._durations[-1] += milliseconds
        else:
            self._frames.append(image)
            self._durations.append(milliseconds)

    def save(self, file: Path) -> None:
        """Write the animation, which runs for ever."""
        first, *others = self._frames
        first.save(file, save_all=True, append_images=others, duration=self._durations, loop=0, quality=70, method=6)


def main() -> None:
    """Start a server, record a conversation, and save it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recording", description=__doc__)
    parser.add_argument("--output", type=Path, default=RECORDING)
    parser.add_argument("--port", type=int, default=7898)
    args = parser.parse_args()
    settings.prepare_libraries()
    from blip_space.apps import server  # imports Gradio, after its environment is prepared

    running = server.launch(ThreadedEngine([catalogue.find_model("tiny")]), host="127.0.0.1", port=args.port)
    try:
        record(running.url, args.output)
    finally:
        running.close()
    size = args.output.stat().st_size
    print(f"{args.output.name}: {size / 1e6:.2f} MB")
    if size > MAX_BYTES:
        raise SystemExit(f"{args.output} is larger than {MAX_BYTES / 1e6:.0f} MB.")


def record(url: str, output: Path) -> None:
    """Run the conversation in a browser and save its frames."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]}, color_scheme="light")
        page.goto(url)
        expect(page.locator("#chip")).to_contain_text("ready", timeout=60_000)
        page.locator("#cards button").first.wait_for()
        recording = Recording(page)
        recording.add(READING_MS)
        page.locator("#cards button").nth(EXAMPLE).click()
        page.locator("#chat [data-testid=bot]").wait_for()
        page.locator("#ask").wait_for()
        recording.add(READING_MS)
        for language, question in TURNS:
            choose_language(page, language)
            _ask(page, question, recording)
        recording.add(LAST_MS)
        recording.save(output)
        browser.close()


def _ask(page: Page, question: str, recording: Recording) -> None:
    """Type the question, a frame for every few characters, and record the answer while it comes."""
    for end in range(0, len(question) + TYPED_AT_ONCE, TYPED_AT_ONCE):
        page.fill("#question textarea", question[:end])
        recording.add(TYPING_MS)
    page.press("#question textarea", "Enter")
    expect(page.locator("#chat [data-testid=user]").last).to_have_text(question)
    while not page.locator("#ask").is_visible():
        recording.add(TYPING_MS)
    recording.add(READING_MS)


if __name__ == "__main__":
    main()
