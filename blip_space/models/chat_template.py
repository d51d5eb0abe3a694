"""A conversation becomes token ids by the checkpoint's own chat template, in which no text forges a control token.

A template writes control tokens and the texts of a conversation into one text. Whoever types `</s>` or `<image>` would
end a turn, or put in an image, if that text were simply tokenised. Depends on a tokenizer of transformers and on
transformers' rendering; must not import torch or a family. Nothing is changed after construction, so any number of
threads may render at once.
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
Words = tuple[Sequence[TurnTexts], str]
"""Earlier questions with their answers, and the newest question."""

Form = Callable[[Words], list[Message]]

PLAIN = "x"
"""A text that no template and no tokenizer makes anything of."""

MARK = f"text{secrets.token_hex(16)}n"
"""What stands for a text while a template is cut into pieces; with a number behind it, and an `e`."""

CUT = f"\ue000cut{secrets.token_hex(16)}"
"""What stands for a control token while texts are tokenised. Nobody can type it."""


class ChatTemplate:
    """One checkpoint's template with its tokenizer."""

    def __init__(self, tokenizer: Any, template: str, *, image_token: int, name: str) -> None:
        """`image_token` is the id that stands for an image. Raises `ModelError`, which calls the model `name`, unless
        the template writes every text of a conversation, and one image."""
        self._template = template
        # the names as texts: any other call of the tokenizer may set it anew
        self._variables = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
        self._variables["image_token"] = str(tokenizer.convert_ids_to_tokens(image_token))
        self._image = image_token
        self._tokenizers = _Tokenizers(tokenizer, self._variables.get("bos_token"))
        self._controls: dict[int, list[int]] = {}
        self._messages = self._form(name)
        self._tokenizers.guard_names(self._text(_plain(1)))

    def render(self, turns: Sequence[TurnTexts], question: str) -> RenderedPrompt:
        """The prompt of a conversation: questions with their answers, oldest first, and the newest question. The
        image, which has no id, stands where the template puts it."""
        words = turns, question
        text = self._text(words)
        ids = self._tokenizers.encode(text)
        if self._tokenizers.controls(ids) != self._expected(len(turns)):
            ids = self._tokenizers.encode_pieces(*self._pieces(words))
        place = ids.index(self._image)
        return RenderedPrompt(text, ids[:place] + ids[place + 1 :], (place,))

    def _text(self, words: Words) -> str:
        return self._rendered(self._messages(words))

    def _rendered(self, messages: list[Message]) -> str:
        rendered, _ = render_jinja_template(
            [messages], chat_template=self._template, add_generation_prompt=True, **self._variables
        )
        return str(rendered[0])

    def _expected(self, turns: int) -> list[int]:
        """The control tokens that the template writes around so many turns."""
        if turns not in self._controls:
            self._controls[turns] = self._tokenizers.controls(self._tokenizers.encode(self._text(_plain(turns))))
        return self._controls[turns]

    def _pieces(self, words: Words) -> tuple[list[str], list[int]]:
        """What stands between the template's own control tokens, with the texts in it, and those tokens."""
        marked, texts = _marked(words)
        pieces, tokens = self._tokenizers.cut(self._text(marked))
        mark = re.compile(f"{MARK}(\\d+)e")
        return [mark.sub(lambda found: texts[int(found[1])], piece) for piece in pieces], tokens

    def _form(self, name: str) -> Form:
        """In which form the template reads messages; strings first, since a template that wants them may write a list
        as Python does."""
        reasons = []
        for form in (_strings, _parts, self._strings_with_image):
            try:
                reason = self._fault(form)
            except Exception as error:  # what a template raises is its author's choice
                reason = f"{type(error).__name__}: {error}"
            if not reason:
                return form
            reasons.append(reason)
        raise ModelError(
            f"The chat template of {name} does not write a conversation about an image ({reasons[1][:200]}). Copy "
            "chat_template.jinja or tokenizer_config.json again from where the checkpoint came from."
        )

    def _fault(self, form: Form) -> str:
        """What is wrong with the conversations that the template writes of messages in that form; empty if nothing."""
        for turns in range(3):
            marked, texts = _marked(_plain(turns))
            text = self._rendered(form(marked))
            lost = sum(text.count(f"{MARK}{number}e") != 1 for number in range(len(texts)))
            if lost:
                return f"it leaves {lost} of {len(texts)} texts out, or repeats them"
            images = self._tokenizers.encode(text).count(self._image)
            if images != 1:
                return f"it writes {images} images where there is one"
        return ""

    def _strings_with_image(self, words: Words) -> list[Message]:
        """For a template of texts only: the image stands on a line of its own before the first question."""
        messages = _strings(words)
        messages[0]["content"] = f"{self._variables['image_token']}\n{messages[0]['content']}"
        return messages


