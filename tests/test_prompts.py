"""Laws of composing: what is sent, what falls, what is refused."""

import random
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

import pytest

from blip_space.errors import PromptError
from blip_space.history import Turn, parse_history
from blip_space.languages import LANGUAGES, find_language
from blip_space.prompts import (
    STYLES,
    ComposedPrompt,
    RenderedPrompt,
    TurnTexts,
    clean,
    clean_lines,
    compose,
    compose_chat,
    is_question,
)


def words(text: str) -> list[int]:
    """A tokenizer that a reader can follow."""
    return [len(word) for word in text.split()]


def sent(question: str, *turns: Turn, style: str = "mblip", language: str = "de", budget: int = 512) -> ComposedPrompt:
    return compose(
        turns, question, style=STYLES[style], language=find_language(language), budget_tokens=budget, tokenize=words
    )


@pytest.mark.parametrize(
    ("style", "question", "text"),
    [
        ("blip2", "", ""),
        ("blip2-coco", "", "a photo of"),
        ("mblip", "", "Caption in German: "),
        ("blip2", "What is it?", "Question: What is it? Answer:"),
        ("mblip", "What is it?", "Question: What is it? Short answer in German:"),
        ("blip2", "Describe it.", "Describe it."),
        ("mblip", "Describe it.", "Describe it in German."),
        ("mblip", "Describe it in French.", "Describe it in French."),
    ],
)
def test_the_newest_turn_takes_the_familys_template(style: str, question: str, text: str) -> None:
    assert sent(question, style=style, language="en" if style != "mblip" else "de").text == text


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_is_asked_for_by_the_name_that_mblip_learned(code: str) -> None:
    name = LANGUAGES[code].prompt_name
    assert sent("What?", language=code).text == f"Question: What? Short answer in {name}:"
    assert sent("", language=code).text == f"Caption in {name}: "


@pytest.mark.parametrize("style", STYLES)
def test_earlier_turns_read_the_same_in_every_family(style: str) -> None:
    turns = [("What is it?", "a cat"), ("", "a cat on a mat"), ("Describe it", "It sleeps."), ("又问？", "三。")]
    earlier = (
        "Question: What is it? Answer: a cat. a cat on a mat. Describe it It sleeps. Question: 又问？ Answer: 三。"
    )
    assert sent("And?", *turns, style=style).text == f"{earlier} {sent('And?', style=style).text}"
    assert sent("", *turns, style=style).text == f"{earlier} {sent('', style=style).text}".rstrip(
        " " * (style == "blip2")
    )


def test_an_exact_fit_keeps_every_turn_and_one_token_over_drops_the_oldest() -> None:
    turns = [("One?", "1"), ("Two?", "2"), ("Three?", "3")]
    whole = sent("Four?", *turns)
    assert sent("Four?", *turns, budget=whole.tokens) == whole
    shorter = sent("Four?", *turns, budget=whole.tokens - 1)
    assert shorter.dropped_turns == (("One?", "1"),)
    assert shorter.kept_turns == tuple(turns[1:])
    assert (shorter.tokens, list(shorter.ids)) == (len(words(shorter.text)), words(shorter.text))


def test_turns_fall_whole_and_oldest_first_at_every_budget() -> None:
    turns = [(f"What about {'very ' * count}{count}?", "yes") for count in range(8)]
    least = sent("And?").tokens
    for budget in range(least, sent("And?", *turns).tokens + 1):
        made = sent("And?", *turns, budget=budget)
        assert made.dropped_turns + made.kept_turns == tuple(turns)
        assert made.tokens <= budget
        assert made.text.endswith("Question: And? Short answer in German:")


def test_a_question_too_long_by_itself_is_refused_with_both_numbers() -> None:
    with pytest.raises(PromptError, match=r"106 tokens long and there is room for 100"):
        sent("word " * 100 + "?", budget=100)
    with pytest.raises(PromptError, match="room for 0"):
        sent("What?", budget=-80)


