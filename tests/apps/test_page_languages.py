"""Laws of the languages of the page: which one a user reads, that each is whole, and what follows from its choice."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import babel
import pytest
from playwright.sync_api import Browser, expect

from blip_space.apps import locales
from blip_space.apps.language_names import code_of_tag
from blip_space.apps.locales import Locale
from tests.apps.browser import ask, ask_and_wait, question_box, upload, wait_for

SAME_AS_ENGLISH = json.loads(Path(__file__).with_name("same_as_english.json").read_text("utf-8"))
"""For each language the keys whose text is rightly the English one, such as `Chat`."""

OTHERS = sorted(set(locales.available()) - {locales.DEFAULT})


def forms(text: locales.Text) -> Mapping[str, str]:
    return {"other": text} if isinstance(text, str) else text


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"\{\w+\}", text))


@pytest.mark.parametrize("tag", OTHERS)
def test_each_language_has_every_text_with_its_values_and_plural_forms(tag: str) -> None:
    """A text may have fewer forms than the language if one form suits all numbers."""
    locale, english = locales.available()[tag], locales.english()
    assert set(locale.texts) == set(english.texts)
    needed = {babel.Locale.parse(tag, sep="-").plural_form(n) for n in range(1_000)}
    for key, text in locale.texts.items():
        wanted = placeholders(forms(english.texts[key])["other"])
        for name, sentence in forms(text).items():
            assert placeholders(sentence) | {"{n}"} == wanted | {"{n}"}, (key, name)
            assert sentence.strip() or key == "list_separator", key
            assert not re.search("[<>&⟦⟧]", sentence), key
        assert isinstance(text, str) or set(text) >= needed, key


@pytest.mark.parametrize("tag", OTHERS)
def test_no_text_is_still_english(tag: str) -> None:
    english = locales.english().texts
    same = {key for key, text in locales.available()[tag].texts.items() if text == english[key]}
    assert same - set(SAME_AS_ENGLISH["*"]) == set(SAME_AS_ENGLISH.get(tag, []))


@pytest.mark.parametrize(
    ("accepted", "tag"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("ar-EG", "ar"),
        ("nb-NO,da;q=0.9,de;q=0.8,en;q=0.7", "de"),
        ("iw,ar;q=0.9", "ar"),
        ("ja-u-ca-japanese", "ja"),
        ("en;q=0.5,ja", "ja"),
        ("xx,*;q=0.1", "en"),
        ("", "en"),
    ],
)
def test_the_page_speaks_the_first_language_of_the_browser_that_it_has(accepted: str, tag: str) -> None:
    assert locales.locale_of({"accept-language": accepted}).tag == tag


def test_a_choice_on_the_page_comes_before_the_browsers_languages() -> None:
    browser = {"accept-language": "ja"}
    assert locales.locale_of({**browser, "cookie": "a=b; blip-space-language=de"}).tag == "de"
    assert locales.locale_of({**browser, "cookie": "blip-space-language=de"}, "language=ar").tag == "ar"
    assert locales.locale_of({**browser, "referer": "https://a.example/?language=ar"}).tag == "ar"
    assert locales.locale_of({**browser, "cookie": "blip-space-language=../de"}, "language=%00").tag == "ja"


def test_plural_forms_are_those_of_the_language() -> None:
    arabic: Locale = locales.available()["ar"]
    assert len({arabic.text("waiting", n=n) for n in (1, 2, 3, 11)}) == 4
    assert locales.available()["de"].text("waiting", n=1234).startswith("1.234 ")


@pytest.mark.parametrize(
    ("tag", "code"),
    [("nb-NO", "no"), ("nn", "no"), ("he", "iw"), ("tl-PH", "fil"), ("zh-TW", "zh"), ("yue", "zh"), ("xx", None)],
)
def test_a_browsers_language_is_found_among_those_of_the_models(tag: str, code: str | None) -> None:
    assert code_of_tag(tag) == code


def test_a_japanese_user_reads_japanese_and_is_answered_in_it_until_another_language_is_chosen(
    browser: Browser, url: str
) -> None:
    context = browser.new_context(locale="ja-JP")
    page = context.new_page()
    page.goto(url)
    expect(page.locator("html")).to_have_attribute("lang", "ja")
    expect(page.locator("#language input")).to_have_value(re.compile("^日本語"))
    expect(page.locator("footer")).not_to_contain_text("Use via API")
    for typed, name in (
        *(("espanol", "español"), ("mandarin", "中文"), ("bokmål", "norsk"), ("bokmal", "norsk")),
        *(("farsi", "فارسی"), ("flemish", "Nederlands"), ("ja", "日本語")),
    ):
        page.click("#language input")
        page.press("#language input", "Control+A")
        page.locator("#language input").press_sequentially(typed)
        expect(page.locator("#language [role=option]")).to_have_count(1)
        expect(page.locator("#language [role=option]")).to_contain_text(name)
    page.press("#language input", "Escape")
    page.click("#page-language summary")
    page.click("#page-language button[lang=ar]")
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    expect(page.locator("html")).to_have_attribute("lang", "ar")
    expect(page.locator("#page-language summary")).to_have_text("العربية")
    expect(question_box(page)).to_have_css("direction", "rtl")  # of its placeholder
    ask(page, "x")
    expect(page.locator(".note > span").first).to_have_text(locales.available()["ar"].text("error_no_image"))
    context.close()


def test_a_copied_conversation_has_no_english_words_of_the_page(browser: Browser, url: str, image_file: Path) -> None:
    context = browser.new_context(locale="ja-JP", permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(url)
    page.locator("#budget .budget").wait_for(state="attached")
    upload(page, image_file)
    page.click("#ask")
    expect(page.locator("#chat [data-testid=bot]")).to_have_text("an image of 400 by 200")
    expect(page.locator("#ask")).to_be_visible()
    ask_and_wait(page, "これは何？")
    page.locator("#chat .top-panel button").last.click()
    text = locales.available()["ja"].text
    question, answer, caption = (text(key) for key in ("question_name", "answer_name", "caption_request"))
    turns = [(caption, "an image of 400 by 200"), ("これは何？", "これは何？")]
    copied = "\n\n".join(f"{question}: {asked}\n\n{answer}: {said}" for asked, said in turns)
    wait_for(page, lambda: page.evaluate("navigator.clipboard.readText()") == copied)
    context.close()
