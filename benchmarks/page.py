"""`python -m benchmarks.page`: how soon the page can be used, beside two pages of Gradio's, in one run.

One of these is empty, the other has five components and no event, which is the least that a page of this kind needs.
Opens all in turn, each time in a new browser context. First paint and time to interactive are medians in milliseconds
from the start of the navigation: interactive is when the button to ask (of the empty page: the footer) is there and no
task has blocked the page since. With --screenshots it also saves the page on a phone and a desktop, in light and dark,
in German and Arabic, with axe-core's findings about each. Needs Debian's chromium.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.load import server
from blip_space.apps.page import static

GRADIO = """
import gradio as gr, sys
with gr.Blocks(analytics_enabled=False) as page:
    {components}
page.launch(server_port=int(sys.argv[1]), quiet=True)
"""
EMPTY = GRADIO.format(components="pass")
FIVE = GRADIO.format(
    components="gr.Image(), gr.Chatbot(), gr.Dropdown(['en']), gr.Textbox(), gr.Button('Ask', elem_id='ask')"
)
OBSERVE = """
window.measured = {shift: 0, blocked: 0, shown: 0};
new PerformanceObserver((list) => list.getEntries().forEach((entry) => {
  if (!entry.hadRecentInput) measured.shift += entry.value;
})).observe({type: 'layout-shift', buffered: true});
new PerformanceObserver((list) => list.getEntries().forEach((entry) => {
  measured.blocked = Math.max(measured.blocked, entry.startTime + entry.duration);
})).observe({type: 'longtask', buffered: true});
const look = () => document.querySelector('SELECTOR')?.checkVisibility()
  ? (measured.shown = performance.now()) : requestAnimationFrame(look);
look();
"""
RESULT = """() => ({...measured, paint: performance.getEntriesByName('first-contentful-paint')[0].startTime})"""
AXE = (
    "axe.run(document, {resultTypes: ['violations']})"
    ".then(({violations}) => violations.map(({id, nodes}) => `${id} (${nodes.length})`))"
)
WINDOWS = {"phone": (390, 844), "desktop": (1280, 800)}
SCHEMES = ("light", "dark")
LANGUAGES = ("de", "ar")


def main() -> None:
    """Start both servers, measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--loads", type=int, default=7, help="how often each page is opened (default %(default)s)")
    parser.add_argument("--screenshots", type=Path, help="save screenshots of the page to this folder")
    args = parser.parse_args()
    with (
        server.running(["--model", "tiny"]) as ours,
        _gradio_page(EMPTY) as empty,
        _gradio_page(FIVE) as five,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        pages = {"empty Blocks": (empty, "footer"), "five components": (five, "#ask"), "blip-space": (ours.url, "#ask")}
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in pages}
        for _ in range(args.loads + 1):
            for name, (url, selector) in pages.items():
                rows[name].append(_open(browser, url, selector))
        print(table({name: measured[1:] for name, measured in rows.items()}))  # the first fills caches of the servers
        print(f"\n{own_size()}")
        if args.screenshots:
            _save_screenshots(browser, ours.url, args.screenshots)
        browser.close()


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """The medians of the loads of each page as Markdown, and the times of the last against those of the others."""
    head = "| page | first paint | interactive | layout shift | requests | received |\n|---|--:|--:|--:|--:|--:|"
    medians = {
        name: {key: statistics.median(row[key] for row in measured) for key in measured[0]}
        for name, measured in rows.items()
    }
    lines = [
        f"| {name} | {row['paint']:.0f} ms | {row['interactive']:.0f} ms | {row['shift']:.3f} "
        f"| {row['requests']:.0f} | {row['bytes'] / 1000:.0f} kB |"
        for name, row in medians.items()
    ]
    *others, ours = medians
    for other in others:
        paint, interactive = (medians[ours][key] / medians[other][key] for key in ("paint", "interactive"))
        lines.append(f"| {ours} / {other} | {paint:.2f}× | {interactive:.2f}× | | | |")
    return "\n".join([head, *lines])


def own_size() -> str:
    """The size of the page's own script and style, as they are and as gzip sends them."""
    style = "".join(file.read_text("utf-8") for file in static.styles())
    sizes = {"script": static.script().encode(), "style": style.encode()}
    return ", ".join(
        f"{name} {len(text) / 1000:.1f} kB ({len(gzip.compress(text)) / 1000:.1f} kB compressed)"
        for name, text in sizes.items()
    )


def _open(browser: Browser, url: str, selector: str) -> dict[str, float]:
    """Open a page in a new context, and measure it until the network is idle."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.add_init_script(OBSERVE.replace("SELECTOR", selector))
    received: list[float] = []
    session = context.new_cdp_session(page)
    session.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    session.send("Network.enable")
    page.goto(url, wait_until="load")
    page.wait_for_function("measured.shown")
    page.wait_for_timeout(1500)  # the page's event stream stays open, so that the network is never idle
    result: dict[str, float] = page.evaluate(RESULT)
    context.close()
    result["interactive"] = max(result["shown"], result["blocked"])
    return result | {"requests": len(received), "bytes": sum(received)}


def _save_screenshots(browser: Browser, url: str, folder: Path) -> None:
    """Save the first screen and an answer in each window, scheme and language, and print axe-core's findings."""
    folder.mkdir(parents=True, exist_ok=True)
    axe = (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
    for window, (width, height) in WINDOWS.items():
        for scheme in SCHEMES:
            for language in LANGUAGES:
                context = browser.new_context(
                    viewport={"width": width, "height": height},
                    color_scheme="dark" if scheme == "dark" else "light",
                    locale=language,
                    has_touch=window == "phone",
                )
                page = context.new_page()
                page.goto(url)
                page.locator("#budget .budget").wait_for(state="attached")
                page.evaluate(axe)
                name = f"{window}-{scheme}-{language}"
                _save(page, folder / f"{name}-first.png")
                page.set_input_files("#picture input[type=file]", static.load_examples()[0].file)
                page.locator("#picture img").wait_for()
                page.fill("#question textarea", "?")
                page.press("#question textarea", "Enter")
                page.locator("#chat [data-testid=bot]").first.wait_for()
                page.locator("#ask").wait_for()
                _save(page, folder / f"{name}-answer.png")
                context.close()


def _save(page: Page, file: Path) -> None:
    page.screenshot(path=file)
    findings: list[Any] = page.evaluate(AXE)
    wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    print(f"{file.stem}: {', '.join(findings) or 'no findings'}{', scrolls sideways' if wide else ''}", flush=True)


@contextmanager
def _gradio_page(program: str) -> Iterator[str]:
    """The address of the page that a program serves at the port of its first argument."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([sys.executable, "-c", program, str(port)], stdout=log, stderr=log)
        try:
            _wait(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise SystemExit("Gradio's empty page did not start.")


if __name__ == "__main__":
    main()
