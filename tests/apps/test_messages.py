"""Laws of the page's messages and of its texts about engine and models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from blip_space.apps import locales
from blip_space.apps.page import messages, static, status_text, versions
from blip_space.errors import PromptError, UserError
from blip_space.history import MAX_HISTORY_BYTES, MAX_MESSAGES, parse_history
from blip_space.languages import LANGUAGES
from blip_space.serving.protocol import EngineStatus
from tests.apps.fake_engine import PARROT, POLYGLOT


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    """The texts are those of an English user's events."""
    token = locales.current_locale.set(locales.english())
    yield
    locales.current_locale.reset(token)


def turn(question: str, reply: str) -> list[messages.Message]:
    return [messages.user_message(question), messages.assistant_message(reply)]


@pytest.mark.parametrize("text", ["plain", "1 < 2 && <b>x</b> &lt; &amp;", "  spaces\n\nlines ", "ماذا ترى؟", "<", "&"])
def test_a_message_returns_the_text_it_was_made_of(text: str) -> None:
    assert messages.text_of(messages.user_message(text)) == text
    assert messages.text_of(messages.assistant_message(text)) == text


def test_a_message_contains_no_tag_and_no_entity() -> None:
    (part,) = messages.user_message("<b>&lt;</b>")["content"]
    assert part["text"] == "<\u2060b>&\u2060lt;<\u2060/b>"


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_question_is_shown_as_a_request_for_a_caption_and_sent_empty(prompt: str) -> None:
    message = messages.user_message(prompt)
    assert message["content"][0]["text"] == messages.PLACEHOLDER + "Caption this image"
    assert messages.text_of(message) == ""


def test_a_reply_that_waits_for_a_model_says_so() -> None:
    assert "parrot is loading" in messages.waiting_message(None, "parrot")["content"][0]["text"]
    assert "2 requests ahead" in messages.waiting_message(2, "parrot")["content"][0]["text"]


def test_messages_become_turns() -> None:
    conversation = turn("How many?", "three") + turn("", "an image")
    assert parse_history(messages.to_history(conversation)) == (("How many?", "three"), ("", "an image"))


def test_an_endless_conversation_is_cut_to_its_newest_turns() -> None:
    endless = [message for number in range(MAX_MESSAGES) for message in turn(f"q{number}", "a")]
    assert parse_history(messages.to_history(endless))[-1] == (f"q{MAX_MESSAGES - 1}", "a")
    large = [message for number in range(5) for message in turn(f"q{number}", "x" * (MAX_HISTORY_BYTES // 3))]
    assert [question for question, _ in parse_history(messages.to_history(large))] == ["q3", "q4"]


def test_an_incomplete_turn_is_left_out() -> None:
    assert messages.to_history([*turn("a", "b"), messages.user_message("c")]) == messages.to_history(turn("a", "b"))


@pytest.mark.parametrize("value", ["text", 5, ["text"], {"role": "user"}])
def test_an_invalid_conversation_is_refused(value: Any) -> None:
    with pytest.raises(PromptError, match="Reload the page"):
        messages.parse_messages(value)


@pytest.mark.parametrize("content", [None, 5, [], [{"file": "x"}], {"path": "/etc/passwd"}])
def test_a_message_without_text_is_refused(content: Any) -> None:
    with pytest.raises(PromptError, match="without text"):
        messages.text_of({"role": "user", "content": content})


def test_all_languages_are_listed_with_unsupported_ones_marked_and_last() -> None:
    choices = status_text.language_choices(PARROT)
    assert {code for _, code in choices} == set(LANGUAGES)
    assert {code for _, code in choices[:8]} == set(PARROT.languages)
    assert all(label.endswith("(not supported by parrot)") for label, _ in choices[8:])
    assert not any("not supported" in label for label, _ in status_text.language_choices(POLYGLOT))


def test_a_language_shows_its_own_name_its_english_one_and_its_tier() -> None:
    labels = {code: label for label, code in status_text.language_choices(POLYGLOT)}
    assert labels["de"] == "Deutsch – German · strong"
    assert labels["en"] == "English · strong"
    assert labels["iw"] == "עברית – Hebrew · good"


def budget(**changes: int) -> dict[str, int]:
    tokens = {"context_tokens": 512, "used_tokens": 143, "image_tokens": 32, "prompt_tokens": 111, "reply_tokens": 0}
    return {**tokens, "kept_turns": 3, "dropped_turns": 0, **changes}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"used_tokens": 307}, ""),
        ({"used_tokens": 308}, "context_nearly_full"),
        ({"used_tokens": 308, "kept_turns": 0}, "context_question_long"),
        ({"dropped_turns": 1}, "turns_left_out"),
    ],
)
def test_the_budget_line_has_words_from_sixty_percent_of_the_context(changes: dict[str, int], key: str) -> None:
    line = status_text.budget_line(lambda: budget(**changes))
    assert f"<p>{locales.english().text(key, n=1) if key else ''}</p>" in line
    assert ('class="budget free"' in line) == (not key)


