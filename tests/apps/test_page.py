"""The page in a real browser: what a visitor does, and what they then see."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from blip_space.apps.page import strings
from blip_space.apps.server import MAX_UPLOAD_BYTES
from blip_space.serving.load_progress import LoadEstimate
from blip_space.serving.response import ResponseStream
from tests.apps.fake_engine import BLANK, BUSY, POLYGLOT, UNKNOWN_REPLY, FakeEngine
from tests.example_images import blue_circles

WORDS = "one two three four"
BUTTONS = "button:visible:not([aria-hidden=true] *)"
"""What a visitor may press; Gradio measures its tabs by copies that nobody sees."""


def upload(page: Page, picture: Path) -> None:
    """Choose a file, as a click on the picture's place does."""
    page.set_input_files("#picture input[type=file]", picture)
    page.locator("#picture img").wait_for()


def ask(page: Page, words: str) -> None:
    """Type and press Enter."""
    page.fill("#question textarea", words)
    page.press("#question textarea", "Enter")


def answered(page: Page, words: str) -> None:
    """Ask, and see the whole answer, which repeats the question."""
    ask(page, words)
    expect(replies(page).last).to_have_text(words)
    expect(page.locator("#ask")).to_be_visible()


def questions(page: Page) -> Locator:
    return page.locator("#chat [data-testid=user]")


def replies(page: Page) -> Locator:
    return page.locator("#chat [data-testid=bot]")


def box(page: Page) -> Locator:
    return page.locator("#question textarea")


def press(page: Page, name: str) -> None:
    """Press the last button of that name in the conversation."""
    page.locator(f"#chat button[aria-label='{name}']").last.click()


@pytest.fixture
def asked(page: Page, picture: Path) -> Page:
    """A page with a picture, one question and its answer."""
    upload(page, picture)
    answered(page, WORDS)
    return page


def test_an_answer_streams_in_and_the_box_is_free_again(page: Page, picture: Path, engine: FakeEngine) -> None:
    engine.hold()
    upload(page, picture)
    ask(page, WORDS)
    expect(questions(page)).to_have_text(WORDS)
    expect(replies(page)).to_have_text("one")
    expect(page.locator("#stop")).to_be_visible()
    expect(page.locator("#ask")).to_be_hidden()
    engine.release()
    expect(replies(page)).to_have_text(WORDS)
    expect(page.locator("#ask")).to_be_visible()
    expect(box(page)).to_have_value("")
    assert engine.image_sizes[0] == (400, 200)


def test_a_follow_up_tells_the_earlier_turn(asked: Page, engine: FakeEngine) -> None:
    answered(asked, "and then?")
    assert engine.requests[1].turns == ((WORDS, WORDS),)


def test_without_words_a_caption_is_asked_for(page: Page, picture: Path, engine: FakeEngine) -> None:
    upload(page, picture)
    page.click("#ask")
    expect(questions(page)).to_have_text(strings.CAPTION_REQUEST)
    expect(replies(page)).to_have_text("a picture of 400 by 200")
    answered(page, "and then?")
    assert (engine.requests[0].prompt, engine.requests[1].turns[0][0]) == ("", "")


def test_stop_keeps_what_was_written(page: Page, picture: Path, engine: FakeEngine) -> None:
    engine.hold()
    upload(page, picture)
    ask(page, WORDS)
    expect(replies(page)).to_have_text("one")
    page.click("#stop")
    expect(page.locator("#ask")).to_be_visible()
    expect(replies(page)).to_have_text("one")
    wait_for(page, lambda: engine.responses[0].done)
    engine.release()
    answered(page, "again")
    assert engine.requests[1].turns == ((WORDS, "one"),)


def test_a_second_question_waits_for_the_first_answer(page: Page, picture: Path, engine: FakeEngine) -> None:
    engine.hold()
    upload(page, picture)
    ask(page, WORDS)
    expect(replies(page)).to_have_text("one")
    ask(page, "me too")
    expect(toast(page)).to_contain_text(strings.STILL_ANSWERING)
    expect(box(page)).to_have_value("me too")
    engine.release()
    expect(replies(page)).to_have_text([WORDS])


