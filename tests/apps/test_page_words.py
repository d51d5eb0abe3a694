"""Laws of the page's words: where a user reads neither English nor Latin script, no word of ours is in either.

What stands in another language by design says so by its `lang`, such as the questions of the examples. Gradio's footer
is Gradio's.
"""

from __future__ import annotations

import io
import itertools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from blip_space import catalogue
from blip_space.apps import error_texts, locales
from blip_space.apps.locales import Locale
from blip_space.apps.page import status_text
from blip_space.catalogue import PRECISIONS
from blip_space.loading.device import Device
from blip_space.loading.precision import select_precision, supported_precisions
from blip_space.reasons import Reason
from blip_space.serving.load_progress import LoadEstimate
from blip_space.serving.protocol import EngineStatus
from blip_space.serving.threaded import ThreadedEngine
from tests.apps.browser import ask, note
from tests.apps.conftest import free_port
from tests.apps.fake_engine import BUSY, FakeEngine
from tests.apps.test_api import wait_until
from tests.example_images import blue_circles

NAMES = frozenset(
    {
        *("blip", "space", "tiny", "parrot", "mBLIP", "python", "app", "py", "model", "mblip", "mt0", "xl"),
        *("fp32", "fp16", "bf16", "cpu", "CPU", "GPU", "cuda", "CUDA", "top", "MB", "GB", "KB"),
        *("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF", "SVG", "PDF", "zip", "png", "jpg", "svg"),
        *("JSON", "JSONL", "CSV", "TXT", "Markdown"),
    }
)
"""The names that stay as they are in every language."""

SHOWN = """(root) => {
    const own = document.documentElement.lang, shown = [];
    const isShown = (node) => node.checkVisibility({ visibilityProperty: true }) && !node.closest("footer, script");
    const isOwn = (node) => node.closest("[lang]").lang === own;
    const texts = document.createTreeWalker(document.querySelector(root), NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const { parentElement, data } = texts.currentNode;
        if (isShown(parentElement) && isOwn(parentElement)) shown.push(data.trim());
    }
    for (const name of ["title", "aria-label", "placeholder", "alt"]) {
        for (const node of document.querySelectorAll(`${root} [${name}]`)) {
            if (isShown(node) && isOwn(node)) shown.push(node.getAttribute(name));
        }
    }
    return shown.filter(Boolean);
}"""
"""The texts that a user sees, and those that a screen reader says."""

JAPANESE: Locale = locales.available()["ja"]


def latin(page: Page, root: str = "body") -> set[str]:
    """The texts of the page that have a Latin word which is no name."""
    texts: list[str] = page.evaluate(SHOWN, root)
    return set(filter(latin_words, texts))


def latin_words(text: str) -> set[str]:
    """The words in Latin script that are no names."""
    return set(re.findall(r"[A-Za-z][A-Za-z0-9]+", text)) - NAMES


