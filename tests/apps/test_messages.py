"""Laws between the page's messages and a request's turns, and of the lines and lists that the page writes."""

from __future__ import annotations

from typing import Any

import pytest

from blip_space.apps.page import messages, static, status_text, strings
from blip_space.apps.page.choices import language_choices
from blip_space.errors import PromptError, UserError
from blip_space.history import MAX_HISTORY_BYTES, MAX_MESSAGES, parse_history
from blip_space.languages import LANGUAGES
from blip_space.serving.protocol import EngineStatus
from tests.apps.fake_engine import PARROT, POLYGLOT


def turn(asked: str, answered: str) -> list[messages.Message]:
    return [messages.user_message(asked), messages.assistant_message(answered)]


@pytest.mark.parametrize(
    "words", ["plain", "1 < 2 && <b>x</b> &lt; &amp;", "  spaces\n\nlines ", "ماذا ترى؟", "<", "&"]
)
def test_what_was_said_comes_back_as_it_was_said(words: str) -> None:
    assert messages.text_of(messages.user_message(words)) == words
    assert messages.text_of(messages.assistant_message(words)) == words


def test_nothing_that_is_shown_can_begin_a_tag_or_an_entity() -> None:
    (part,) = messages.user_message("<b>&lt;</b>")["content"]
    assert part["text"] == "<\u2060b>&\u2060lt;<\u2060/b>"


@pytest.mark.parametrize("words", ["", "  \n"])
def test_a_question_without_words_is_shown_as_a_request_for_a_caption_and_sent_without_words(words: str) -> None:
    message = messages.user_message(words)
    assert message["content"][0]["text"] == strings.CAPTION_REQUEST
    assert messages.text_of(message) == ""


def test_messages_become_turns_that_a_request_reads() -> None:
    shown = turn("How many?", "three") + turn("", "a picture")
    assert parse_history(messages.to_history(shown)) == (("How many?", "three"), ("", "a picture"))


def test_a_conversation_without_end_still_fits_a_request_the_newest_turns_first() -> None:
    endless = [message for number in range(MAX_MESSAGES) for message in turn(f"q{number}", "a")]
    assert parse_history(messages.to_history(endless))[-1] == (f"q{MAX_MESSAGES - 1}", "a")
    large = [message for number in range(5) for message in turn(f"q{number}", "x" * (MAX_HISTORY_BYTES // 3))]
    assert [asked for asked, _ in parse_history(messages.to_history(large))] == ["q3", "q4"]


def test_half_a_turn_is_not_told() -> None:
    assert messages.to_history([*turn("a", "b"), messages.user_message("c")]) == messages.to_history(turn("a", "b"))


@pytest.mark.parametrize("value", ["text", 5, ["text"], {"role": "user"}])
def test_what_is_no_conversation_is_a_sentence(value: Any) -> None:
    with pytest.raises(PromptError, match="Reload the page"):
        messages.parse_messages(value)


@pytest.mark.parametrize("content", [None, 5, [], [{"file": "x"}], {"path": "/etc/passwd"}])
def test_a_message_without_text_is_a_sentence(content: Any) -> None:
    with pytest.raises(PromptError, match="without text"):
        messages.text_of({"role": "user", "content": content})


def test_all_languages_are_offered_those_not_spoken_marked_and_last() -> None:
    choices = language_choices(PARROT)
    assert {code for _, code in choices} == set(LANGUAGES)
    assert {code for _, code in choices[:8]} == set(PARROT.languages)
    assert all(label.endswith("(not spoken by parrot)") for label, _ in choices[8:])
    assert not any("not spoken" in label for label, _ in language_choices(POLYGLOT))


def test_a_language_shows_its_own_name_its_english_one_and_its_tier() -> None:
    labels = {code: label for label, code in language_choices(POLYGLOT)}
    assert labels["de"] == "Deutsch – German · strong"
    assert labels["en"] == "English · strong"
    assert labels["iw"] == "עברית – Hebrew · good"


def counted(**changes: int) -> dict[str, int]:
    tokens = {"context_tokens": 512, "used_tokens": 143, "image_tokens": 32, "prompt_tokens": 111, "reply_tokens": 0}
    return {**tokens, "kept_turns": 3, "dropped_turns": 0, **changes}


@pytest.mark.parametrize(
    ("dropped", "sentence"),
    [
        (0, "143 of 512 tokens</p>"),
        (1, "143 of 512 tokens, the oldest turn no longer fits</p>"),
        (2, "143 of 512 tokens, the 2 oldest turns no longer fit</p>"),
    ],
)
def test_the_budget_line_counts_tokens_and_turns(dropped: int, sentence: str) -> None:
    assert sentence in status_text.budget_line(lambda: counted(dropped_turns=dropped))


def test_what_cannot_be_counted_is_said_instead() -> None:
    def refuse() -> dict[str, Any]:
        raise UserError("parrot does not speak <Swahili>.")

    assert "parrot does not speak &lt;Swahili&gt;." in status_text.budget_line(refuse)


@pytest.mark.parametrize("state", ["loading", "ready", "failed"])
def test_every_status_is_told_and_escaped(state: Any) -> None:
    told = status_text.status_line(
        EngineStatus(state, "my <model>", "fp32", "cpu", 0, 0, "because", "It is not there.")
    )
    assert "my &lt;model&gt;" in told
    assert ("because" in told, "It is not there." in told) == (state == "ready", state == "failed")


def test_how_to_switch_is_told_only_where_there_is_more_to_have() -> None:
    assert "--model mblip-mt0-xl" in status_text.model_description(PARROT)
    assert "--model mblip-mt0-xl" not in status_text.model_description(POLYGLOT)
    assert "Neither pictures nor words are logged" in status_text.model_description(POLYGLOT)


def test_every_example_is_there_and_in_a_language() -> None:
    examples = static.load_examples()
    assert len(examples) >= 4
    assert all(example.file.is_file() and example.language in LANGUAGES for example in examples)


def test_who_waits_and_how_busy_it_is_are_said_in_few_words() -> None:
    assert [strings.waiting(ahead) for ahead in (None, 0, 3)] == ["…", "…", "… (3 before you)"]
    assert strings.throughput(0.0, 0, 0) == ""
    assert strings.throughput(12.34, 1, 0) == "12 tokens/s, 1 answer being written"
    assert strings.throughput(99.0, 16, 4) == "99 tokens/s, 16 answers being written, 4 waiting"
