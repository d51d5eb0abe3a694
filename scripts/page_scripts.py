"""`python -m scripts.page_scripts`: list the scripts of Gradio that the page loads, in assets/page/gradio_scripts.json.

Gradio's page finds out in four steps which of its scripts it needs. With this list the page asks for all at once. To
be run after an upgrade of Gradio, whose names of files change. Needs Debian's chromium.
"""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from urllib.parse import urlsplit

from playwright.sync_api import Page, sync_playwright

from benchmarks.load import server
from blip_space.apps.page import static


def main() -> None:
    """Start a server, open its page, and write the list."""
    with server.running(["--model", "tiny"]) as ours, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        scripts = loaded(browser.new_page(), ours.url)
        browser.close()
    listing = {"gradio": version("gradio"), "scripts": scripts}
    static.GRADIO_SCRIPTS.write_text(json.dumps(listing, indent=1) + "\n", "utf-8")
    print(f"{static.GRADIO_SCRIPTS.name} lists {len(scripts)} scripts of Gradio {listing['gradio']}.")


def loaded(page: Page, url: str) -> list[str]:
    """The scripts that the page at `url` loads until it can be used, in order, without those that its HTML names."""
    page.add_init_script("performance.setResourceTimingBufferSize(1000)")
    page.goto(url)
    page.locator("#budget .budget").wait_for(state="attached")
    named = set(page.eval_on_selector_all("script[src]", "scripts => scripts.map(({src}) => src)"))
    addresses: list[str] = page.evaluate("performance.getEntriesByType('resource').map(({name}) => name)")
    paths = [urlsplit(address).path for address in addresses if address not in named]
    return list(dict.fromkeys(path for path in paths if path.startswith("/assets/") and path.endswith(".js")))


if __name__ == "__main__":
    main()