def test_retry_asks_again(asked: Page, engine: FakeEngine) -> None:
    press(asked, "Retry")
    wait_for(asked, lambda: len(engine.requests) == 2)
    expect(asked.locator("#ask")).to_be_visible()
    expect(replies(asked)).to_have_text([WORDS])
    assert engine.requests[1].turns == ()


def test_undo_returns_the_question_to_the_box(asked: Page) -> None:
    answered(asked, "second")
    press(asked, "Undo")
    expect(box(asked)).to_have_value("second")
    expect(questions(asked)).to_have_text([WORDS])
    expect(replies(asked)).to_have_text([WORDS])


def test_an_edited_question_is_asked_in_place_of_the_old_one(asked: Page, engine: FakeEngine) -> None:
    answered(asked, "second")
    asked.locator("#chat button[aria-label='Edit']").first.click()
    asked.locator("#chat textarea").fill("other words")
    press(asked, "Submit")
    expect(replies(asked)).to_have_text(["other words"])
    expect(questions(asked)).to_have_text(["other words"])
    assert engine.requests[2].turns == ()


def test_clear_empties_the_conversation(asked: Page, engine: FakeEngine) -> None:
    press(asked, "Clear")
    expect(questions(asked)).to_have_count(0)
    answered(asked, "anew")
    assert engine.requests[1].turns == ()


def test_clear_stops_a_running_answer(page: Page, picture: Path, engine: FakeEngine) -> None:
    engine.hold()
    upload(page, picture)
    ask(page, WORDS)
    expect(replies(page)).to_have_text("one")
    press(page, "Clear")
    wait_for(page, lambda: engine.responses[0].done)
    expect(page.locator("#ask")).to_be_visible()
    expect(replies(page)).to_have_count(0)


def test_a_message_is_copied_as_it_was_written(page: Page, picture: Path) -> None:
    upload(page, picture)
    answered(page, "is 1 < 2 & <b>bold</b>?")
    press(page, "Copy message")
    wait_for(page, lambda: page.evaluate("navigator.clipboard.readText()") == "is 1 < 2 & <b>bold</b>?")


def test_another_language_is_found_by_typing_and_used(asked: Page, engine: FakeEngine) -> None:
    choose_language(asked, "Deutsch")
    answered(asked, "auf Deutsch")
    assert engine.requests[1].language == "de"


def test_a_language_that_is_not_spoken_is_marked_last_and_answered_with_a_sentence(asked: Page) -> None:
    asked.click("#language input")
    options = asked.locator("#language [role=option]").all_inner_texts()
    assert len(options) == 96
    marked = [place for place, text in enumerate(options) if "(not spoken by parrot)" in text]
    assert marked == list(range(8, 96))
    asked.keyboard.press("Escape")
    choose_language(asked, "Kiswahili")
    expect(asked.locator("#budget")).to_contain_text("parrot does not support Swahili")
    ask(asked, "habari")
    expect(toast(asked)).to_contain_text("parrot does not support Swahili")
    expect(box(asked)).to_have_value("habari")


def test_another_model_speaks_its_own_languages(asked: Page, engine: FakeEngine) -> None:
    asked.click("#model input")
    asked.locator("#model [role=option]", has_text="polyglot").click()
    asked.click("#language input")
    expect(asked.locator("#language [role=option]", has_text="not spoken")).to_have_count(0)
    asked.keyboard.press("Escape")
    answered(asked, "hello polyglot")
    assert engine.requests[1].model == "polyglot"


def test_a_new_picture_starts_a_new_conversation(asked: Page, engine: FakeEngine) -> None:
    asked.locator("#examples button").first.click()
    expect(questions(asked)).to_have_count(0)
    expect(box(asked)).not_to_have_value("")
    answered(asked, "hello")
    assert engine.requests[1].turns == ()
    assert engine.requests[1].image.digest != engine.requests[0].image.digest


def test_a_new_picture_stops_the_answer_about_the_old_one(page: Page, picture: Path, engine: FakeEngine) -> None:
    engine.hold()
    upload(page, picture)
    ask(page, WORDS)
    expect(replies(page)).to_have_text("one")
    page.locator("#examples button").first.click()
    wait_for(page, lambda: engine.responses[0].done)
    expect(questions(page)).to_have_count(0)
    expect(page.locator("#ask")).to_be_visible()


