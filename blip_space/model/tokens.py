"""Text becomes token ids and back.

Knows one checkpoint's tokenizer, whichever of the three kinds of files it came in; knows nothing of torch or of the
model. Safe from any thread: a Rust tokenizer refuses to be changed while it is read, so a lock lets one in at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor
from transformers import GPT2Tokenizer, PreTrainedTokenizerFast

from blip_space.errors import ModelError


class Tokens:
    """One tokenizer behind a lock."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()

    def encode(self, text: str) -> list[int]:
        """The ids that the model reads, BOS or `</s>` included as this tokenizer adds them.

        The names of special tokens are not looked for in the text: nobody puts a picture in by typing `<image>`.
        """
        with self._lock:
            return list(self._tokenizer(text, split_special_tokens=True, verbose=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these ids without special tokens, its spaces as they were written."""
        with self._lock:
            return str(self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


class SentencePiece:
    """T5's and mT5's own format, read by the library that wrote it; transformers would want protobuf as well."""

    def __init__(self, path: Path) -> None:
        self._pieces = SentencePieceProcessor(model_file=str(path))

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [*self._pieces.encode(text), self._pieces.eos_id()]}

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        # the model's vocabulary is padded beyond the tokenizer's
        known = [token for token in ids if token < self._pieces.get_piece_size()]
        return str(self._pieces.decode(known))


def read_tokens(folder: Path, *, name: str) -> Tokens:
    """The tokenizer of a checkpoint; `ModelError`, which calls the model `name`, when it is missing or unreadable.

    `tokenizer.json` is the whole tokenizer, so it is read as it is: the classes that a checkpoint names rebuild it
    from its vocabulary, and differ between versions of transformers. Older folders have the vocabulary only.
    """
    try:
        if (folder / "tokenizer.json").is_file():
            return Tokens(PreTrainedTokenizerFast.from_pretrained(folder))
        if (folder / "spiece.model").is_file():
            return Tokens(SentencePiece(folder / "spiece.model"))
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            return Tokens(GPT2Tokenizer.from_pretrained(folder))
    except Exception as error:  # the Rust reader raises plain Exception for a broken file
        raise ModelError(f"The tokenizer of {name} cannot be read. Download the checkpoint again.") from error
    raise ModelError(
        f"{name} has no tokenizer (tokenizer.json, spiece.model, or vocab.json with merges.txt). "
        "Copy the missing file into the folder, or download the checkpoint again."
    )


def start_token(settings: Any) -> int:
    """What an encoder-decoder's answer begins with; T5 checkpoints that do not say so begin with padding."""
    named = (settings.decoder_start_token_id, settings.bos_token_id, settings.pad_token_id, 0)
    return int(next(token for token in named if token is not None))


def stop_tokens(settings: Any) -> frozenset[int]:
    """The tokens that end an answer, of a `generation_config`: none, one or several."""
    found = settings.eos_token_id
    return frozenset([] if found is None else [found] if isinstance(found, int) else found)
