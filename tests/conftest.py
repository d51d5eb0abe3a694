"""The browser of all tests, since a process can have one of Playwright's synchronous drivers only, and the division of
the tests between two processes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TOGETHER = ("tests/training", "tests/apps/cluster")
"""Folders whose tests share downloads or a cluster, so that one process runs them all; the slowest."""

BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For `pytest -n 2`: the tests of a file, or of a folder in `TOGETHER`, run in one process."""
    from xdist.scheduler import LoadScopeScheduling  # what divides the tests has it, if anything does

    class FileScheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return next((folder for folder in TOGETHER if nodeid.startswith(folder)), nodeid.partition("::")[0])

    return FileScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest first, so that no process is left waiting for them at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(TOGETHER))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Without it these tests are skipped; in CI they fail."""
    from playwright.sync_api import sync_playwright  # a machine for other tests may lack it

    chromium = shutil.which("chromium")
    if chromium is None:
        message = "no chromium: on Debian, `apt-get install chromium`"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=BROWSER_FLAGS)
        yield browser
        browser.close()
