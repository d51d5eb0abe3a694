"""A conversation becomes a prompt that fits its budget.

Pure: knows templates and how to count with a function it is given; knows no tokenizer, no image and no model. The
templates are LAVIS's for BLIP-2 and those of mBLIP's evaluation, the prompts behind their published figures.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from blip_space.errors import PromptError, quoted
from blip_space.languages import Language, mentioned

Turn = tuple[str, str]
"""What a user asked and what the assistant answered."""

MAX_PROMPT_CHARACTERS = 200_000
"""Longer prompts are refused before they are tokenised."""

MAX_MESSAGES = 1_000
MAX_HISTORY_BYTES = 1_000_000
NO_TEXT_PARTS = ("file", "image", "image_url", "input_image", "audio", "video", "component")
"""How Gradio and OpenAI's two interfaces call a part of a message that is no text, whatever words it carries."""

ROLES = ("user", "assistant")
HISTORY_FORM = (
    'Send whole turns, oldest first: [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}, …].'
)

QUESTION_MARKS = "?？؟⁇⁈፧՞;;꘏⸮"
"""Question marks of every script here; Greek writes a semicolon (U+037E or the plain one)."""

SENTENCE_ENDS = QUESTION_MARKS.replace(";", "") + ".!。！．｡।॥۔።։…‼၊။។៕᙮"
"""An answer that ends with one of these needs no further stop."""

CLOSERS = "\"'”’»」』)]） "


@dataclass(frozen=True)
class Style:
    """How one family of models was taught to be asked. `{q}` is the words, `{L}` the language's prompt name."""

    caption: str
    question: str
    instruction: str
    stops: tuple[str, ...] = ()
    multilingual: bool = False


STYLES: dict[str, Style] = {
    "blip2": Style(caption="", question="Question: {q} Answer:", instruction="{q}", stops=("\n", "Question:")),
    "blip2-coco": Style(
        caption="a photo of", question="Question: {q} Answer:", instruction="{q}", stops=("\n", "Question:")
    ),
    "mblip": Style(
        caption="Caption in {L}: ",
        question="Question: {q} Short answer in {L}:",
        instruction="{q} in {L}.",
        multilingual=True,
    ),
}


@dataclass(frozen=True)
class Composition:
    """The prompt as it is sent, its length in tokens, and what of the conversation is in it."""

    text: str
    tokens: int
    kept: tuple[Turn, ...]
    dropped: tuple[Turn, ...]


def clean(text: str) -> str:
    """The text without control characters and with every run of white space made one space.

    Joiners that Indic, Persian and emoji spelling needs are not control characters and stay.
    """
    spaced = "".join(" " if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") else char for char in text)
    return re.sub(r"\s+", " ", spaced).strip()


def is_wordless(text: str) -> bool:
    """Whether nothing is asked: there is only white space, punctuation and what nobody sees. A question mark asks."""
    return not is_question(text) and all(unicodedata.category(char)[0] in "CPZ" for char in text)


def is_question(text: str) -> bool:
    """Whether the words end with a question mark of any script, quotes and brackets aside."""
    bare = text.rstrip(CLOSERS)
    if bare.endswith((";", "\u037e")):
        return any(unicodedata.name(char, "").startswith("GREEK") for char in bare if char.isalpha())
    return bare.endswith(tuple(QUESTION_MARKS))


def read_history(messages: Any) -> tuple[Turn, ...]:
    """Turns of a list of `{"role": "user" | "assistant", "content": …}`, alternating, oldest first, whole turns.

    `content` is a string, or a list of strings and of parts such as `{"type": "text", "text": str}`, whose texts are
    joined; other parts, and other keys of a message, are passed over. Raises `PromptError` for anything else, beyond
    `MAX_MESSAGES`, and beyond `MAX_HISTORY_BYTES` of words.
    """
    if not isinstance(messages, list):
        raise PromptError(f"The history must be a list of messages. {HISTORY_FORM}")
    if len(messages) > MAX_MESSAGES:
        raise PromptError(
            f"The history has {len(messages):,} messages and at most {MAX_MESSAGES:,} are read. Send the newest only."
        )
    contents = [_content(message, "assistant" if place % 2 else "user") for place, message in enumerate(messages)]
    if len(contents) % 2:
        raise PromptError(f"The history ends with a question that has no answer. {HISTORY_FORM}")
    if sum(len(content.encode("utf-8", "replace")) for content in contents) > MAX_HISTORY_BYTES:
        raise PromptError(f"The history is larger than {MAX_HISTORY_BYTES // 10**6} MB. Send the newest turns only.")
    return tuple(zip(contents[::2], contents[1::2], strict=True))


def _content(message: Any, role: str) -> str:
    found = message.get("role") if isinstance(message, dict) else None
    if isinstance(found, str) and found not in ROLES:
        raise PromptError(
            f"The history does not alternate between user and assistant: it holds a message of the role "
            f"{quoted(found)}, which is not read. Leave it out, or put what it says into the prompt."
        )
    if found != role:
        raise PromptError(f"The history does not alternate between user and assistant. {HISTORY_FORM}")
    return _text_of(message.get("content"))


def _text_of(content: Any) -> str:
    """The text of a message: a string, or the parts of text among a list of parts, as Gradio 6 and OpenAI write it."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [text for part in parts if (text := _text_of_part(part)) is not None]
    if not texts:
        raise PromptError(
            "A message of the history has no text. Only text is read of earlier turns: leave out messages that hold a "
            f"file alone, and send the picture as the image of the call. {HISTORY_FORM}"
        )
    return " ".join(texts)


def _text_of_part(part: Any) -> str | None:
    """The text that a part is or holds; None for a file, a picture or a component, which earlier turns have no use
    for."""
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type") not in NO_TEXT_PARTS and isinstance(part.get("text"), str):
        return str(part["text"])
    return None


def compose(
    turns: Sequence[Turn],
    question: str,
    *,
    style: Style,
    language: Language,
    budget_tokens: int,
    count_tokens: Callable[[str], int],
) -> Composition:
    """The longest run of newest turns that fits the budget, and the newest question after it, as one prompt.

    Whole turns fall, oldest first; the question never falls and is never cut. A question without words asks for a
    caption. Raises `PromptError` with both numbers when the question alone is longer than `budget_tokens`.
    """
    if len(question) > MAX_PROMPT_CHARACTERS:
        raise PromptError(
            f"The question has {len(question):,} characters and at most {MAX_PROMPT_CHARACTERS:,} are read. Shorten it."
        )
    text = newest = _newest(_asked(question), style, language)
    tokens = count_tokens(newest)
    if tokens > budget_tokens:
        raise PromptError(
            f"The question is {tokens:,} tokens long and there is room for {max(budget_tokens, 0):,}. "
            "Shorten it, or ask for fewer new tokens."
        )
    kept = 0
    for count in range(1, len(turns) + 1):
        candidate = " ".join(filter(None, [*map(_earlier, turns[-count:]), newest]))
        length = count_tokens(candidate)
        if length > budget_tokens:
            break
        text, tokens, kept = candidate, length, count
    split = len(turns) - kept
    return Composition(text, tokens, kept=tuple(turns[split:]), dropped=tuple(turns[:split]))


def _asked(question: str) -> str:
    """What is asked as it is sent; without words it is a request for a caption."""
    text = clean(question)
    return "" if is_wordless(text) else text


def _newest(question: str, style: Style, language: Language) -> str:
    if not question:
        return style.caption.format(L=language.prompt_name)
    if is_question(question):
        return _fill(style.question, question, language)
    if not style.multilingual or mentioned(question):
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