def test_an_error_of_the_budget_is_shown_instead() -> None:
    def refuse() -> dict[str, Any]:
        raise UserError("parrot does not speak <Swahili>.")

    assert "parrot does not speak &lt;Swahili&gt;." in status_text.budget_line(refuse)


@pytest.mark.parametrize("state", ["loading", "ready", "failed"])
def test_every_status_is_shown_and_escaped(state: Any) -> None:
    status = EngineStatus(state, "my <model>", "fp32", "cpu", 0, 0, "because", "It is not there.")
    line = status_text.status_line(status) + status_text.status_details(status)
    assert "my &lt;model&gt;" in line
    assert ("because" in line, "It is not there." in line) == (state == "ready", state == "failed")


def test_the_chip_says_what_answers_the_next_question() -> None:
    status = EngineStatus("ready", "a", "bf16", "cuda:0", 0, 0, loaded=("a", "b"))
    chips = [status_text.chip(status, model) for model in ("", "b", "c")]
    assert chips == ["a · bf16 · ready", "b · bf16 · ready", "c · loads with your next question"]


@pytest.mark.parametrize(("device", "decode", "is_shown"), [
    ("cuda:0", "eager", True), ("cuda:0", "graphs", False), ("cpu", "eager", False),
])  # fmt: skip
def test_on_a_gpu_the_status_says_why_steps_are_not_graphs(device: str, decode: str, *, is_shown: bool) -> None:
    status = EngineStatus("ready", "m", "bf16", device, 0, 0, "it fits", decode=decode, decode_reason="off: differs")
    assert ("it fits; CUDA graphs are off: differs" in status_text.status_details(status)) == is_shown
    assert "it fits" in status_text.status_details(status)


def test_other_models_are_suggested_only_to_a_model_of_fewer_languages() -> None:
    assert "--model mblip-mt0-xl" in status_text.model_description(PARROT)
    assert "--model mblip-mt0-xl" not in status_text.model_description(POLYGLOT)
    assert "in English." in status_text.model_description(replace(POLYGLOT, languages=("en",)))
    assert "in 0 languages." in status_text.model_description(replace(POLYGLOT, languages=()))  # it failed to load
    assert "Images and text are never logged" in status_text.privacy([POLYGLOT])


def test_every_example_has_a_file_and_a_language() -> None:
    examples = static.load_examples()
    languages = {example.language for example in examples}
    assert len(examples) == len(languages) == 6
    assert all(example.file.is_file() and example.prompt for example in examples)
    assert {LANGUAGES[code].direction for code in languages} == {"ltr", "rtl"}
    assert len({LANGUAGES[code].script for code in languages}) == 4


def test_queue_position_and_throughput_are_short_sentences() -> None:
    waiting = [messages.waiting_message(ahead) for ahead in (None, 0, 1, 3)]
    assert [message["content"][0]["text"].lstrip(messages.PLACEHOLDER) for message in waiting] == [
        *("…", "…", "Waiting: 1 request ahead of you", "Waiting: 3 requests ahead of you")
    ]
    assert messages.text_of(waiting[3]) == ""
    assert status_text.throughput(0.0, 0, 0) == ""
    assert status_text.throughput(12.34, 1, 0) == "12 tokens/s, 1 request running"
    assert status_text.throughput(99.0, 16, 4) == "99 tokens/s, 16 requests running, 4 waiting"


def test_a_reply_carries_its_facts_and_unreadable_ones_are_none() -> None:
    reply = messages.assistant_message("a <b>", {"model": "tiny", "language": "ja", "tokens": 3})
    assert messages.facts_of(reply) == {"model": "tiny", "language": "ja", "tokens": 3}
    assert messages.text_of(reply) == "a <b>"
    for log in ("{", "[1]", None, 5, "[" * 100_000):
        assert messages.facts_of({**reply, "metadata": {"log": log}}) == {}


def test_versions_of_a_turn_are_kept_in_order_without_each_other_and_at_most_so_many() -> None:
    question = messages.user_message("q")
    for number in range(versions.MAX_VERSIONS + 1):
        question = versions.replace_turn([question, messages.assistant_message(f"a{number}")], question)
    facts = messages.facts_of(question)
    assert [version[1]["content"] for version in facts["others"]] == [f"a{number}" for number in range(2, 9)]
    assert (facts["shown"], facts["previous"]) == (7, 6)
    assert all(version[0]["facts"] == {} for version in facts["others"])
    assert messages.to_history([question, messages.assistant_message("b")]) == messages.to_history(turn("q", "b"))


def test_versions_that_cannot_be_read_are_dropped() -> None:
    question = messages.with_facts(messages.user_message("q"), {"others": ["x", 5, []], "shown": "no"})
    facts = messages.facts_of(versions.replace_turn([question, messages.assistant_message("a")], question))
    assert [len(version) for version in facts["others"]] == [0, 2]