class _Tokenizers:
    """One tokenizer in two settings: with control tokens recognised in a text, and not.

    Both are copies that are set once: see `tokens.FastTokenizer`.
    """

    def __init__(self, tokenizer: Any, bos_token: str | None) -> None:
        self._serialised = str(tokenizer.backend_tokenizer.to_str())
        self._whole = _copy(self._serialised)
        self._control = special_ids(tokenizer)
        self._unknown = {tokenizer.unk_token_id} - {tokenizer.eos_token_id, tokenizer.bos_token_id}
        self._bos_token = bos_token
        own, around = self._whole.encode("a", add_special_tokens=False).ids, self._whole.encode("a").ids
        begin = next(place for place in range(len(around)) if around[place : place + len(own)] == own)
        self._before, self._after = around[:begin], around[begin + len(own) :]
        self._writes_bos = False
        self._set_guarded()

    def guard_names(self, template_text: str) -> None:
        """Take every added token that the template writes for a control token, however its file marks it, and find out
        whether the template writes the first one itself. From construction only."""
        added = self._whole.get_added_tokens_decoder()
        written = self._whole.encode(template_text, add_special_tokens=False).ids
        self._control |= {token for token in written if token in added and added[token].content.strip()}
        self._writes_bos = bool(self._bos_token) and template_text.lstrip().startswith(str(self._bos_token))
        self._set_guarded()

    def encode(self, text: str) -> list[int]:
        """As transformers' processors do it: the tokenizer's own first and last tokens are put around the text, unless
        the template has written the first."""
        return self._around(_ids(self._whole, text))

    def controls(self, ids: Sequence[int]) -> list[int]:
        """The control tokens among ids."""
        return [token for token in ids if token in self._control]

    def cut(self, text: str) -> tuple[list[str], list[int]]:
        """A text cut at its control tokens: the pieces between them, one more than those, and their ids."""
        (encoding,) = self._whole.encode_batch([text], add_special_tokens=False)
        pieces, tokens, end = [], [], 0
        for token, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True):
            if token in self._control:
                pieces.append(text[end:start])
                tokens.append(token)
                end = stop
        return [*pieces, text[end:]], tokens

    def encode_pieces(self, pieces: Sequence[str], tokens: Sequence[int]) -> list[int]:
        """The ids of pieces between control tokens, in which nothing is one. Each is tokenised where it stands, since
        some tokenizers write a space at the beginning of a text, and others of each piece."""
        left, ids = iter(tokens), []
        for token in _ids(self._guarded, CUT.join(pieces)):
            if token == self._cut:
                ids.append(next(left))
            elif token not in self._control or token in self._unknown:  # some vocabularies hold the names as words
                ids.append(token)
        return self._around(ids)

    def _around(self, ids: list[int]) -> list[int]:
        return ids if self._writes_bos else [*self._before, *ids, *self._after]

    def _set_guarded(self) -> None:
        content = json.loads(self._serialised)
        for token in content["added_tokens"]:
            token["special"] |= token["id"] in self._control
        self._guarded = _copy(json.dumps(content))
        self._guarded.encode_special_tokens = True
        # which is not special, so it is found, and parts texts as the control token in its place does
        self._guarded.add_tokens([AddedToken(CUT, normalized=False, special=False)])
        self._cut = self._guarded.token_to_id(CUT)


def _copy(serialised: str) -> Any:
    copied = Tokenizer.from_str(serialised)
    copied.no_truncation()
    copied.no_padding()
    return copied


def _ids(tokenizer: Any, text: str) -> list[int]:
    """Without the tokenizer's first and last; a long text releases the interpreter's lock."""
    if len(text) <= SHORT_TEXT:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)
    (encoding,) = tokenizer.encode_batch_fast([text], add_special_tokens=False)
    return list(encoding.ids)


def _parts(words: Words) -> list[Message]:
    """Messages whose content is a list of parts, the image first."""
    messages = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in _strings(words)]
    messages[0]["content"].insert(0, {"type": "image"})
    return messages


def _strings(words: Words) -> list[Message]:
    """Messages whose content is their text; the template puts the image in by itself."""
    turns, question = words
    texts = [*(text for turn in turns for text in turn), question]
    return [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(texts)]


def _plain(turns: int) -> Words:
    return [(PLAIN, PLAIN)] * turns, PLAIN


def _marked(words: Words) -> tuple[Words, list[str]]:
    """The conversation with a mark for each text, and the texts."""
    turns, question = words
    numbers = count()
    marked = [tuple(f"{MARK}{next(numbers)}e" for _ in turn) for turn in turns], f"{MARK}{next(numbers)}e"
    return marked, [*(text for turn in turns for text in turn), question]


def load_chat_template(folder: Path, tokenizer: Any) -> str:
    """The chat template of a checkpoint where transformers' processors look for it, and then its tokenizer's; empty
    where it has none. Of several, which have names, it is the default one."""
    settings, _ = ProcessorMixin.get_processor_dict(folder, local_files_only=True)
    return _default(settings.get("chat_template")) or _default(tokenizer.chat_template)


def _default(template: str | Mapping[str, str] | None) -> str:
    return template if isinstance(template, str) else str((template or {}).get("default", ""))