LONG = {"a long question": "word " * 2_500, "a longer one": "word " * 30_000, "one that is not read": "a" * 1_000_000}


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("a long question", r"2,500 tokens long and there is room for 700"),
        (
            "a longer one",
            r"149,999 characters and there is room for 700 tokens, which are at most 14,000",
        ),
        ("one that is not read", r"1,000,000 characters and at most 200,000 are read"),
    ],
)
def test_of_a_long_question_the_characters_are_counted_before_the_tokens(kind: str, sentence: str) -> None:
    texts: list[str] = []
    with pytest.raises(PromptError, match=sentence):
        composed([], LONG[kind], 700, texts)
    assert len(texts) == (kind == "a long question")


def composed(turns: Sequence[Turn], question: str, budget: int, texts: list[str]) -> ComposedPrompt:
    """As the models of one language do it; `texts` is filled with what is tokenised."""

    def tokenize(text: str) -> list[int]:
        texts.append(text)
        return words(text)

    english = find_language("en")
    return compose(turns, question, style=STYLES["blip2"], language=english, budget_tokens=budget, tokenize=tokenize)


HISTORIES: dict[str, list[Turn]] = {
    "two long turns": [("word " * 48_000, "word " * 48_000)] * 2,
    "long turns and a short one": [("word " * 96_000, "yes"), ("What is it?", "a cat")],
    "long turns": [("word " * 192, "word " * 192)] * 500,
    "short turns": [("What is it?", "a cat")] * 500,
    "one word": [("x" * 480_000, "y" * 480_000)],
    "white space": [(" " * 480_000, "\n" * 480_000)],
}


KEPT = {"short turns": 68, "long turns and a short one": 1, "long turns": 1, "white space": 1}


@pytest.mark.parametrize("kind", HISTORIES)
def test_a_long_conversation_costs_a_few_texts_of_the_budgets_size(kind: str) -> None:
    """A history of 0.96 MB, which is allowed, was tokenised for 2.5 s, and every stream stood still."""
    texts: list[str] = []
    made = composed(HISTORIES[kind], "And?", 480, texts)
    assert made.tokens <= 480
    assert len(made.kept_turns) == KEPT.get(kind, 0)
    assert len(texts) <= 18
    assert max(map(len, texts)) <= 20 * 480
    assert sum(map(len, texts)) <= 5 * 20 * 480


def test_nothing_is_tokenised_again_once_it_is_composed() -> None:
    turns = [(f"What about {count}?", "yes " * count) for count in range(40)]
    for budget in range(3, 900, 7):
        texts: list[str] = []
        made = composed(turns, "And?", budget, texts)
        assert texts.count(made.text) == 1
        assert list(made.ids) == words(made.text)


def test_the_longest_run_of_turns_that_fits_is_kept() -> None:
    """The same as when each run is tried, shortest first."""
    draw = random.Random(0)
    for _ in range(300):
        turns = [("What? " * draw.randrange(4), "word " * draw.choice([0, 1, 5, 60])) for _ in range(draw.randrange(9))]
        budget, kept = draw.randrange(3, 120), 0
        while kept < len(turns) and composed(turns[len(turns) - kept - 1 :], "And?", 10_000, []).tokens <= budget:
            kept += 1
        assert composed(turns, "And?", budget, []) == replace(
            composed(turns[len(turns) - kept :], "And?", 10_000, []), dropped_turns=tuple(turns[: len(turns) - kept])
        )


def chatted(turns: Sequence[Turn], question: str, budget: int, texts: list[str]) -> ComposedPrompt:
    """As a model does it that was taught by turns, whose image stands before the second word; `texts` is filled with
    what is tokenised."""

    def render(parts: Sequence[TurnTexts], newest: str) -> RenderedPrompt:
        texts.append(" | ".join([*(f"{asked} > {answered}" for asked, answered in parts), newest]))
        return RenderedPrompt(texts[-1], words(texts[-1]), (1,))

    style, english = STYLES["llava"], find_language("en")
    return compose_chat(turns, question, style=style, language=english, budget_tokens=budget, render=render)


