"""Build the prompt of a conversation, within a budget of tokens.

Depends on the prompt styles' templates, and on a tokenize or render function that the caller passes. Must not import a
tokenizer, an image or a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blip_space.errors import PromptError
from blip_space.history import Turn
from blip_space.languages import Language, mentions_language
from blip_space.prompts.cleaning import (
    CLOSERS,
    QUESTION_MARKS,
    clean,
    clean_lines,
    clean_start,
    is_question,
    is_wordless,
)
from blip_space.prompts.styles import STYLES, PromptStyle

__all__ = [
    "STYLES",
    "ComposedPrompt",
    "PromptStyle",
    "RenderedPrompt",
    "TurnTexts",
    "check_characters",
    "clean",
    "clean_lines",
    "compose",
    "compose_chat",
    "is_question",
]

TurnTexts = tuple[str, ...]
"""An earlier turn as it is put into the prompt: one text, or for a chat template its question and its answer."""

MAX_PROMPT_CHARACTERS = 200_000
"""Longer prompts are rejected before they are tokenised."""

MAX_TOKEN_CHARACTERS = 20
"""A text with more characters than this per token of the budget is assumed not to fit, and is not tokenised. In every
supported language the tokens of words are shorter; only long runs of one character have longer tokens."""

SENTENCE_ENDS = QUESTION_MARKS.replace(";", "") + ".!。！．｡।॥۔።։…‼၊။។៕᙮"
"""An answer that ends with one of these gets no full stop."""

SHORTEN = "Shorten it, or lower max_new_tokens."


@dataclass(frozen=True)
class RenderedPrompt:
    """A conversation as text, and its token ids. An image belongs before `ids[i]` for each `i` in `image_positions`."""

    text: str
    ids: Sequence[int]
    image_positions: tuple[int, ...] = ()


Cleaner = Callable[[str], str]
Render = Callable[[Sequence[TurnTexts], str], RenderedPrompt]
"""A function that renders earlier turns, oldest first, and the newest question."""


@dataclass(frozen=True)
class ComposedPrompt:
    """A prompt, its token ids, and which turns are in it. `image_positions` are those of `RenderedPrompt`."""

    text: str
    ids: tuple[int, ...]
    kept_turns: tuple[Turn, ...]
    dropped_turns: tuple[Turn, ...]
    image_positions: tuple[int, ...] = ()


def compose(
    turns: Sequence[Turn],
    question: str,
    *,
    style: PromptStyle,
    language: Language,
    budget_tokens: int,
    tokenize: Callable[[str], Sequence[int]],
) -> ComposedPrompt:
    """A prompt with as many of the newest turns as fit into `budget_tokens`, and the question after them.

    Whole turns are dropped, oldest first; the question is never dropped and never cut. A question without words asks
    for a caption. Raises `PromptError` with both numbers if the question alone is longer than `budget_tokens`.

    `tokenize` returns the token ids of a text; more turns are assumed to have more tokens. It is called about
    `2 log2(turns)` times, and only with turns that could fit by `MAX_TOKEN_CHARACTERS`.
    """
    newest = _apply_style(_clean_question(question, clean, budget_tokens), style, language)

    def render(earlier: Sequence[TurnTexts], newest: str) -> RenderedPrompt:
        text = " ".join(filter(None, [*(text for (text,) in earlier), newest]))
        return RenderedPrompt(text, tokenize(text))

    def convert(turn: Turn) -> TurnTexts:
        return (_join_turn(*turn),)

    return _fit(turns, newest, cleaner=clean, convert=convert, render=render, budget_tokens=budget_tokens)


def compose_chat(
    turns: Sequence[Turn],
    question: str,
    *,
    style: PromptStyle,
    language: Language,
    budget_tokens: int,
    render: Render,
) -> ComposedPrompt:
    """`compose` for a model that was trained on conversations. `render` applies the model's chat template to pairs of a
    question and an answer, oldest first, and to the newest question.

    Texts keep their lines. An earlier question without words asked for a caption, and becomes the caption prompt.
    """
    newest = _apply_style(_clean_question(question, clean_lines, budget_tokens), style, language)

    def convert(turn: Turn) -> TurnTexts:
        earlier, answer = turn
        return _apply_style("" if is_wordless(earlier) else earlier, style, language), answer

    return _fit(turns, newest, cleaner=clean_lines, convert=convert, render=render, budget_tokens=budget_tokens)


def _fit(
    turns: Sequence[Turn],
    newest: str,
    *,
    cleaner: Cleaner,
    convert: Callable[[Turn], TurnTexts],
    render: Render,
    budget_tokens: int,
) -> ComposedPrompt:
    """The prompt that `render` returns for `newest` after as many of the newest `turns` as fit into `budget_tokens`."""
    max_characters = _check_length(newest, budget_tokens)
    best = render((), newest)
    if len(best.ids) > budget_tokens:
        raise PromptError(
            f"The question is too long: it has {len(best.ids):,} tokens, and {max(budget_tokens, 0):,} fit. {SHORTEN}",
            code="prompt_too_long",
            detail="percent",
            values=_excess(len(best.ids), budget_tokens),
        )
    earlier = _within_characters(turns, cleaner, convert, max_characters - len(newest))

    def fits(count: int) -> bool:
        nonlocal best
        rendered = render(earlier[:count][::-1], newest)
        if len(rendered.ids) > budget_tokens:
            return False
        best = rendered
        return True

    split = len(turns) - _largest_fitting(len(earlier), fits)
    return ComposedPrompt(best.text, tuple(best.ids), tuple(turns[split:]), tuple(turns[:split]), best.image_positions)


def check_characters(question: str) -> None:
    """Raise `PromptError` for a question that no model reads, however short its tokens are."""
    if len(question) > MAX_PROMPT_CHARACTERS:
        raise PromptError(
            f"The question has {len(question):,} characters and at most {MAX_PROMPT_CHARACTERS:,} are read. "
            "Shorten it.",
            code="prompt_too_long",
            detail="percent",
            values=_excess(len(question), MAX_PROMPT_CHARACTERS),
        )


def _clean_question(question: str, cleaner: Cleaner, budget_tokens: int) -> str:
    """The question, cleaned by `cleaner`; empty if it has no words. Raises `PromptError` if it is too long."""
    check_characters(question)
    characters = len(question.strip())
    question = clean_start(question, cleaner, MAX_TOKEN_CHARACTERS * max(budget_tokens, 0))
    _check_length(question, budget_tokens, characters=characters)
    return "" if is_wordless(question) else question


def _check_length(text: str, budget_tokens: int, *, characters: int = 0) -> int:
    """The most characters that a text of `budget_tokens` may have. Raises `PromptError` if this one has more; it names
    the number of `characters` of the whole text, of which this may be a start."""
    room = max(budget_tokens, 0)
    if len(text) > MAX_TOKEN_CHARACTERS * room:
        characters = max(characters, len(text))
        raise PromptError(
            f"The question is too long: it has {characters:,} characters, and at most about "
            f"{MAX_TOKEN_CHARACTERS * room:,} fit the {room:,} free tokens. {SHORTEN}",
            code="prompt_too_long",
            detail="percent",
            values=_excess(characters, MAX_TOKEN_CHARACTERS * room),
        )
    return MAX_TOKEN_CHARACTERS * room


def _excess(size: int, room: int) -> dict[str, int]:
    """By how many percent at least a question of this size has to be shortened; nothing where none fits."""
    return {"percent": 100 - 100 * room // size} if room > 0 else {}


def _within_characters(
    turns: Sequence[Turn], cleaner: Cleaner, convert: Callable[[Turn], TurnTexts], limit: int
) -> list[TurnTexts]:
    """The texts of as many of the newest turns as fit into `limit` characters, newest first; a space follows each."""
    converted: list[TurnTexts] = []
    for turn in reversed(turns):
        question, answer = (clean_start(text, cleaner, limit) for text in turn)
        if max(len(question), len(answer)) > limit:
            break
        texts = convert((question, answer))
        limit -= sum(len(text) + 1 for text in texts)
        if limit < 0:
            break
        converted.append(texts)
    return converted


def _largest_fitting(maximum: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to `maximum` for which `fits` returns True, or 0. Assumes that every smaller number fits
    too. The last call of `fits` that returns True is for the number returned, so its result may be kept."""
    low, step = 0, 1
    while low < maximum and fits(min(low + step, maximum)):  # in growing steps, since only a few of many turns may fit
        low, step = min(low + step, maximum), step * 2
    high = min(low + step, maximum + 1)  # the smallest that does not fit, or is above the maximum
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _apply_style(question: str, style: PromptStyle, language: Language) -> str:
    """The question in the template of `style` that suits it; an empty question gives the caption prompt."""
    if not question:
        template = style.caption
    elif is_question(question):
        template = style.question
    elif not style.multilingual or mentions_language(question):
        return question
    else:
        template, question = style.instruction, question.rstrip(" .。।۔")
    return template.replace("{L}", language.prompt_name).replace("{q}", question)


def _join_turn(question: str, answer: str) -> str:
    """An earlier turn, cleaned, as one text. Of a request for a caption it has only the answer."""
    if not answer.rstrip(CLOSERS).endswith(tuple(SENTENCE_ENDS)):
        answer += "."
    if is_wordless(question):
        return answer
    return f"Question: {question} Answer: {answer}" if is_question(question) else f"{question} {answer}"
