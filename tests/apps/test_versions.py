"""Laws of the versions of an answer, of its details, and of the language of each message, in a real browser."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.apps.browser import (
    PROMPT,
    ask_and_wait,
    choose_language,
    english,
    press,
    question_box,
    questions,
    replies,
    wait_for,
)
from tests.apps.fake_engine import BUSY, FakeEngine

LEFT_OF_WORD = """(node, word) => {
    const words = document.createTreeWalker(node, NodeFilter.SHOW_TEXT).nextNode(), range = document.createRange();
    range.setStart(words, words.data.indexOf(word));
    range.setEnd(words, words.data.indexOf(word) + word.length);
    return range.getBoundingClientRect().left;
}"""


def test_every_message_says_its_language_and_direction(answered_page: Page) -> None:
    choose_language(answered_page, "Arabic")
    ask_and_wait(answered_page, "BMW سيارة حمراء")
    expect(questions(answered_page).last).to_have_attribute("lang", "ar")
    expect(replies(answered_page).last).to_have_attribute("dir", "rtl")
    assert replies(answered_page).last.evaluate(LEFT_OF_WORD, "BMW") > replies(answered_page).last.evaluate(
        LEFT_OF_WORD, "حمراء"
    )
    ask_and_wait(answered_page, "What does سيارة mean?")
    expect(questions(answered_page).last).to_have_attribute("dir", "auto")
    expect(questions(answered_page).last).not_to_have_attribute("lang", "ar")
    expect(replies(answered_page).first).to_have_attribute("lang", "en")
    expect(replies(answered_page).first).to_have_attribute("dir", "ltr")


def test_again_in_another_language_keeps_both_answers(answered_page: Page, engine: FakeEngine) -> None:
    bar = answered_page.locator("#chat .ways")
    expect(bar.get_by_label(english("previous_version"))).to_be_hidden()
    again = bar.get_by_text("Ask again: German")
    expect(again).to_be_hidden()
    choose_language(answered_page, "Deutsch")
    again.click()
    expect(bar).to_contain_text("2/2")
    expect(again).to_be_hidden()
    wait_for(answered_page, lambda: engine.responses[-1].done)
    expect(answered_page.locator("#ask")).to_be_visible()
    ask_and_wait(answered_page, "second")
    bar.first.get_by_text(english("answer_details")).click()
    expect(bar.first).to_contain_text("parrot · German · 4 tokens")
    bar.first.get_by_label(english("previous_version")).click()
    expect(questions(answered_page)).to_have_text([PROMPT])
    expect(bar).to_contain_text("parrot · English")
    expect(replies(answered_page)).to_have_attribute("lang", "en")
    bar.get_by_label(english("next_version")).press("Enter")
    expect(questions(answered_page)).to_have_text([PROMPT, "second"])
    expect(bar.first.get_by_label(english("next_version"))).to_be_focused()
    expect(replies(answered_page).first).to_have_attribute("lang", "de")


def test_later_turns_use_the_version_that_is_shown(answered_page: Page, engine: FakeEngine) -> None:
    answered_page.locator("#chat button[aria-label='Edit']").first.click()
    answered_page.locator("#chat textarea").fill("another question")
    press(answered_page, "Submit")
    expect(replies(answered_page)).to_have_text(["another question"])
    expect(answered_page.locator("#ask")).to_be_visible()
    answered_page.locator("#chat .ways").get_by_label(english("previous_version")).click()
    expect(questions(answered_page)).to_have_text([PROMPT])
    ask_and_wait(answered_page, "and then?")
    assert engine.requests[-1].turns == ((PROMPT, PROMPT),)


def test_an_answer_stays_if_asking_again_fails(answered_page: Page) -> None:
    answered_page.locator("#chat button[aria-label='Edit']").first.click()
    answered_page.locator("#chat textarea").fill(BUSY)
    press(answered_page, "Submit")
    expect(question_box(answered_page)).to_have_value(BUSY)
    expect(replies(answered_page)).to_have_text([PROMPT])
    expect(answered_page.locator("#chat .ways").get_by_label(english("previous_version"))).to_be_hidden()


def test_an_example_is_asked_again_in_the_language_of_the_page(page: Page, engine: FakeEngine) -> None:
    page.locator("#cards button", has_text="Was ist links?").click()
    expect(replies(page)).to_have_text("Was ist links?")
    page.locator("#chat .ways").get_by_text("Ask again: English").click()
    expect(page.locator("#chat .ways")).to_contain_text("2/2")
    assert [request.language for request in engine.requests] == ["de", "en"]
