"""Laws of the Batch tab, in a real browser: the table grows, can be cancelled, and is downloaded."""

from __future__ import annotations

import csv
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from blip_space.apps.server import MAX_STORED_BYTES
from tests.apps.browser import ask, ask_and_wait, contrast, english, note, replies, upload, wait_for
from tests.apps.fake_engine import FakeEngine
from tests.apps.test_batch import CAPTION
from tests.example_images import blue_circles, write_zip

DROP = """(node, bytes) => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File(["%PDF-1.7"], "a.pdf", {type: "application/pdf"}));
    dataTransfer.items.add(new File([new Uint8Array(bytes)], "second.png", {type: "image/png"}));
    node.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true, cancelable: true}));
}"""


def rows(page: Page) -> Locator:
    return page.locator("#batch-table tbody tr")


def start_batch(page: Page, *files: Path, prompt: str = "") -> None:
    """Open the tab, choose files, type the prompt (only now is the tab surely ready) and click the button."""
    page.get_by_role("tab", name=english("batch_tab")).click()
    page.set_input_files("#batch-files input[type=file]", files)
    expect(page.locator("#batch-files .file")).to_have_count(len(files))
    page.fill("#batch-prompt textarea", prompt)
    page.click("#batch-start")


def download(page: Page, name: str, folder: Path) -> Path:
    """Download the file of a button."""
    with page.expect_download() as event:
        page.locator("#batch-downloads").get_by_text(name, exact=True).click()
    file = folder / event.value.suggested_filename
    event.value.save_as(file)
    return file


def progress(page: Page) -> Locator:
    return page.locator("#batch-right .batch")


def test_the_table_grows_while_the_batch_runs_and_is_downloaded(page: Page, engine: FakeEngine, tmp_path: Path) -> None:
    engine.hold(after=3)
    (tmp_path / "own.png").write_bytes(blue_circles(size=(50, 200)))
    start_batch(page, write_zip(tmp_path / "x.zip", 12, **{"notes.txt": b"<b>hello</b>"}), tmp_path / "own.png")
    expect(rows(page)).to_have_count(3)
    expect(rows(page).nth(2)).to_contain_text("2.png")
    expect(rows(page).nth(2)).to_contain_text(CAPTION.format(420))
    expect(progress(page)).to_contain_text(re.compile(r"3 of 14, [\d.]+ [a-z/ ]+, \d+ (s|min) left"))
    expect(page.locator("#batch-downloads")).not_to_contain_text("JSON")
    engine.release()
    expect(progress(page)).to_have_text("Done: 14 of 14, 1 with an error")
    expect(progress(page).locator("progress")).to_have_attribute("value", "14")
    expect(rows(page)).to_have_count(14)
    expect(page.locator("#batch-table .error")).to_contain_text("that can be read")
    records = json.loads(download(page, "JSON", tmp_path).read_text("utf-8"))
    assert [record["file"] for record in records] == [
        *(f"{number}.png" for number in range(12)),
        "notes.txt",
        "own.png",
    ]
    lines = download(page, "JSONL", tmp_path).read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == records
    with download(page, "CSV", tmp_path).open(encoding="utf-8-sig", newline="") as file:
        assert [row["caption"] for row in csv.DictReader(file)] == [record["caption"] or "" for record in records]
    with zipfile.ZipFile(download(page, "TXT (zip)", tmp_path)) as texts:
        assert len(texts.namelist()) == 13
        assert texts.read("11.txt").decode() == CAPTION.format(510)


def test_cancel_keeps_finished_captions_and_another_batch_may_start(
    page: Page, engine: FakeEngine, zip_file: Path, tmp_path: Path
) -> None:
    engine.hold(after=3)
    start_batch(page, zip_file)
    expect(rows(page)).to_have_count(3)
    page.click("#batch-cancel")
    expect(progress(page)).to_have_text("Cancelled: 3 of 20")
    expect(rows(page)).to_have_count(3)
    wait_for(page, lambda: all(answer.done for answer in engine.responses))
    records = json.loads(download(page, "JSON", tmp_path).read_text("utf-8"))
    assert [record["caption"] for record in records] == [CAPTION.format(400 + 10 * number) for number in range(3)]
    engine.release()
    page.click("#batch-start")
    expect(progress(page)).to_have_text("Done: 20 of 20")
    expect(rows(page)).to_have_count(20)


