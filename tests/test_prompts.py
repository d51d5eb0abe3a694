"""Laws of composing a prompt: what is sent, what is dropped, what is rejected."""

import random
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

import pytest

from blip_space.errors import PromptError
from blip_space.history import Turn
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


def tokenize_words(text: str) -> list[int]:
    """A tokenizer with one token per word: its length."""
    return [len(word) for word in text.split()]


def prompt_of(
    question: str, *turns: Turn, style: str = "mblip", language: str = "de", budget: int = 512
) -> ComposedPrompt:
    return compose(
        turns,
        question,
        style=STYLES[style],
        language=find_language(language),
        budget_tokens=budget,
        tokenize=tokenize_words,
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
def test_the_question_gets_the_template_of_its_style(style: str, question: str, text: str) -> None:
    assert prompt_of(question, style=style, language="en" if style != "mblip" else "de").text == text


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_has_its_training_name_in_prompts(code: str) -> None:
    name = LANGUAGES[code].prompt_name
    assert prompt_of("What?", language=code).text == f"Question: What? Short answer in {name}:"
    assert prompt_of("", language=code).text == f"Caption in {name}: "


@pytest.mark.parametrize("style", STYLES)
def test_earlier_turns_are_the_same_in_every_style(style: str) -> None:
    turns = [("What is it?", "a cat"), ("", "a cat on a mat"), ("Describe it", "It sleeps."), ("又问？", "三。")]
    earlier = (
        "Question: What is it? Answer: a cat. a cat on a mat. Describe it It sleeps. Question: 又问？ Answer: 三。"
    )
    assert prompt_of("And?", *turns, style=style).text == f"{earlier} {prompt_of('And?', style=style).text}"
    assert prompt_of("", *turns, style=style).text == f"{earlier} {prompt_of('', style=style).text}".rstrip(
        " " * (style == "blip2")
    )


def test_an_exact_fit_keeps_every_turn_and_one_token_less_drops_the_oldest() -> None:
    turns = [("One?", "1"), ("Two?", "2"), ("Three?", "3")]
    full = prompt_of("Four?", *turns)
    assert prompt_of("Four?", *turns, budget=len(full.ids)) == full
    shorter = prompt_of("Four?", *turns, budget=len(full.ids) - 1)
    assert shorter.dropped_turns == (("One?", "1"),)
    assert shorter.kept_turns == tuple(turns[1:])
    assert list(shorter.ids) == tokenize_words(shorter.text)


def test_whole_turns_are_dropped_oldest_first_at_every_budget() -> None:
    turns = [(f"What about {'very ' * count}{count}?", "yes") for count in range(8)]
    minimum = len(prompt_of("And?").ids)
    for budget in range(minimum, len(prompt_of("And?", *turns).ids) + 1):
        prompt = prompt_of("And?", *turns, budget=budget)
        assert prompt.dropped_turns + prompt.kept_turns == tuple(turns)
        assert len(prompt.ids) <= budget
        assert prompt.text.endswith("Question: And? Short answer in German:")


def test_a_question_beyond_the_budget_is_rejected_with_both_numbers() -> None:
    with pytest.raises(PromptError, match=r"106 tokens, and 100 fit"):
        prompt_of("word " * 100 + "?", budget=100)
    with pytest.raises(PromptError, match="fit the 0 free tokens"):
        prompt_of("What?", budget=-80)


LONG = {"a long question": "word " * 2_500, "a longer one": "word " * 30_000, "a rejected one": "a" * 1_000_000}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("a long question", r"2,500 tokens, and 700 fit"),
        (
            "a longer one",
            r"149,999 characters, and at most about 14,000 fit the 700 free tokens",
        ),
        ("a rejected one", r"1,000,000 characters and at most 200,000 are read"),
    ],
)
def test_the_characters_of_a_long_question_are_counted_before_its_tokens(kind: str, message: str) -> None:
    texts: list[str] = []
    with pytest.raises(PromptError, match=message):
        compose_english([], LONG[kind], 700, texts)
    assert len(texts) == (kind == "a long question")