def test_turns_of_a_chat_fall_as_those_of_a_text_do() -> None:
    """The longest run that fits is kept, and rendered once."""
    draw = random.Random(0)
    for _ in range(300):
        turns = [("What? " * draw.randrange(4), "word " * draw.choice([0, 1, 5, 60])) for _ in range(draw.randrange(9))]
        budget, kept, texts = draw.randrange(3, 120), 0, list[str]()
        while kept < len(turns) and chatted(turns[len(turns) - kept - 1 :], "And?", 10_000, []).tokens <= budget:
            kept += 1
        made = chatted(turns, "And?", budget, texts)
        assert (made.kept_turns, made.dropped_turns) == (
            tuple(turns[len(turns) - kept :]),
            tuple(turns[: len(turns) - kept]),
        )
        assert made.image_positions == (1,)
        assert (list(made.ids), texts.count(made.text)) == (words(made.text), 1)
        assert made.tokens <= budget


@pytest.mark.parametrize("kind", HISTORIES)
def test_a_long_chat_costs_a_few_texts_of_the_budgets_size(kind: str) -> None:
    texts: list[str] = []
    made = chatted(HISTORIES[kind], "And?", 480, texts)
    assert made.tokens <= 480
    assert len(texts) <= 18
    assert sum(map(len, texts)) <= 6 * 20 * 480


@pytest.mark.parametrize("kind", LONG)
def test_of_a_long_question_in_a_chat_the_characters_are_counted_before_the_tokens(kind: str) -> None:
    texts: list[str] = []
    with pytest.raises(PromptError, match=r"characters|tokens long and there is room for 700"):
        chatted([], LONG[kind], 700, texts)
    assert len(texts) == (kind == "a long question")


def test_a_chat_is_asked_for_a_caption_in_words() -> None:
    made = chatted([("...", "a cat"), ("What?", "a dog")], "", 500, [])
    caption = STYLES["llava"].caption
    assert made.text == f"{caption} > a cat | What? > a dog | {caption}"


def test_lines_of_a_chat_stay_as_they_are() -> None:
    for character in map(chr, range(sys.maxunicode + 1)):
        is_space = character.isspace() or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        expected = "\n" if character in "\r\n" else "\t" if character == "\t" else " " if is_space else character
        assert clean_lines(f"a{character}b") == f"a{expected}b"
    assert clean_lines(" 1.\r\n\r\n  2.\n") == "1.\n\n  2."


def test_every_control_character_and_white_space_is_a_space() -> None:
    characters = list(map(chr, range(sys.maxunicode + 1)))
    for character in characters:
        is_space = character.isspace() or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        assert clean(f"a{character}b") == ("a b" if is_space else f"a{character}b")
    assert clean(" a \x7f\u2028\n\x00b\t") == "a b"


def test_the_words_of_a_template_inside_a_turn_are_only_words() -> None:
    made = sent("Question: {L} Answer: {q}?", ("Question: a? Answer: b?", "Question: c"))
    assert made.text == (
        "Question: Question: a? Answer: b? Answer: Question: c. "
        "Question: Question: {L} Answer: {q}? Short answer in German:"
    )


def test_control_characters_become_spaces_and_joiners_stay() -> None:
    assert clean("\x00what\tis\r\n\x1b this\u2028?") == "what is this ?"
    assert clean("क्‍ष 👩‍👧 می‌شود") == "क्‍ष 👩‍👧 می‌شود"
    assert sent(" \n\t\u3000 ").text == "Caption in German: "


@pytest.mark.parametrize(
    "text", ["What?", "何？", "ماذا؟", "Τι είναι;", "Τι είναι\u037e", "ի՞նչ՞", "Is it (really)?)", "'Who?'"]
)
def test_question_marks_of_every_script_make_a_question(text: str) -> None:
    assert is_question(text)