def test_a_reload_stops_the_answer_and_keeps_language_and_settings(asked: Page, engine: FakeEngine) -> None:
    choose_language(asked, "Deutsch")
    asked.click("#settings button")
    asked.get_by_label(strings.SETTINGS["seed"][0]).fill("7")
    asked.keyboard.press("Tab")
    engine.hold()
    ask(asked, "eins zwei")
    expect(replies(asked).last).to_have_text("eins")
    asked.reload()
    wait_for(asked, lambda: engine.responses[1].done)
    expect(asked.locator("#language input")).to_have_value(re.compile("Deutsch"))
    expect(questions(asked)).to_have_count(0)
    expect(asked.locator("#picture img")).to_have_count(0)
    asked.click("#settings button")
    expect(asked.get_by_label(strings.SETTINGS["seed"][0])).to_have_value("7")


def test_an_error_puts_the_question_back_in_the_box(asked: Page) -> None:
    ask(asked, BUSY)
    expect(toast(asked)).to_contain_text("The server is busy")
    expect(box(asked)).to_have_value(BUSY)
    expect(questions(asked)).to_have_text([WORDS])
    expect(asked.locator("#ask")).to_be_visible()


def test_an_answer_of_nothing_is_told_and_leaves_no_empty_turn(asked: Page) -> None:
    ask(asked, BLANK)
    expect(toast(asked)).to_contain_text("The model returned an empty answer for this image. Rephrase the prompt")
    expect(box(asked)).to_have_value(BLANK)
    expect(questions(asked)).to_have_text([WORDS])
    expect(replies(asked)).to_have_count(1)


