"""A conversation becomes a prompt that fits its budget.

Pure: knows the styles' templates and how to count with a function it is given; knows no tokenizer, no image and no
model.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blip_space.errors import PromptError
from blip_space.history import Turn
from blip_space.languages import Language, mentions_language
from blip_space.prompts.styles import STYLES, PromptStyle

__all__ = [
    "STYLES",
    "ComposedPrompt",
    "PromptStyle",
    "RenderedPrompt",
    "TurnTexts",
    "clean",
    "clean_lines",
    "compose",
    "compose_chat",
    "fit",
    "is_question",
    "is_wordless",
]

TurnTexts = tuple[str, ...]
"""What is sent of an earlier turn: its texts."""

MAX_PROMPT_CHARACTERS = 200_000
"""Longer prompts are refused before they are tokenised."""

MAX_TOKEN_CHARACTERS = 20
"""A text with more characters for each token that there is room for is taken not to fit, and is not tokenised. The
words of every language here have fewer; only long runs of one sign are written in larger tokens."""

SPACES = re.compile(
    r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{2,}|[^\S ]|[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
)
"""White space and control characters (of the categories Cc, Cs, Zl and Zp), but for a plain space alone."""

UNPRINTED = re.compile(r"[^\S \n\t]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""The same, but for line feeds and tabs, and each alone."""

QUESTION_MARKS = "?？؟⁇⁈፧՞;;꘏⸮"
"""Question marks of every script here; Greek writes a semicolon (U+037E or the plain one)."""

SENTENCE_ENDS = QUESTION_MARKS.replace(";", "") + ".!。！．｡।॥۔።։…‼၊။។៕᙮"
"""An answer that ends with one of these needs no further stop."""

SHORTEN = "Shorten it, or ask for fewer new tokens."

CLOSERS = "\"'”’»」』)]） "


@dataclass(frozen=True)
class RenderedPrompt:
    """A conversation as one text, and its token ids. Images have none: each stands before the id of that number."""

    text: str
    ids: Sequence[int]
    image_positions: tuple[int, ...] = ()


@dataclass(frozen=True)
class ComposedPrompt:
    """The prompt as it is sent, its token ids, and what of the conversation is in it. `images` are as in `RenderedPrompt`."""

    text: str
    ids: tuple[int, ...]
    kept_turns: tuple[Turn, ...]
    dropped_turns: tuple[Turn, ...]
    image_positions: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        """The length of the prompt in tokens."""
        return len(self.ids)


def clean(text: str) -> str:
    """The text without control characters and with every run of white space made one space.

    Joiners that Indic, Persian and emoji spelling needs are not control characters and stay.
    """
    return SPACES.sub(" ", text).strip()


def clean_lines(text: str) -> str:
    """The text without control characters, its lines and the spaces inside them as they are."""
    return UNPRINTED.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def is_wordless(text: str) -> bool:
    """Whether nothing is asked: there is only white space, punctuation and what nobody sees. A question mark asks."""
    return not is_question(text) and all(unicodedata.category(char)[0] in "CPZ" for char in text)


def is_question(text: str) -> bool:
    """Whether the words end with a question mark of any script, quotes and brackets aside."""
    bare = text.rstrip(CLOSERS)
    if bare.endswith((";", "\u037e")):
        return any(unicodedata.name(char, "").startswith("GREEK") for char in bare if char.isalpha())
    return bare.endswith(tuple(QUESTION_MARKS))


def compose(
    turns: Sequence[Turn],
    question: str,
    *,
    style: PromptStyle,
    language: Language,
    budget_tokens: int,
    tokenize: Callable[[str], Sequence[int]],
) -> ComposedPrompt:
    """The longest run of newest turns that fits the budget, and the newest question after it, as one prompt.

    Whole turns fall, oldest first; the question never falls and is never cut. A question without words asks for a
    caption. Raises `PromptError` with both numbers when the question alone is longer than `budget_tokens`.

    `tokenize` gives the token ids of a text, of which there are taken to be more the more turns are in it. What has
    more than `MAX_TOKEN_CHARACTERS` characters for each token of the budget is taken not to fit, and is not tokenised;
    so a long conversation costs no more than the part of it that could fit, some `2 log2(turns)` times.
    """
    newest = _newest(_read(question, clean, budget_tokens), style, language)

    def render(parts: Sequence[TurnTexts], newest: str) -> RenderedPrompt:
        text = " ".join(filter(None, [*(text for (text,) in parts), newest]))
        return RenderedPrompt(text, tokenize(text))

    return fit(turns, newest, part=lambda turn: (_earlier(turn),), render=render, budget_tokens=budget_tokens)