@pytest.fixture(scope="module")
def real(_own_uploads: None) -> Iterator[str]:
    """The address of a server with the embedded model, once it is ready."""
    from blip_space.apps import server

    engine = ThreadedEngine([catalogue.find_model("tiny")])
    running = server.launch(engine, host="127.0.0.1", port=free_port())
    wait_until(lambda: engine.status().status == "ready", 60)
    yield running.url.rstrip("/")
    running.close()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Images and other files, with names in Japanese."""
    noise, packed = io.BytesIO(), io.BytesIO()
    Image.effect_noise((300, 200), 80).convert("RGB").save(noise, "JPEG")
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("二.png", blue_circles(2))
        archive.writestr("中.zip", b"")
        archive.writestr("../外.png", b"")
        archive.writestr("長" * 220 + ".png", b"")
        archive.writestr(zipfile.ZipInfo("圧縮.png"), b"", compress_type=zipfile.ZIP_BZIP2)
    contents = {
        "円.png": blue_circles(),
        "同じ.png": blue_circles(),
        "雑音.jpg": noise.getvalue(),
        "図.svg": b"<svg></svg>",
        "切れた.jpg": noise.getvalue()[:300],
        "文.png": "文章".encode(),
        "文書.png": b"%PDF-1.4",
        "空.png": b"",
        "大きい.png": blue_circles(1, size=(40_000, 2)),
        "束.zip": packed.getvalue(),
        "偽.zip": "文章".encode(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in contents}


@pytest.fixture
def japanese_page(browser: Browser, real: str) -> Iterator[Page]:
    context = browser.new_context(locale="ja-JP", viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(real)
    page.locator("#budget .budget").wait_for(state="attached")
    expect(page.locator("#language input")).to_have_value(re.compile("^日本語"))
    yield page
    context.close()


def test_a_conversation_has_no_english_word_for_a_japanese_user(japanese_page: Page, files: dict[str, Path]) -> None:
    page = japanese_page
    assert latin(page) == set()
    for opener in ("#chip", "#settings > button", "#more-settings > button", "#page-language summary"):
        page.click(opener)
        assert latin(page) == set(), opener
    expect(page.locator("#status-details small").first).to_have_text(JAPANESE.text("reason_small"))
    expect(page.locator("#about")).to_contain_text("絵 (287)")
    page.click("#page-language summary")
    for prompt, name in (("", "error_no_image"), ("長" * 20_000, "error_prompt_too_long")):
        ask(page, prompt)
        expect(note(page, "box")).to_contain_text(JAPANESE.text(name)[:5])
        page.set_input_files("#picture input[type=file]", files["円.png"])
        page.locator("#picture img").wait_for()
        assert latin(page) == set(), name
    ask(page, "何ですか？")
    expect(page.locator("#chat [data-testid=bot]").last).to_contain_text("円")
    page.locator("#chat summary").last.click()
    assert latin(page) == set()
    page.click("#compare > button")
    page.click("#compare-ask")
    expect(page.locator("#compare-second [data-testid=bot]")).to_contain_text("円")
    assert latin(page) == set()
    for name in ("図.svg", "切れた.jpg", "文.png", "空.png", "大きい.png"):
        page.set_input_files("#picture input[type=file]", files[name])
        expect(note(page, "frame")).to_be_visible()
        assert latin(page) == set(), name
    page.set_input_files("#picture input[type=file]", files["雑音.jpg"])
    page.locator("#picture img").wait_for()
    ask(page, "何ですか？")
    expect(page.locator("#chat .hint")).to_contain_text("tiny が認識できるのは")
    assert latin(page) == set()


def test_kept_conversations_and_their_files_have_no_english_word(japanese_page: Page, files: dict[str, Path]) -> None:
    page = japanese_page
    page.set_input_files("#picture input[type=file]", files["円.png"])
    page.locator("#picture img").wait_for()
    page.click("#ask")
    expect(page.locator("#chat [data-testid=bot]").last).to_contain_text("円")
    expect(page.locator("#ask")).to_be_visible()
    page.click("#kept-list")
    page.locator("#kept-items").get_by_text(JAPANESE.text("kept_more")).click()
    assert latin(page) == set()
    saved = {}
    for form in ("markdown", "html"):
        with page.expect_download() as download:
            page.locator("#kept-items").get_by_text(JAPANESE.text(f"kept_export_{form}")).click()
        saved[form] = download.value.path().read_text("utf-8")
    request, image = JAPANESE.text("caption_request"), JAPANESE.text("kept_export_image").partition("{")[0]
    assert saved["markdown"].startswith(f"# 三つの青い円\n\n{image}円.png")
    assert f"\n> {request}\n" in saved["markdown"]
    assert '<html lang="ja" dir="ltr">' in saved["html"]
    assert f">{request}</p>" in saved["html"]


def test_the_errors_of_a_batch_are_in_the_users_language(japanese_page: Page, files: dict[str, Path]) -> None:
    page = japanese_page
    page.get_by_role("tab", name=JAPANESE.text("batch_tab")).click()
    assert latin(page) == set()
    page.set_input_files("#batch-files input[type=file]", [file for name, file in files.items() if name != "偽.zip"])
    expect(page.locator("#batch-files .file")).to_have_count(10)
    page.click("#batch-start")
    expect(page.locator("#batch-right .batch")).to_have_text(re.compile("^完了|^終了"))
    rows = page.locator("#batch-table tbody tr")
    expect(rows).to_have_count(14)
    errors = page.locator("#batch-table .error td:last-child").all_text_contents()
    details = ("format", "damaged", "empty", "nested_zip", "unsafe_name", "long_name", "compression")
    keys = ["error_unreadable_image", "error_too_large", *(f"error_unreadable_image_{detail}" for detail in details)]
    said = {JAPANESE.text(key, format=name) for key in keys for name in ("SVG", "PDF")}
    assert set(errors) == said
    assert latin(page) == set()
    page.locator("#batch-files button").last.click()


def test_a_zip_that_is_none_is_named_in_the_users_language(japanese_page: Page, files: dict[str, Path]) -> None:
    japanese_page.get_by_role("tab", name=JAPANESE.text("batch_tab")).click()
    japanese_page.set_input_files("#batch-files input[type=file]", files["偽.zip"])
    expect(japanese_page.locator("#batch-files .file")).to_have_count(1)
    japanese_page.click("#batch-start")
    expect(note(japanese_page, "batch")).to_contain_text(JAPANESE.text("error_invalid_value_zip", file="偽.zip"))
    assert latin(japanese_page) == set()


STATES: dict[str, EngineStatus] = {
    "starting": EngineStatus("loading", "parrot", "fp32", "", 0, 0),
    "downloading": EngineStatus(
        *("loading", "parrot", "fp32", "", 0, 0),
        load_progress=LoadEstimate(0.25, "downloading, 4 min left", 240.0, "download", 5_000_000_000, 20_000_000_000),
    ),
    "loading": EngineStatus(
        *("loading", "parrot", "fp32", "", 0, 0),
        load_progress=LoadEstimate(0.25, "loading its weights", 30.0, "load", 1, 4),
    ),
    "failed": EngineStatus("failed", "parrot", "fp32", "", 0, 0, error="The model cannot be found."),
    "several": EngineStatus(
        *("ready", "parrot", "bf16", "cuda:0", 2, 1),
        reason=Reason.joined(
            [Reason("2 of 3 replicas are ready", "replicas", ready=2, total=3), "replica 1: it failed"]
        ),
        decode="eager",
        decode_reason="off: it is a parrot",
    ),
}


@pytest.fixture(params=["ar", "hi", "ja", "ko", "ru", "zh-Hans", "zh-Hant"])
def locale(request: pytest.FixtureRequest) -> Iterator[Locale]:
    """A language in another script, which the user of this test reads."""
    locale = locales.available()[request.param]
    token = locales.current_locale.set(locale)
    yield locale
    locales.current_locale.reset(token)


@pytest.mark.usefixtures("locale")
@pytest.mark.parametrize("state", STATES)
def test_what_the_engine_reports_is_in_the_users_language(state: str) -> None:
    status = STATES[state]
    shown = re.sub("<[^>]*>", " ", status_text.status_line(status) + status_text.status_details(status))
    assert latin_words(shown) == set()
    assert re.search(r"[^\W\d_A-Za-z]", shown)


@pytest.mark.usefixtures("locale")
@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("precision", ["auto", *PRECISIONS])
def test_the_reason_of_a_precision_is_in_the_users_language(device: str, precision: str) -> None:
    for spec in map(catalogue.find_model, ("tiny", "mblip-mt0-xl", "blip2-opt-2.7b")):
        for has_bf16, free in itertools.product([True, False], [None, 5_000_000_000]):
            chosen = Device(device, "", has_bf16=has_bf16)
            if precision in ("auto", *supported_precisions(spec, chosen)):
                reason = select_precision(precision, spec, chosen, free=free).reason
                explained = error_texts.explain(reason)
                assert explained, reason
                assert latin_words(explained) == set()


def test_loading_and_a_full_queue_are_said_in_arabic(
    browser: Browser, url: str, engine: FakeEngine, web: httpx.Client, image_file: Path
) -> None:
    engine.set_status(status="loading", load_progress=STATES["downloading"].load_progress)
    page = browser.new_page(locale="ar")
    page.goto(url)
    expect(page.locator("#status")).to_contain_text("المتبقي 4 د")
    assert latin(page, "#status") == set()
    assert web.get("/healthz").json()["progress"]["sentence"] == "downloading, 4 min left"
    engine.set_status(status="ready")
    page.set_input_files("#picture input[type=file]", image_file)
    page.locator("#picture img").wait_for()
    ask(page, BUSY)
    expect(note(page, "box")).to_contain_text(locales.available()["ar"].text("error_busy"))
    assert latin(page, "#notes") == set()
    page.close()
