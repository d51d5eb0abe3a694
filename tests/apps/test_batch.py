"""Laws of a batch, by API and on its tab: it fills as it goes, it can be ended, and what is done is kept."""

from __future__ import annotations

import csv
import json
import re
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, Locator, Page, expect

from blip_space.apps.gradio_api import batches
from blip_space.apps.page import strings
from tests.apps.fake_engine import FakeEngine
from tests.apps.test_api import wait_until
from tests.apps.test_bad_input import refusal
from tests.apps.test_page import answered, ask, contrast, replies, toast, upload, wait_for
from tests.example_images import blue_circles

FIELDS = [
    *("file", "digest", "model", "precision", "language", "prompt", "caption", "tokens", "seconds", "error"),
    *("options", "fingerprint", "repeats", "edited"),
]
CAPTION = "a picture of {} by 200"


def packed(file: Path, count: int = 20, **others: bytes) -> Path:
    """A zip of so many pictures, each ten pixels wider than the last, and of other files."""
    with zipfile.ZipFile(file, "w") as made:
        for number in range(count):
            made.writestr(f"{number}.png", blue_circles(2, size=(400 + 10 * number, 200)))
        for name, data in others.items():
            made.writestr(name, data)
    return file


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    """Twenty pictures."""
    return packed(tmp_path / "pictures.zip")


def captions(told: dict[str, Any]) -> list[str]:
    return [record["caption"] for record in told["records"]]


def test_a_list_of_files_is_captioned_in_its_order(client: Client, engine: FakeEngine, tmp_path: Path) -> None:
    files = []
    for number in range(3):
        files.append(tmp_path / f"{number} ä.png")
        files[-1].write_bytes(blue_circles(size=(100 + number, 200)))
    told = client.predict([handle_file(file) for file in files], language="de", api_name="/batch")
    assert captions(told) == [CAPTION.format(100 + number) for number in range(3)]
    assert [record["file"] for record in told["records"]] == [file.name for file in files]
    assert list(told["records"][0]) == FIELDS
    assert all(request.background and request.language == "de" for request in engine.requests)
    assert (engine.requests[0].options.quality, engine.requests[0].options.max_new_tokens) == ("best", 50)


def test_its_words_and_settings_arrive(client: Client, engine: FakeEngine, zipped: Path) -> None:
    told = client.predict(
        handle_file(zipped), "how many?", model="polyglot", quality="stream", max_new_tokens=9, api_name="/batch"
    )
    assert captions(told) == ["how many?"] * 20
    assert {(request.model, request.options.max_new_tokens) for request in engine.requests} == {("polyglot", 9)}


def test_a_zip_streams_its_progress_each_record_once_and_all_at_the_end(
    client: Client, engine: FakeEngine, zipped: Path
) -> None:
    engine.hold(after=3)
    job = client.submit(handle_file(zipped), api_name="/batch")
    wait_until(lambda: sum(len(update["records"]) for update in job.outputs()) == 3)
    engine.release()
    *updates, last = list(job)
    streamed = [record for update in updates for record in update["records"]]
    assert streamed == last["records"][: len(streamed)]
    assert captions(last) == [CAPTION.format(400 + 10 * number) for number in range(20)]
    assert (last["done"], last["total"], last["errors"], last["seconds_left"]) == (20, 20, 0, 0)
    assert last["pictures_per_second"] > 0
    assert updates[0]["total"] == 20


def test_what_is_no_picture_is_a_record_with_a_sentence(client: Client, tmp_path: Path) -> None:
    others = {"notes.txt": b"hello", "../out.png": blue_circles(), "in.zip": b"PK"}
    told = client.predict(handle_file(packed(tmp_path / "x.zip", 1, **others)), api_name="/batch")
    said = {record["file"]: record["error"] for record in told["records"]}
    assert said["0.png"] is None
    assert "not a picture" in said["notes.txt"]
    assert "leads out of the zip" in said["../out.png"]
    assert "not opened" in said["in.zip"]
    assert (told["done"], told["errors"]) == (4, 3)