def test_a_question_that_is_given_up_in_line_leaves_no_empty_turn(
    asked: Page, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stood for its reply said how many were before it, and was taken for a reply."""
    engine.hold()
    monkeypatch.setattr(ResponseStream, "publish", lambda *_: None)
    ask(asked, "is it my turn")
    wait_for(asked, lambda: len(engine.responses) == 2)
    engine.responses[1].queue_position = lambda: 3
    expect(replies(asked).last).to_have_text("… (3 before you)")
    asked.click("#stop")
    expect(box(asked)).to_have_value("is it my turn")
    expect(questions(asked)).to_have_text([WORDS])


def test_without_a_picture_the_question_stays_and_a_sentence_says_why(page: Page) -> None:
    ask(page, WORDS)
    expect(toast(page)).to_contain_text("There is no picture yet")
    expect(box(page)).to_have_value(WORDS)


def test_a_file_that_is_no_picture_is_told_when_it_is_chosen(page: Page, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("I am a text")
    page.set_input_files("#picture input[type=file]", tmp_path / "text.png")
    expect(toast(page)).to_contain_text("not a picture that can be read")


def test_a_file_over_20_megabytes_is_told_when_it_is_chosen(page: Page, tmp_path: Path) -> None:
    (tmp_path / "big.png").write_bytes(b"x" * (MAX_UPLOAD_BYTES + 1))
    page.set_input_files("#picture input[type=file]", tmp_path / "big.png")
    expect(toast(page)).to_contain_text("maximum allowed size of 20.0 M")


def test_words_read_literally(page: Page, picture: Path) -> None:
    words = "<b>bold</b> <script>x</script> &lt; $x$ *a* **b** # c `d` http://a.example [l](m) ~~s~~ 1. <!-- n -->"
    upload(page, picture)
    answered(page, words)
    expect(questions(page)).to_have_text(words)
    for message in (questions(page), replies(page)):
        assert message.evaluate("node => node.querySelectorAll('b, script, em, code, a, h1, del, .katex').length") == 0


def test_each_message_runs_in_its_own_direction(page: Page, picture: Path) -> None:
    upload(page, picture)
    answered(page, "ماذا ترى؟ one")
    answered(page, "What do you see? ماذا")
    first_is_right = """node => {
        const words = node.querySelector('.md').firstChild, range = document.createRange();
        const at = (place) => { range.setStart(words, place); range.setEnd(words, place + 1);
                                return range.getBoundingClientRect().x; };
        return at(0) > at(words.length - 1);
    }"""
    assert [replies(page).nth(number).evaluate(first_is_right) for number in (0, 1)] == [True, False]
    assert box(page).evaluate("node => getComputedStyle(node).unicodeBidi") == "plaintext"


def test_the_budget_follows_the_typing_and_says_what_no_longer_fits(asked: Page) -> None:
    line = asked.locator("#budget")
    expect(line).to_contain_text("of 64 tokens")
    before = line.inner_text()
    asked.fill("#question textarea", "what is it?")
    expect(line).not_to_have_text(before)
    for number in range(2):
        answered(asked, f"{number} " * 11 + "more?")
    asked.fill("#question textarea", "what is it? " * 3)
    expect(line).to_contain_text(re.compile("tokens, the (oldest turn|2 oldest turns) no longer fits?"))


def test_how_far_a_download_is_is_drawn_and_told(page: Page, engine: FakeEngine, web: httpx.Client) -> None:
    engine.set_status(
        status="loading", load_progress=LoadEstimate(0.25, "downloading, 5.00 of 20.00 GB, 4 min left", 240.0)
    )
    page.reload()
    bar = page.locator("#status progress")
    expect(bar).to_have_attribute("value", "0.250")
    expect(page.locator("#status")).to_contain_text("downloading, 5.00 of 20.00 GB, 4 min left")
    assert web.get("/healthz").json()["progress"]["seconds_left"] == 240.0


def test_a_loading_model_is_told_and_the_page_wakes_when_it_is_ready(page: Page, engine: FakeEngine) -> None:
    expect(page.locator("#status")).to_contain_text("fp32 on cpu")
    engine.set_status(status="loading")
    page.reload()
    expect(page.locator("#status")).to_contain_text("is loading")
    expect(page.locator("#budget")).to_contain_text("of 64 tokens")  # counted without the weights
    engine.set_status(status="ready")
    expect(page.locator("#status")).to_contain_text("fp32 on cpu")
    expect(page.locator("#budget")).to_contain_text("of 64 tokens")


def test_a_model_that_did_not_load_is_told_with_its_reason(page: Page, engine: FakeEngine) -> None:
    engine.set_status(status="failed", error="It is not <here>. Download it.")
    page.reload()
    expect(page.locator("#status")).to_contain_text("It is not <here>. Download it.")


def test_the_page_says_what_the_model_knows_how_to_switch_and_what_is_kept(page: Page) -> None:
    about = page.locator("#about")
    expect(about).to_contain_text("Repeats what you say.")
    expect(about).to_contain_text("python app.py --model mblip-mt0-xl")
    expect(about).to_contain_text("Pictures are deleted after a day at most.")
    expect(about).to_contain_text("Neither pictures nor words are logged")


def test_who_shows_a_picture_that_the_model_does_not_know_hears_which_model_would(asked: Page) -> None:
    hint = asked.get_by_text(strings.unknown_image("parrot", [POLYGLOT.name]))
    expect(hint).to_have_count(0)
    answered(asked, UNKNOWN_REPLY)
    expect(hint).to_be_visible()


def test_on_a_phone_everything_fits_and_works(browser: Browser, url: str, picture: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True)
    page.goto(url)
    upload(page, picture)
    answered(page, "a rather long question that has to wrap on a narrow screen, and " + "x" * 60)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    left, right = page.locator("#left").bounding_box(), page.locator("#right").bounding_box()
    assert left is not None
    assert right is not None
    assert left["y"] + left["height"] <= right["y"]
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_in_light_and_dark(browser: Browser, url: str, picture: Path, scheme: Any) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(url)
    upload(page, picture)
    answered(page, WORDS)
    for part in ("#about p", "#budget p", "header p", "#chat .user .md", "#chat .bot .md", "#ask", ".status small"):
        assert contrast(page.locator(part).first) >= 4.5, part
    assert is_dark(page) == (scheme == "dark")
    page.close()


def test_no_other_host_is_ever_asked(browser: Browser, url: str, picture: Path) -> None:
    page = browser.new_page()
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]) if "//" in request.url else None)
    page.goto(url)
    upload(page, picture)
    answered(page, WORDS)
    page.locator("footer button").first.click()
    page.wait_for_url(re.compile("view=api"))
    assert {host for host in hosts if host} == {url.removeprefix("http://")}
    page.close()


def test_every_visible_button_may_be_pressed(asked: Page, picture: Path) -> None:
    """Each kind of button of the page as it stands after one answer, the page set up anew in between."""
    names = dict.fromkeys(visible_buttons(asked))
    assert len(names) > 12
    for name in names:
        asked.locator(BUTTONS).nth(visible_buttons(asked).index(name)).click()
        asked.goto(asked.url.split("?")[0])
        upload(asked, picture)
        answered(asked, WORDS)


def test_the_webcam_gives_a_picture(page: Page, engine: FakeEngine) -> None:
    page.locator("#picture [aria-label='Capture from camera']").click()
    page.locator("#picture button", has_text=re.compile("access", re.I)).click()
    page.wait_for_function("document.querySelector('#picture video')?.readyState > 2")
    page.locator("#picture [aria-label='capture photo']").click()
    page.locator("#picture img:visible").wait_for()
    answered(page, WORDS)
    assert engine.image_sizes[0][0] > 1


def test_a_picture_can_be_pasted(page: Page, engine: FakeEngine) -> None:
    copy = """bytes => navigator.clipboard.write([
        new ClipboardItem({"image/png": new Blob([new Uint8Array(bytes)], {type: "image/png"})})])"""
    page.bring_to_front()
    page.evaluate(copy, list(blue_circles(2)))
    page.locator("#picture [aria-label='Paste from clipboard']").click()
    page.locator("#picture img").wait_for()
    answered(page, WORDS)
    assert engine.image_sizes[0] == (400, 200)


def test_a_picture_can_be_dropped(page: Page, engine: FakeEngine) -> None:
    drop = """(node, bytes) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"}));
        node.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
    }"""
    page.locator("#picture .upload-container button").first.evaluate(drop, list(blue_circles(2)))
    page.locator("#picture img").wait_for()
    answered(page, WORDS)
    assert engine.image_sizes[0] == (400, 200)


def choose_language(page: Page, name: str) -> None:
    """Type a name into the list of languages and take the first that is left."""
    page.click("#language input")
    page.press("#language input", "Control+A")
    page.type("#language input", name)
    expect(page.locator("#language [role=option]").first).to_contain_text(name)
    page.press("#language input", "ArrowDown")
    page.press("#language input", "Enter")
    expect(page.locator("#language [role=option]")).to_have_count(0)


def toast(page: Page) -> Locator:
    return page.locator("[data-testid=toast-body]").last


def visible_buttons(page: Page) -> list[str]:
    """The names of the buttons that a visitor sees now."""
    seen = "buttons => buttons.map(button => button.ariaLabel || button.innerText)"
    return list(page.locator(BUTTONS).evaluate_all(seen))


def wait_for(page: Page, condition: Callable[[], bool]) -> None:
    """Let the page go on until the condition holds."""
    for _ in range(500):
        if condition():
            return
        page.wait_for_timeout(20)
    raise AssertionError("it never came true")


def is_dark(page: Page) -> bool:
    return bool(page.evaluate("document.body.classList.contains('dark')"))


def contrast(part: Locator) -> float:
    """The WCAG ratio between the words and the nearest colour behind them."""
    return float(
        part.evaluate(
            """node => {
        const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
        const light = (colour) => colour.slice(0, 3).map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const front = light(rgb(getComputedStyle(node).color));
        let behind = node;
        while (behind && (rgb(getComputedStyle(behind).backgroundColor)[3] ?? 1) < 1) behind = behind.parentElement;
        const back = light(behind ? rgb(getComputedStyle(behind).backgroundColor) : [255, 255, 255]);
        return (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    }"""
        )
    )


def test_what_ends_late_of_a_conversation_that_was_left_does_not_bring_it_back(asked: Page) -> None:
    """The end of a cancelled answer and the clearing of the page come at once, in either order."""
    said = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    settled = "said => window.blipSpace.settle('', said)[1].length"
    assert asked.evaluate(settled, said) == 2
    asked.evaluate("window.blipSpace.leave()")
    assert asked.evaluate(settled, said) == 0
    answered(asked, "three four")
    assert asked.evaluate(settled, said) == 2
