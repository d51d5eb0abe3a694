"""Renders a conversation to token ids with the checkpoint's own chat template; no user's text becomes a control token.

If the template's output were simply tokenized, a user who types `</s>` or `<image>` would end a turn or add an image.
Depends on transformers' tokenizers and template rendering. Must not import torch or a family. Nothing changes after
construction, so any number of threads may render at once.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers.processing_utils import ProcessorMixin
from transformers.utils.chat_template_utils import render_jinja_template

from blip_space.errors import ModelError
from blip_space.models.tokenizer import SHORT_TEXT, special_ids
from blip_space.prompts import RenderedPrompt, TurnTexts

Message = dict[str, Any]
Conversation = tuple[Sequence[TurnTexts], str]
"""Earlier questions with their answers, and the newest question."""

MessageFormat = Callable[[Conversation], list[Message]]

PLAIN_TEXT = "x"
"""A text that no template or tokenizer treats specially."""

TEXT_MARKER = f"text{secrets.token_hex(16)}n"
"""Stands for a text while a rendered template is split; its number and an `e` follow."""

CONTROL_MARKER = f"\ue000cut{secrets.token_hex(16)}"
"""Stands for a control token while texts are tokenized. No user can guess it."""


class ChatTemplate:
    """A checkpoint's chat template with its tokenizer."""

    def __init__(self, tokenizer: Any, template: str, *, image_token: int, name: str) -> None:
        """`image_token` is the id of the image placeholder; errors call the model `name`. Raises `ModelError` unless
        the template renders every text of a conversation once, and one image."""
        self._template = template
        # copied as strings, since other calls of the tokenizer may change its special tokens
        self._variables = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
        self._variables["image_token"] = str(tokenizer.convert_ids_to_tokens(image_token))
        self._image_token = image_token
        self._encoder = _PromptEncoder(tokenizer, self._variables.get("bos_token"))
        self._controls_by_turns: dict[int, list[int]] = {}
        self._messages = self._detect_format(name)
        self._encoder.add_template_controls(self._text(_plain_conversation(1)))

    def render(self, turns: Sequence[TurnTexts], question: str) -> RenderedPrompt:
        """The prompt of earlier `turns`, oldest first, and the newest question. The image is left out of its ids; the
        image's position is where the template puts it."""
        conversation = turns, question
        text = self._text(conversation)
        ids = self._encoder.encode(text)
        if self._encoder.control_tokens(ids) != self._expected_controls(len(turns)):
            ids = self._encoder.encode_pieces(*self._split(conversation))
        position = ids.index(self._image_token)
        return RenderedPrompt(text, ids[:position] + ids[position + 1 :], (position,))

    def _text(self, conversation: Conversation) -> str:
        return self._render_messages(self._messages(conversation))

    def _render_messages(self, messages: list[Message]) -> str:
        rendered, _ = render_jinja_template(
            [messages], chat_template=self._template, add_generation_prompt=True, **self._variables
        )
        return str(rendered[0])

    def _expected_controls(self, turns: int) -> list[int]:
        """The control tokens that the template itself renders for this number of turns."""
        if turns not in self._controls_by_turns:
            ids = self._encoder.encode(self._text(_plain_conversation(turns)))
            self._controls_by_turns[turns] = self._encoder.control_tokens(ids)
        return self._controls_by_turns[turns]

    def _split(self, conversation: Conversation) -> tuple[list[str], list[int]]:
        """The pieces of the rendered text between the template's own control tokens, and these tokens."""
        marked, texts = _mark_texts(conversation)
        pieces, tokens = self._encoder.split_at_controls(self._text(marked))
        marker = re.compile(f"{TEXT_MARKER}(\\d+)e")
        return [marker.sub(lambda match: texts[int(match[1])], piece) for piece in pieces], tokens

    def _detect_format(self, name: str) -> MessageFormat:
        """The first message format that the template renders; strings first, since a list might be printed as it is."""
        reasons = []
        for message_format in (_string_messages, _part_messages, self._string_messages_with_image):
            try:
                reason = self._format_error(message_format)
            except Exception as error:  # a template may raise anything
                reason = f"{type(error).__name__}: {error}"
            if not reason:
                return message_format
            reasons.append(reason)
        raise ModelError(
            f"The chat template of {name} cannot render a conversation about an image ({reasons[1][:200]}). Copy "
            "chat_template.jinja or tokenizer_config.json again from where the checkpoint came from."
        )

    def _format_error(self, message_format: MessageFormat) -> str:
        """What the template renders wrongly from messages of this format; empty if nothing."""
        for turns in range(3):
            marked, texts = _mark_texts(_plain_conversation(turns))
            text = self._render_messages(message_format(marked))
            if wrong := sum(text.count(f"{TEXT_MARKER}{number}e") != 1 for number in range(len(texts))):
                return f"it omits or repeats {wrong} of {len(texts)} texts"
            if (images := self._encoder.encode(text).count(self._image_token)) != 1:
                return f"it renders {images} images instead of 1"
        return ""

    def _string_messages_with_image(self, conversation: Conversation) -> list[Message]:
        """Messages for a text-only template: the image is on a line of its own before the first question."""
        messages = _string_messages(conversation)
        messages[0]["content"] = f"{self._variables['image_token']}\n{messages[0]['content']}"
        return messages


