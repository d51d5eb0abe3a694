"""A request as the messages of OpenAI's protocol, and how many tokens they may have.

Nothing here knows the model's tokenizer, so tokens are estimated from bytes. Pure; must not import openai.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from blip_space.engine.request import Budget
from blip_space.history import Turn
from blip_space.languages import Language, find_language
from blip_space.prompts import ComposedPrompt, PromptStyle, RenderedPrompt, TurnTexts, compose_chat

BYTES_PER_TOKEN = 3
"""English text has about 4 bytes for each token, and other scripts have 3 bytes for each character."""

MESSAGE_TOKENS = 4
"""What a chat template adds to each message."""

IMAGE_TOKENS = 1_024
"""What an image is assumed to take of the context window, unless that is small."""

ESTIMATED = "These are estimates: the server of this model counts the tokens itself."
WINDOW_KNOWN = "{host} reports a window of {tokens:,} tokens."
WINDOW_UNKNOWN = "{host} reports no window; {tokens:,} tokens are assumed."

Message = dict[str, Any]


def compose_messages(
    turns: Sequence[Turn], question: str, *, language: str, context_tokens: int, max_new_tokens: int
) -> ComposedPrompt:
    """The conversation, whose text is the JSON of the messages without the image. The language of the answer is an
    instruction after each question. Raises `PromptError` if the question alone is longer than the window."""
    budget = context_tokens - image_tokens(context_tokens) - max_new_tokens
    return compose_chat(
        turns,
        question,
        style=_style(find_language(language)),
        language=find_language(language),
        budget_tokens=budget,
        render=_render,
    )


def with_image(prompt: ComposedPrompt, url: str) -> list[Message]:
    """The messages to send: the image, a data URL, stands before the oldest question, where every server takes it."""
    first, *others = json.loads(prompt.text)
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": first["content"]}]
    return [{"role": "user", "content": parts}, *others]


def image_tokens(context_tokens: int) -> int:
    """What an image is assumed to take: at most half of the window."""
    return min(IMAGE_TOKENS, context_tokens // 2)


def estimate_budget(
    turns: Sequence[Turn], question: str, *, language: str, context_tokens: int, max_new_tokens: int, note: str
) -> Budget:
    """How a prompt fills the window. Raises `PromptError` as `compose_messages` does."""
    prompt = compose_messages(
        turns, question, language=language, context_tokens=context_tokens, max_new_tokens=max_new_tokens
    )
    image, text = image_tokens(context_tokens), len(prompt.ids)
    return Budget(
        context_tokens=context_tokens,
        used_tokens=image + text + max_new_tokens,
        image_tokens=image,
        prompt_tokens=text,
        reply_tokens=max_new_tokens,
        kept_turns=len(prompt.kept_turns),
        dropped_turns=len(prompt.dropped_turns),
        prompt=prompt.text,
        note=note,
    )


def describe_window(host: str, tokens: int, *, is_reported: bool) -> str:
    """The note of a budget: where its numbers come from."""
    return f"{(WINDOW_KNOWN if is_reported else WINDOW_UNKNOWN).format(host=host, tokens=tokens)} {ESTIMATED}"


def estimate_tokens(text: str) -> int:
    """About how many tokens a message with this text has, rather too many than too few."""
    return MESSAGE_TOKENS - -len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN


def _style(language: Language) -> PromptStyle:
    name = language.english_name
    question = f"{{q}} Answer in {name}."
    return PromptStyle(
        caption=f"Describe this image in one sentence, in {name}.",
        question=question,
        instruction=question,
        multilingual=True,
    )


def _render(turns: Sequence[TurnTexts], newest: str) -> RenderedPrompt:
    texts = [text for turn in turns for text in turn] + [newest]
    roles = ("user", "assistant")
    messages = [{"role": roles[index % 2], "content": text} for index, text in enumerate(texts)]
    tokens = sum(estimate_tokens(message["content"]) for message in messages)
    return RenderedPrompt(json.dumps(messages, ensure_ascii=False), range(tokens))