def test_what_makes_no_batch_is_a_sentence(client: Client, zipped: Path, tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_text("no zip")
    for files, values, part in (
        ([], {}, "no pictures yet"),
        ([handle_file(tmp_path / "no.zip")], {}, "not a zip"),
        ([handle_file(zipped)], {"language": "sw"}, "parrot does not support Swahili"),
        ([handle_file(zipped)], {"model": "gpt"}, "Choose among parrot, polyglot"),
        ([handle_file(zipped)], {"quality": "superb"}, "'stream' or 'best'"),
        ([handle_file(zipped)], {"max_new_tokens": 0}, "from 1 to 512"),
        ([handle_file(zipped)], {"prompt": "word " * 100}, "tokens long"),
    ):
        assert part in refusal(client, files, api_name="/batch", **values)


def test_a_visitor_has_one_batch_at_a_time_and_the_server_a_few(url: str, engine: FakeEngine, zipped: Path) -> None:
    engine.hold()
    jobs, visitors = [], [Client(url, verbose=False) for _ in range(batches.MAX_BATCHES + 1)]
    for visitor in visitors[:-1]:
        jobs.append(visitor.submit(handle_file(zipped), api_name="/batch"))
        wait_until(lambda: jobs[-1].outputs())
    assert batches.ONE_AT_A_TIME in refusal(visitors[0], handle_file(zipped), api_name="/batch")
    assert batches.TOO_MANY_BATCHES in refusal(visitors[-1], handle_file(zipped), api_name="/batch")
    engine.release()
    for job in jobs:
        assert job.result()["done"] == 20
    assert visitors[-1].predict(handle_file(zipped), api_name="/batch")["done"] == 20


def test_cancelling_a_job_frees_the_rows_and_the_visitors_place(
    client: Client, engine: FakeEngine, zipped: Path
) -> None:
    engine.hold()
    job = client.submit(handle_file(zipped), api_name="/batch")
    wait_until(lambda: job.outputs())
    job.cancel()
    wait_until(lambda: all(answer.done for answer in engine.responses))
    engine.release()

    def is_free() -> bool:
        with suppress(AppError):
            return bool(client.predict(handle_file(zipped), api_name="/batch")["done"] == 20)
        return False

    wait_until(is_free)


def rows(page: Page) -> Locator:
    return page.locator("#batch-table tbody tr")


def begin(page: Page, *files: Path, prompt: str = "") -> None:
    """Open the tab, choose files, type the prompt (only now is the tab surely in place) and press the button."""
    page.get_by_role("tab", name=strings.BATCH_TAB).click()
    page.set_input_files("#batch-files input[type=file]", files)
    expect(page.locator("#batch-files .file")).to_have_count(len(files))
    page.fill("#batch-prompt textarea", prompt)
    page.click("#batch-start")


def taken_home(page: Page, name: str, folder: Path) -> Path:
    """The file behind a button."""
    with page.expect_download() as download:
        page.locator("#batch-downloads").get_by_text(name, exact=True).click()
    file = folder / download.value.suggested_filename
    download.value.save_as(file)
    return file


def progress(page: Page) -> Locator:
    return page.locator("#batch-right .batch")


def test_the_table_fills_while_the_batch_runs_and_is_taken_home(page: Page, engine: FakeEngine, tmp_path: Path) -> None:
    engine.hold(after=3)
    (tmp_path / "own.png").write_bytes(blue_circles(size=(50, 200)))
    begin(page, packed(tmp_path / "x.zip", 12, **{"notes.txt": b"<b>hello</b>"}), tmp_path / "own.png")
    expect(rows(page)).to_have_count(3)
    expect(rows(page).nth(2)).to_contain_text("2.png")
    expect(rows(page).nth(2)).to_contain_text(CAPTION.format(420))
    expect(progress(page)).to_contain_text(re.compile(r"3 of 14, [\d.]+ a second, \d+ (s|min) left"))
    expect(page.locator("#batch-downloads")).not_to_contain_text("JSON")
    engine.release()
    expect(progress(page)).to_have_text("Done: 14 of 14, 1 of them with an error")
    expect(progress(page).locator("progress")).to_have_attribute("value", "14")
    expect(rows(page)).to_have_count(14)
    expect(page.locator("#batch-table .error")).to_contain_text("not a picture")
    records = json.loads(taken_home(page, "JSON", tmp_path).read_text("utf-8"))
    assert [record["file"] for record in records] == [
        *(f"{number}.png" for number in range(12)),
        "notes.txt",
        "own.png",
    ]
    lines = taken_home(page, "JSONL", tmp_path).read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == records
    with taken_home(page, "CSV", tmp_path).open(encoding="utf-8-sig", newline="") as file:
        assert [row["caption"] for row in csv.DictReader(file)] == [record["caption"] or "" for record in records]
    with zipfile.ZipFile(taken_home(page, "TXT (zip)", tmp_path)) as texts:
        assert len(texts.namelist()) == 13
        assert texts.read("11.txt").decode() == CAPTION.format(510)


def test_cancel_keeps_what_is_done_and_another_batch_may_begin(
    page: Page, engine: FakeEngine, zipped: Path, tmp_path: Path
) -> None:
    engine.hold(after=3)
    begin(page, zipped)
    expect(rows(page)).to_have_count(3)
    page.click("#batch-cancel")
    expect(progress(page)).to_have_text("Cancelled: 3 of 20")
    expect(rows(page)).to_have_count(3)
    wait_for(page, lambda: all(answer.done for answer in engine.responses))
    records = json.loads(taken_home(page, "JSON", tmp_path).read_text("utf-8"))
    assert [record["caption"] for record in records] == [CAPTION.format(400 + 10 * number) for number in range(3)]
    engine.release()
    page.click("#batch-start")
    expect(progress(page)).to_have_text("Done: 20 of 20")
    expect(rows(page)).to_have_count(20)


def test_a_conversation_goes_on_beside_a_batch(page: Page, engine: FakeEngine, zipped: Path, picture: Path) -> None:
    engine.hold(after=3)
    begin(page, zipped)
    expect(rows(page)).to_have_count(3)
    page.get_by_role("tab", name=strings.CHAT_TAB).click()
    upload(page, picture)
    ask(page, "one two three")
    expect(replies(page)).to_have_text("one")
    engine.release()
    expect(replies(page)).to_have_text("one two three")
    answered(page, "and then?")
    page.get_by_role("tab", name=strings.BATCH_TAB).click()
    expect(progress(page)).to_have_text("Done: 20 of 20")
    expect(rows(page)).to_have_count(20)


def test_a_batch_that_cannot_begin_is_told_and_the_button_is_there_again(page: Page, tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_text("no zip")
    begin(page, tmp_path / "no.zip")
    expect(toast(page)).to_contain_text("no.zip is not a zip that can be read")
    expect(page.locator("#batch-start")).to_be_visible()
    expect(page.locator("#batch-cancel")).to_be_hidden()


def test_leaving_the_page_ends_the_batch(page: Page, engine: FakeEngine, zipped: Path) -> None:
    engine.hold()
    begin(page, zipped)
    wait_for(page, lambda: bool(engine.responses))
    page.reload()
    wait_for(page, lambda: all(answer.done for answer in engine.responses))


def test_captions_read_literally_and_in_their_own_direction(page: Page, tmp_path: Path) -> None:
    files = packed(tmp_path / "x.zip", 1, **{"<i>.png": blue_circles(1)})
    begin(page, files, prompt="ماذا ترى <b>هنا</b> ${1} {{2}}؟")
    caption = rows(page).nth(1).locator("td").nth(1)
    expect(caption).to_have_text("ماذا ترى <b>هنا</b> ${1} {{2}}؟")
    expect(rows(page).nth(1).locator("td").first).to_have_text("<i>.png")
    assert caption.evaluate("node => getComputedStyle(node).direction") == "rtl"
    assert rows(page).nth(1).locator("td").first.evaluate("node => getComputedStyle(node).direction") == "ltr"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_it_fits_and_reads_well_in_light_and_dark(
    browser: Browser, url: str, tmp_path: Path, scheme: Any
) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True, color_scheme=scheme)
    page.goto(url)
    begin(page, packed(tmp_path / "x.zip", 6, **{"a-long-name" * 12 + ".txt": b"no picture"}))
    expect(progress(page)).to_have_text("Done: 7 of 7, 1 of them with an error")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    table = page.locator("#batch-table")
    assert table.evaluate("node => node.scrollWidth <= node.clientWidth")
    parts = ("[role=tab].selected", "#batch-table td", "#batch-table th", "#batch-table .error td", "#batch-right p")
    for part in (*parts, ".bounds", "#batch-start"):
        assert contrast(page.locator(part).last) >= 4.5, part
    page.close()