def compose_chat(
    turns: Sequence[Turn],
    question: str,
    *,
    style: PromptStyle,
    language: Language,
    budget_tokens: int,
    render: Callable[[Sequence[TurnTexts], str], RenderedPrompt],
) -> ComposedPrompt:
    """The same for a model that was taught by turns: `render` writes questions with their answers, oldest first, and
    the newest question in the form of its conversations.

    Texts keep their lines. An earlier question without words was a request for a caption, and is sent as one.
    """
    newest = _newest(_read(question, clean_lines, budget_tokens), style, language)

    def part(turn: Turn) -> TurnTexts:
        asked = clean_lines(turn[0])
        return _newest("" if is_wordless(asked) else asked, style, language), clean_lines(turn[1])

    return fit(turns, newest, part=part, render=render, budget_tokens=budget_tokens)


def fit(
    turns: Sequence[Turn],
    newest: str,
    *,
    part: Callable[[Turn], TurnTexts],
    render: Callable[[Sequence[TurnTexts], str], RenderedPrompt],
    budget_tokens: int,
) -> ComposedPrompt:
    """The longest run of newest turns whose parts `render` writes, with `newest` behind them, in that many tokens.

    Raises `PromptError` as `compose` does, and tries as few runs.
    """
    max_characters = MAX_TOKEN_CHARACTERS * max(budget_tokens, 0)
    _check_length(newest, max_characters, budget_tokens)
    best = render((), newest)
    if len(best.ids) > budget_tokens:
        raise PromptError(
            f"The question is {len(best.ids):,} tokens long and there is room for {max(budget_tokens, 0):,}. {SHORTEN}"
        )
    earlier = _within(turns, part, max_characters - len(newest))

    def fits(count: int) -> bool:
        nonlocal best
        rendered = render(earlier[:count][::-1], newest)
        if len(rendered.ids) > budget_tokens:
            return False
        best = rendered
        return True

    split = len(turns) - _largest(len(earlier), fits)
    return ComposedPrompt(best.text, tuple(best.ids), tuple(turns[split:]), tuple(turns[:split]), best.image_positions)


def _read(question: str, cleaned: Callable[[str], str], budget_tokens: int) -> str:
    """What is asked, cleaned; empty where it has no words."""
    if len(question) > MAX_PROMPT_CHARACTERS:
        raise PromptError(
            f"The question has {len(question):,} characters and at most {MAX_PROMPT_CHARACTERS:,} are read. Shorten it."
        )
    asked = cleaned(question)
    _check_length(asked, MAX_TOKEN_CHARACTERS * max(budget_tokens, 0), budget_tokens)
    return "" if is_wordless(asked) else asked


def _check_length(text: str, max_characters: int, budget_tokens: int) -> None:
    if len(text) > max_characters:
        raise PromptError(
            f"The question has {len(text):,} characters and there is room for {max(budget_tokens, 0):,} tokens, which "
            f"are at most {max_characters:,} characters. {SHORTEN}"
        )


def _within(turns: Sequence[Turn], part: Callable[[Turn], TurnTexts], max_characters: int) -> list[TurnTexts]:
    """What is sent of turns, newest first, as many as have that many characters in all, a space after each text."""
    parts: list[TurnTexts] = []
    for turn in reversed(turns):
        parts.append(part(turn))
        max_characters -= sum(len(text) + 1 for text in parts[-1])
        if max_characters < 0:
            parts.pop()
            break
    return parts


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to `most` that fits, 0 where 1 does not; asked last, of those that fit, is that number.

    Whatever is smaller than a number that fits is taken to fit.
    """
    low, step = 0, 1
    while low < most and fits(min(low + step, most)):  # in growing steps, since few may fit of many
        low, step = min(low + step, most), step * 2
    high = min(low + step, most + 1)  # the first that does not fit, or is not there
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _asked(question: str) -> str:
    """What is asked as it is sent; without words it is a request for a caption."""
    text = clean(question)
    return "" if is_wordless(text) else text


def _newest(question: str, style: PromptStyle, language: Language) -> str:
    if not question:
        return style.caption.format(L=language.prompt_name)
    if is_question(question):
        return _fill(style.question, question, language)
    if not style.multilingual or mentions_language(question):
        return question
    return _fill(style.instruction, question.rstrip(" .。।۔"), language)


def _fill(template: str, words: str, language: Language) -> str:
    return template.replace("{L}", language.prompt_name).replace("{q}", words)


def _earlier(turn: Turn) -> str:
    asked, answered = _asked(turn[0]), _stopped(clean(turn[1]))
    if not asked:
        return answered
    return f"Question: {asked} Answer: {answered}" if is_question(asked) else f"{asked} {answered}"


def _stopped(answer: str) -> str:
    return answer if answer.rstrip(CLOSERS).endswith(tuple(SENTENCE_ENDS)) else answer + "."
