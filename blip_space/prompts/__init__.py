"""Build the prompt of a conversation, within a budget of tokens.

Depends on the templates of the styles and on a tokenize or render function that the caller passes; must not import a
tokenizer, an image or a model.
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
    "is_question",
]

TurnTexts = tuple[str, ...]
"""The texts of an earlier turn as they are sent."""

MAX_PROMPT_CHARACTERS = 200_000
"""Longer prompts are rejected before they are tokenised."""

MAX_TOKEN_CHARACTERS = 20
"""A text with more characters per token of the budget is assumed not to fit, and is not tokenised. In every supported
language tokens of words are shorter; only long runs of one character have longer tokens."""

SPACES = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]{2,}|[^\S ]|[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""White space and control characters (of the categories Cc, Cs, Zl and Zp), except a single plain space."""

UNPRINTABLE = re.compile(r"[^\S \n\t]|[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""The same characters one by one, except spaces, line feeds and tabs."""

QUESTION_MARKS = "?？؟⁇⁈፧՞;;꘏⸮"
"""Question marks of all supported scripts; Greek has a semicolon (U+037E or the plain one)."""

SENTENCE_ENDS = QUESTION_MARKS.replace(";", "") + ".!。！．｡।॥۔።։…‼၊။។៕᙮"
"""An answer that ends with one of these gets no full stop."""

SHORTEN = "Shorten it, or ask for fewer new tokens."

CLOSERS = "\"'”’»」』)]） "


@dataclass(frozen=True)
class RenderedPrompt:
    """A conversation as one text, and its token ids. Images have no ids: each is before the id at its position."""

    text: str
    ids: Sequence[int]
    image_positions: tuple[int, ...] = ()


Render = Callable[[Sequence[TurnTexts], str], RenderedPrompt]
"""Renders earlier turns, oldest first, and the newest question."""


@dataclass(frozen=True)
class ComposedPrompt:
    """The prompt as it is sent, its token ids, and which turns are in it; `image_positions` as in `RenderedPrompt`."""

    text: str
    ids: tuple[int, ...]
    kept_turns: tuple[Turn, ...]
    dropped_turns: tuple[Turn, ...]
    image_positions: tuple[int, ...] = ()


def clean(text: str) -> str:
    """The text with every run of white space and control characters replaced by one space.

    The joiners of Indic, Persian and emoji spelling are not control characters and stay.
    """
    return SPACES.sub(" ", text).strip()


def clean_lines(text: str) -> str:
    """The text without control characters, but with its lines and the spaces inside them."""
    return UNPRINTABLE.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def is_wordless(text: str) -> bool:
    """Whether there are only white space, punctuation without a question mark, and invisible characters."""
    return not is_question(text) and all(unicodedata.category(char)[0] in "CPZ" for char in text)


def is_question(text: str) -> bool:
    """Whether the text ends with a question mark of any script, apart from quotes and brackets."""
    text = text.rstrip(CLOSERS)
    if text.endswith((";", "\u037e")):
        return any(unicodedata.name(char, "").startswith("GREEK") for char in text if char.isalpha())
    return text.endswith(tuple(QUESTION_MARKS))


def compose(
    turns: Sequence[Turn],
    question: str,
    *,
    style: PromptStyle,
    language: Language,
    budget_tokens: int,
    tokenize: Callable[[str], Sequence[int]],
) -> ComposedPrompt:
    """One prompt with as many of the newest turns as fit the budget, and the question after them.

    Whole turns are dropped, oldest first; the question is never dropped and never cut. A question without words asks
    for a caption. Raises `PromptError` with both numbers when the question alone is longer than `budget_tokens`.

    `tokenize` returns the token ids of a text; more turns are assumed to have more tokens. A long conversation costs no
    more than tokenising the part that could fit by `MAX_TOKEN_CHARACTERS`, about `2 log2(turns)` times.
    """
    newest = _apply_style(_clean_question(question, clean, budget_tokens), style, language)

    def render(earlier: Sequence[TurnTexts], newest: str) -> RenderedPrompt:
        text = " ".join(filter(None, [*(text for (text,) in earlier), newest]))
        return RenderedPrompt(text, tokenize(text))

    return _fit(turns, newest, convert=lambda turn: (_join_turn(turn),), render=render, budget_tokens=budget_tokens)


def compose_chat(
    turns: Sequence[Turn],
    question: str,
    *,
    style: PromptStyle,
    language: Language,
    budget_tokens: int,
    render: Render,
) -> ComposedPrompt:
    """The same for a model that was trained on conversations: `render` applies its chat template to pairs of a question
    and an answer, oldest first, and the newest question.

    Texts keep their lines. An earlier question without words was a request for a caption, and is sent as one.
    """
    newest = _apply_style(_clean_question(question, clean_lines, budget_tokens), style, language)

    def convert(turn: Turn) -> TurnTexts:
        earlier = clean_lines(turn[0])
        return _apply_style("" if is_wordless(earlier) else earlier, style, language), clean_lines(turn[1])

    return _fit(turns, newest, convert=convert, render=render, budget_tokens=budget_tokens)


def _fit(
    turns: Sequence[Turn], newest: str, *, convert: Callable[[Turn], TurnTexts], render: Render, budget_tokens: int
) -> ComposedPrompt:
    """What `render` makes of `newest` and as many of the newest turns as fit, in as few calls as `compose` promises."""
    max_characters = _check_length(newest, budget_tokens)
    best = render((), newest)
    if len(best.ids) > budget_tokens:
        raise PromptError(
            f"The question is {len(best.ids):,} tokens long and there is room for {max(budget_tokens, 0):,}. {SHORTEN}"
        )
    earlier = _within_characters(turns, convert, max_characters - len(newest))

    def fits(count: int) -> bool:
        nonlocal best
        rendered = render(earlier[:count][::-1], newest)
        if len(rendered.ids) > budget_tokens:
            return False
        best = rendered
        return True

    split = len(turns) - _largest_fitting(len(earlier), fits)
    return ComposedPrompt(best.text, tuple(best.ids), tuple(turns[split:]), tuple(turns[:split]), best.image_positions)


def _clean_question(question: str, cleaner: Callable[[str], str], budget_tokens: int) -> str:
    """The question, cleaned; empty if it has no words."""
    if len(question) > MAX_PROMPT_CHARACTERS:
        raise PromptError(
            f"The question has {len(question):,} characters and at most {MAX_PROMPT_CHARACTERS:,} are read. Shorten it."
        )
    question = cleaner(question)
    _check_length(question, budget_tokens)
    return "" if is_wordless(question) else question


def _check_length(text: str, budget_tokens: int) -> int:
    """The most characters that the budget is assumed to hold; raises `PromptError` for a text with more."""
    room = max(budget_tokens, 0)
    if len(text) > MAX_TOKEN_CHARACTERS * room:
        raise PromptError(
            f"The question has {len(text):,} characters and there is room for {room:,} tokens, which are at most "
            f"{MAX_TOKEN_CHARACTERS * room:,} characters. {SHORTEN}"
        )
    return MAX_TOKEN_CHARACTERS * room


def _within_characters(turns: Sequence[Turn], convert: Callable[[Turn], TurnTexts], limit: int) -> list[TurnTexts]:
    """The texts of as many turns, newest first, as have `limit` characters in all, with a space after each text."""
    converted: list[TurnTexts] = []
    for turn in reversed(turns):
        texts = convert(turn)
        limit -= sum(len(text) + 1 for text in texts)
        if limit < 0:
            break
        converted.append(texts)
    return converted


def _largest_fitting(maximum: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to `maximum` that fits, or 0; every number below one that fits is assumed to fit. The last
    call of `fits` that returns True is for this number."""
    low, step = 0, 1
    while low < maximum and fits(min(low + step, maximum)):  # in growing steps, since few of many may fit
        low, step = min(low + step, maximum), step * 2
    high = min(low + step, maximum + 1)  # the smallest that does not fit, or is above the maximum
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _apply_style(question: str, style: PromptStyle, language: Language) -> str:
    """The question in the style's template; the caption prompt for an empty one."""
    if not question:
        template = style.caption
    elif is_question(question):
        template = style.question
    elif not style.multilingual or mentions_language(question):
        return question
    else:
        template, question = style.instruction, question.rstrip(" .。।۔")
    return template.replace("{L}", language.prompt_name).replace("{q}", question)


def _join_turn(turn: Turn) -> str:
    """An earlier turn as one text; only the answer of a request for a caption."""
    question, answer = clean(turn[0]), clean(turn[1])
    if not answer.rstrip(CLOSERS).endswith(tuple(SENTENCE_ENDS)):
        answer += "."
    if is_wordless(question):
        return answer
    return f"Question: {question} Answer: {answer}" if is_question(question) else f"{question} {answer}"