@pytest.mark.parametrize("text", ["Describe it.", "one; two;", "", "?!x", "¿"])
def test_other_ends_do_not(text: str) -> None:
    assert not is_question(text)


def test_whole_turns_are_read_from_messages() -> None:
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert parse_history(messages) == (("q", "a"),)
    assert parse_history([]) == ()


PARTS = {
    "gradio 6": [{"text": "q", "type": "text"}],
    "several": [{"type": "text", "text": "q"}, {"type": "text", "text": "r"}],
    "without a type": [{"text": "q"}],
    "a text in the list": ["q"],
    "openai": [{"type": "input_text", "text": "q"}, {"type": "output_text", "text": "r"}],
    "beside files": [{"type": "image", "url": "x"}, {"type": "text", "text": "q"}, {"type": "component", "value": 5}],
    "one part": {"type": "text", "text": "q"},
}


@pytest.mark.parametrize("kind", PARTS)
def test_parts_of_text_are_text_whatever_stands_beside_them(kind: str) -> None:
    """The case history-of-gradio-6: they were told to have no text."""
    message = {"role": "user", "content": PARTS[kind], "metadata": {"title": "x"}, "options": [], "id": 3}
    both = "r" in str(PARTS[kind])
    assert parse_history([message, {"role": "assistant", "content": [{"type": "text", "text": "a"}]}]) == (
        ("q r" if both and kind != "beside files" else "q", "a"),
    )


USER, REPLY = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("history", "sentence"),
    [
        ("words", "must be a list"),
        ({"role": "user"}, "must be a list"),
        (None, "must be a list"),
        ([USER, USER], "does not alternate"),
        ([REPLY, USER], "does not alternate"),
        ([{"role": "system", "content": "x"}], "holds a message of the role 'system', which is not read. Leave it out"),
        ([USER, {"role": "tool", "content": "x"}], "role 'tool'"),
        ([USER], "no answer"),
        (["q", "a"], "does not alternate"),
        ([USER, {"role": "assistant", "content": None}], "no text"),
        ([USER, {"role": "assistant", "content": []}], "no text"),
        ([{"role": "user", "content": [{"type": "file", "file": {"path": "a"}}]}, REPLY], "no text. Only text is read"),
        ([{"role": "user", "content": ("a.png",)}, REPLY], "no text. Only text is read"),
        ([{"role": "user", "content": [{"type": "text", "text": None}]}, REPLY], "no text"),
        ([USER, REPLY] * 5_000, "10,000 messages"),
        ([USER, {"role": "assistant", "content": "é" * 600_000}], "larger than 1 MB"),
    ],
)
def test_a_history_of_another_form_is_a_sentence(history: object, sentence: str) -> None:
    with pytest.raises(PromptError, match=sentence):
        parse_history(history)


@pytest.mark.parametrize("words_", ["...", "!", " - ", "…", "\u200b", "\ufeff .", "«»"])
@pytest.mark.parametrize("style", ["mblip", "blip2"])
def test_punctuation_alone_asks_for_a_caption(words_: str, style: str) -> None:
    """`...` became the instruction ` in German.`."""
    language = "de" if style == "mblip" else "en"
    assert sent(words_, style=style, language=language).text == sent("", style=style, language=language).text
    assert sent("And?", (words_, "a cat")).text == sent("And?", ("", "a cat")).text


@pytest.mark.parametrize("words_", ["?", "?!?", "¿?", "🐙", "$", "3", "а"])
def test_a_question_mark_or_a_symbol_asks_something(words_: str) -> None:
    assert sent(words_).text != sent("").text


@pytest.mark.parametrize(
    "words_", ["Describe the temple in Indonesia", "Describe the Greek temple", "อธิบายวัดในประเทศไทย", "Tari Jawa ini"]
)
def test_a_place_or_a_people_leaves_the_language_to_be_named(words_: str) -> None:
    assert sent(words_).text == f"{words_} in German."