def compose_english(turns: Sequence[Turn], question: str, budget: int, texts: list[str]) -> ComposedPrompt:
    """The prompt of a BLIP-2; every text that is tokenised is added to `texts`."""

    def tokenize(text: str) -> list[int]:
        texts.append(text)
        return tokenize_words(text)

    style, english = STYLES["blip2"], find_language("en")
    return compose(turns, question, style=style, language=english, budget_tokens=budget, tokenize=tokenize)


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
def test_a_long_conversation_tokenises_a_few_texts_of_the_size_of_the_budget(kind: str) -> None:
    """Tokenising an allowed history of 0.96 MB took 2.5 s, and every stream paused."""
    texts: list[str] = []
    prompt = compose_english(HISTORIES[kind], "And?", 480, texts)
    assert len(prompt.ids) <= 480
    assert len(prompt.kept_turns) == KEPT.get(kind, 0)
    assert len(texts) <= 18
    assert max(map(len, texts)) <= 20 * 480
    assert sum(map(len, texts)) <= 5 * 20 * 480


def test_the_composed_prompt_is_tokenised_once() -> None:
    turns = [(f"What about {count}?", "yes " * count) for count in range(40)]
    for budget in range(3, 900, 7):
        texts: list[str] = []
        prompt = compose_english(turns, "And?", budget, texts)
        assert texts.count(prompt.text) == 1
        assert list(prompt.ids) == tokenize_words(prompt.text)


def test_as_many_turns_as_fit_are_kept() -> None:
    """The same as with a linear search."""
    rng = random.Random(0)
    for _ in range(300):
        turns = [("What? " * rng.randrange(4), "word " * rng.choice([0, 1, 5, 60])) for _ in range(rng.randrange(9))]
        budget, kept = rng.randrange(3, 120), 0
        while (
            kept < len(turns) and len(compose_english(turns[len(turns) - kept - 1 :], "And?", 10_000, []).ids) <= budget
        ):
            kept += 1
        assert compose_english(turns, "And?", budget, []) == replace(
            compose_english(turns[len(turns) - kept :], "And?", 10_000, []),
            dropped_turns=tuple(turns[: len(turns) - kept]),
        )


def compose_conversation(turns: Sequence[Turn], question: str, budget: int, texts: list[str]) -> ComposedPrompt:
    """The prompt of a chat model with its image before the second word; every rendered text is added to `texts`."""

    def render(earlier: Sequence[TurnTexts], newest: str) -> RenderedPrompt:
        texts.append(" | ".join([*(f"{asked} > {reply}" for asked, reply in earlier), newest]))
        return RenderedPrompt(texts[-1], tokenize_words(texts[-1]), (1,))

    style, english = STYLES["llava"], find_language("en")
    return compose_chat(turns, question, style=style, language=english, budget_tokens=budget, render=render)


def test_a_chat_drops_turns_as_a_text_does() -> None:
    """As many turns as fit are kept, and the prompt is rendered once."""
    rng = random.Random(0)
    for _ in range(300):
        turns = [("What? " * rng.randrange(4), "word " * rng.choice([0, 1, 5, 60])) for _ in range(rng.randrange(9))]
        budget, kept, texts = rng.randrange(3, 120), 0, list[str]()
        while (
            kept < len(turns)
            and len(compose_conversation(turns[len(turns) - kept - 1 :], "And?", 10_000, []).ids) <= budget
        ):
            kept += 1
        prompt = compose_conversation(turns, "And?", budget, texts)
        assert (prompt.kept_turns, prompt.dropped_turns) == (
            tuple(turns[len(turns) - kept :]),
            tuple(turns[: len(turns) - kept]),
        )
        assert prompt.image_positions == (1,)
        assert (list(prompt.ids), texts.count(prompt.text)) == (tokenize_words(prompt.text), 1)
        assert len(prompt.ids) <= budget


@pytest.mark.parametrize("kind", HISTORIES)
def test_a_long_chat_renders_a_few_texts_of_the_size_of_the_budget(kind: str) -> None:
    texts: list[str] = []
    prompt = compose_conversation(HISTORIES[kind], "And?", 480, texts)
    assert len(prompt.ids) <= 480
    assert len(texts) <= 18
    assert sum(map(len, texts)) <= 6 * 20 * 480