def test_a_chat_runs_beside_a_batch(page: Page, engine: FakeEngine, zip_file: Path, image_file: Path) -> None:
    engine.hold(after=3)
    start_batch(page, zip_file)
    expect(rows(page)).to_have_count(3)
    page.get_by_role("tab", name=english("chat_tab")).click()
    upload(page, image_file)
    ask(page, "one two three")
    expect(replies(page)).to_have_text("one")
    engine.release()
    expect(replies(page)).to_have_text("one two three")
    ask_and_wait(page, "and then?")
    page.get_by_role("tab", name=english("batch_tab")).click()
    expect(progress(page)).to_have_text("Done: 20 of 20")
    expect(rows(page)).to_have_count(20)


def test_a_batch_that_fails_to_start_shows_an_error_until_the_next_one_starts(
    page: Page, tmp_path: Path, image_file: Path
) -> None:
    (tmp_path / "no.zip").write_text("no zip")
    start_batch(page, tmp_path / "no.zip")
    expect(note(page, "batch")).to_contain_text("no.zip is not a zip that can be read")
    expect(page.locator("#batch-start")).to_be_visible()
    expect(page.locator("#batch-cancel")).to_be_hidden()
    page.locator("#batch-files .top-panel button").last.click()
    page.set_input_files("#batch-files input[type=file]", image_file)
    page.click("#batch-start")
    expect(rows(page)).to_have_count(1)
    expect(note(page, "batch")).to_have_count(0)


def test_leaving_the_page_cancels_the_batch(page: Page, engine: FakeEngine, zip_file: Path) -> None:
    engine.hold()
    start_batch(page, zip_file)
    wait_for(page, lambda: bool(engine.responses))
    page.reload()
    wait_for(page, lambda: all(answer.done for answer in engine.responses))


def test_captions_are_shown_literally_and_in_their_own_direction(page: Page, tmp_path: Path) -> None:
    files = write_zip(tmp_path / "x.zip", 1, **{"<i>.png": blue_circles(1)})
    start_batch(page, files, prompt="ماذا ترى <b>هنا</b> ${1} {{2}}؟")
    caption = rows(page).nth(1).locator("td").nth(1)
    expect(caption).to_have_text("ماذا ترى <b>هنا</b> ${1} {{2}}؟")
    expect(rows(page).nth(1).locator("td").first).to_have_text("<i>.png")
    assert caption.evaluate("node => getComputedStyle(node).direction") == "rtl"
    assert rows(page).nth(1).locator("td").first.evaluate("node => getComputedStyle(node).direction") == "ltr"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_table_fits_a_phone_and_has_enough_contrast(
    browser: Browser, url: str, tmp_path: Path, scheme: Any
) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True, color_scheme=scheme)
    page.goto(url)
    start_batch(page, write_zip(tmp_path / "x.zip", 6, **{"a-long-name" * 12 + ".txt": b"not an image"}))
    expect(progress(page)).to_have_text("Done: 7 of 7, 1 with an error")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    table = page.locator("#batch-table")
    assert table.evaluate("node => node.scrollWidth <= node.clientWidth")
    selectors = (
        "[role=tab].selected",
        "#batch-table td",
        "#batch-table th",
        "#batch-table .error td",
        "#batch-right p",
    )
    for selector in (*selectors, ".limits", "#batch-start"):
        assert contrast(page.locator(selector).last) >= 4.5, selector
    page.close()


def test_files_that_cannot_be_taken_are_named_and_the_others_are_captioned(page: Page, tmp_path: Path) -> None:
    """Chosen, then dropped: one of another kind or size does not keep the images out."""
    page.get_by_role("tab", name=english("batch_tab")).click()
    (tmp_path / "own.png").write_bytes(blue_circles())
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "big.png").write_bytes(b"x" * (MAX_STORED_BYTES + 1))
    page.set_input_files(
        "#batch-files input[type=file]", [tmp_path / name for name in ("notes.txt", "own.png", "big.png")]
    )
    expect(page.locator("#batch-files .file")).to_have_text([re.compile("own")])
    reason, further = english("not_an_image", file="notes.txt"), english("also_left_out", files="big.png")
    expect(note(page, "batch")).to_contain_text(f"{reason} {further}")
    page.click("#batch-start")
    expect(progress(page)).to_have_text("Done: 1 of 1")
    page.reload()
    page.get_by_role("tab", name=english("batch_tab")).click()
    page.locator("#batch-right").evaluate(DROP, list(blue_circles()))
    expect(page.locator("#batch-files .file")).to_have_text([re.compile("second")])
    expect(note(page, "batch")).to_contain_text(english("not_an_image", file="a.pdf"))