class _PromptEncoder:
    """Two copies of a tokenizer: `_tokenizer` recognises control tokens in a text, `_literal` does not.

    They are configured once, for the reason given in `tokenizer.FastTokenizer`.
    """

    def __init__(self, tokenizer: Any, bos_token: str | None) -> None:
        self._serialized = str(tokenizer.backend_tokenizer.to_str())
        self._tokenizer = _copy_tokenizer(self._serialized)
        self._control_ids = special_ids(tokenizer)
        self._unknown_ids = {tokenizer.unk_token_id} - {tokenizer.eos_token_id, tokenizer.bos_token_id}
        self._bos_token = bos_token
        plain, full = self._tokenizer.encode("a", add_special_tokens=False).ids, self._tokenizer.encode("a").ids
        begin = next(index for index in range(len(full)) if full[index : index + len(plain)] == plain)
        self._prefix, self._suffix = full[:begin], full[begin + len(plain) :]
        self._template_has_bos = False
        self._build_literal()

    def add_template_controls(self, template_text: str) -> None:
        """Treat every added token that the template renders as a control token, even if no file marks it as special,
        and find out whether the template renders BOS itself. For construction only."""
        added = self._tokenizer.get_added_tokens_decoder()
        ids = self._tokenizer.encode(template_text, add_special_tokens=False).ids
        self._control_ids |= {token for token in ids if token in added and added[token].content.strip()}
        self._template_has_bos = bool(self._bos_token) and template_text.lstrip().startswith(str(self._bos_token))
        self._build_literal()

    def encode(self, text: str) -> list[int]:
        """The ids of a rendered text, as transformers' processors compute them: with the tokenizer's own first and last
        tokens, unless the template renders BOS itself."""
        return self._add_special_tokens(_encode(self._tokenizer, text))

    def control_tokens(self, ids: Sequence[int]) -> list[int]:
        """The control tokens among the ids."""
        return [token for token in ids if token in self._control_ids]

    def split_at_controls(self, text: str) -> tuple[list[str], list[int]]:
        """The pieces of a text between its control tokens, and these tokens, one fewer than pieces."""
        (encoding,) = self._tokenizer.encode_batch([text], add_special_tokens=False)
        pieces, tokens, end = [], [], 0
        for token, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True):
            if token in self._control_ids:
                pieces.append(text[end:start])
                tokens.append(token)
                end = stop
        return [*pieces, text[end:]], tokens

    def encode_pieces(self, pieces: Sequence[str], tokens: Sequence[int]) -> list[int]:
        """The ids of `pieces`, in which no control token is recognised, joined by `tokens`. The pieces are tokenized as
        one string, since some tokenizers add a space at the beginning of a text, others at that of each piece."""
        controls, ids = iter(tokens), []
        for token in _encode(self._literal, CONTROL_MARKER.join(pieces)):
            if token == self._marker_id:
                ids.append(next(controls))
            elif token not in self._control_ids or token in self._unknown_ids:  # drop words that are control tokens
                ids.append(token)
        return self._add_special_tokens(ids)

    def _add_special_tokens(self, ids: list[int]) -> list[int]:
        return ids if self._template_has_bos else [*self._prefix, *ids, *self._suffix]

    def _build_literal(self) -> None:
        content = json.loads(self._serialized)
        for token in content["added_tokens"]:
            token["special"] |= token["id"] in self._control_ids
        self._literal = _copy_tokenizer(json.dumps(content))
        self._literal.encode_special_tokens = True
        # not special, so that it is recognised and splits the text like the control token that it stands for
        self._literal.add_tokens([AddedToken(CONTROL_MARKER, normalized=False, special=False)])
        self._marker_id = self._literal.token_to_id(CONTROL_MARKER)


def _copy_tokenizer(serialized: str) -> Any:
    tokenizer = Tokenizer.from_str(serialized)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _encode(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text without the tokenizer's first and last tokens; the GIL is released for a long text."""
    if len(text) <= SHORT_TEXT:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)
    (encoding,) = tokenizer.encode_batch_fast([text], add_special_tokens=False)
    return list(encoding.ids)


def _part_messages(conversation: Conversation) -> list[Message]:
    """Messages whose content is a list of parts, the image first."""
    messages = _string_messages(conversation)
    for message in messages:
        message["content"] = [{"type": "text", "text": message["content"]}]
    messages[0]["content"].insert(0, {"type": "image"})
    return messages


def _string_messages(conversation: Conversation) -> list[Message]:
    """Messages whose content is a string; the template adds the image."""
    turns, question = conversation
    texts = [*(text for turn in turns for text in turn), question]
    return [{"role": "assistant" if index % 2 else "user", "content": text} for index, text in enumerate(texts)]


def _plain_conversation(turns: int) -> Conversation:
    return [(PLAIN_TEXT, PLAIN_TEXT)] * turns, PLAIN_TEXT


def _mark_texts(conversation: Conversation) -> tuple[Conversation, list[str]]:
    """The conversation with a marker in place of each text, and the texts."""
    turns, question = conversation
    numbers = count()
    marked = [tuple(f"{TEXT_MARKER}{next(numbers)}e" for _ in turn) for turn in turns]
    return (marked, f"{TEXT_MARKER}{next(numbers)}e"), [*(text for turn in turns for text in turn), question]


def load_chat_template(folder: Path, tokenizer: Any) -> str:
    """A checkpoint's chat template: its processor's as transformers finds it, else its tokenizer's, else an empty
    string. Of several named templates it is `default`."""
    settings, _ = ProcessorMixin.get_processor_dict(folder, local_files_only=True)
    return _default_template(settings.get("chat_template")) or _default_template(tokenizer.chat_template)


def _default_template(template: str | Mapping[str, str] | None) -> str:
    return template if isinstance(template, str) else str((template or {}).get("default", ""))