@pytest.mark.parametrize("kind", LONG)
def test_the_characters_of_a_long_question_in_a_chat_are_counted_before_its_tokens(kind: str) -> None:
    texts: list[str] = []
    with pytest.raises(PromptError, match=r"characters|tokens, and 700 fit"):
        compose_conversation([], LONG[kind], 700, texts)
    assert len(texts) == (kind == "a long question")


def test_a_chat_without_a_question_gets_the_caption_prompt() -> None:
    prompt = compose_conversation([("...", "a cat"), ("What?", "a dog")], "", 500, [])
    caption = STYLES["llava"].caption
    assert prompt.text == f"{caption} > a cat | What? > a dog | {caption}"


def test_a_chat_keeps_lines_and_tabs() -> None:
    for character in map(chr, range(sys.maxunicode + 1)):
        is_space = character.isspace() or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        expected = "\n" if character in "\r\n" else "\t" if character == "\t" else " " if is_space else character
        assert clean_lines(f"a{character}b") == f"a{expected}b"
    assert clean_lines(" 1.\r\n\r\n  2.\n") == "1.\n\n  2."


def test_control_characters_and_white_space_become_spaces() -> None:
    characters = list(map(chr, range(sys.maxunicode + 1)))
    for character in characters:
        is_space = character.isspace() or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        assert clean(f"a{character}b") == ("a b" if is_space else f"a{character}b")
    assert clean(" a \x7f\u2028\n\x00b\t") == "a b"


def test_template_syntax_inside_a_turn_is_text() -> None:
    prompt = prompt_of("Question: {L} Answer: {q}?", ("Question: a? Answer: b?", "Question: c"))
    assert prompt.text == (
        "Question: Question: a? Answer: b? Answer: Question: c. "
        "Question: Question: {L} Answer: {q}? Short answer in German:"
    )


def test_joiners_stay() -> None:
    assert clean("\x00what\tis\r\n\x1b this\u2028?") == "what is this ?"
    assert clean("क्‍ष 👩‍👧 می‌شود") == "क्‍ष 👩‍👧 می‌شود"
    assert prompt_of(" \n\t\u3000 ").text == "Caption in German: "


@pytest.mark.parametrize(
    "text", ["What?", "何？", "ماذا؟", "Τι είναι;", "Τι είναι\u037e", "ի՞նչ՞", "Is it (really)?)", "'Who?'"]
)
def test_a_question_mark_of_any_script_makes_a_question(text: str) -> None:
    assert is_question(text)


@pytest.mark.parametrize("text", ["Describe it.", "one; two;", "", "?!x", "¿"])
def test_other_ends_make_no_question(text: str) -> None:
    assert not is_question(text)


@pytest.mark.parametrize("question", ["...", "!", " - ", "…", "\u200b", "\ufeff .", "«»"])
@pytest.mark.parametrize("style", ["mblip", "blip2"])
def test_punctuation_alone_asks_for_a_caption(question: str, style: str) -> None:
    """`...` became the instruction ` in German.`."""
    language = "de" if style == "mblip" else "en"
    assert (
        prompt_of(question, style=style, language=language).text == prompt_of("", style=style, language=language).text
    )
    assert prompt_of("And?", (question, "a cat")).text == prompt_of("And?", ("", "a cat")).text


@pytest.mark.parametrize("question", ["?", "?!?", "¿?", "🐙", "$", "3", "а"])
def test_a_question_mark_or_a_symbol_is_a_question(question: str) -> None:
    assert prompt_of(question).text != prompt_of("").text


@pytest.mark.parametrize(
    "question", ["Describe the temple in Indonesia", "Describe the Greek temple", "อธิบายวัดในประเทศไทย", "Tari Jawa ini"]
)
def test_the_language_is_added_after_the_name_of_a_place_or_a_people(question: str) -> None:
    assert prompt_of(question).text == f"{question} in German."
