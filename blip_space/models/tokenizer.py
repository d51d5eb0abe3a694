"""Converts text to token ids and back.

Depends on one checkpoint's tokenizer, in any of its three file formats. Must not import torch or the model. Nothing
changes after construction, so any number of threads may encode and decode at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from sentencepiece import SentencePieceProcessor
from transformers import GPT2Tokenizer, PreTrainedTokenizerFast

from blip_space.errors import ModelError

SPECIAL_NAMES = re.compile(
    r"</?s>|<(?:pad|unk|mask|bos|eos|sep|cls|image|extra_id_\d+)>|\[(?:PAD|UNK|MASK|BOS|EOS|SEP|CLS)\]|<\|[^<>|]+\|>",
    re.IGNORECASE,
)
"""The names of special tokens, whether or not a checkpoint's files mark them as special."""

FILE_FORMATS = (("tokenizer.json",), ("spiece.model",), ("vocab.json", "merges.txt"))

WORD_STARTS = "▁Ġ "
"""The characters with which SentencePiece and byte-level vocabularies mark the beginning of a word."""


class Backend(Protocol):
    """The tokenizer of a library. Its calls change nothing and, for long inputs, let other threads run meanwhile."""

    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: Sequence[int]) -> str: ...
    def special_ids(self) -> frozenset[int]: ...


SHORT_TEXT, SHORT_IDS = 4_096, 512
"""Up to these lengths, in characters and ids, a call takes a millisecond at most, and keeps the GIL: a thread that
releases it waits up to five milliseconds (`sys.getswitchinterval`) to get it back."""


class Tokenizer:
    """The tokenizer of one checkpoint; any thread may use it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._hidden_ids = backend.special_ids()

    def encode(self, text: str) -> list[int]:
        """The ids of a text for the model, including BOS or `</s>` if this tokenizer adds them.

        Names of special tokens are not recognised in the text: a user who types `<image>` adds no image.
        """
        return self._backend.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids` without special tokens, its spaces unchanged."""
        return self._backend.decode([token for token in ids if token not in self._hidden_ids])


class FastTokenizer:
    """The Rust tokenizer inside a transformers tokenizer, configured once; the latter must not be called afterwards.

    Every call of transformers' tokenizer sets truncation, padding and special tokens again. Another thread may then use
    these settings (tokenizers 0.23.3), or the call fails while one reads ("Already borrowed", earlier versions). Rust's
    `encode` and `decode` hold the GIL all the time, 0.06 s for 200 kB; batch calls release it.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._special_ids = special_ids(tokenizer)
        self._rust = tokenizer.backend_tokenizer
        self._rust.no_truncation()
        self._rust.no_padding()
        self._rust.encode_special_tokens = True

    def encode(self, text: str) -> list[int]:
        if len(text) <= SHORT_TEXT:
            return list(self._rust.encode(text).ids)
        (encoding,) = self._rust.encode_batch_fast([text])
        return list(encoding.ids)

    def decode(self, ids: Sequence[int]) -> str:
        if len(ids) <= SHORT_IDS:
            return str(self._rust.decode(ids, skip_special_tokens=True))
        (text,) = self._rust.decode_batch([ids], skip_special_tokens=True)
        return str(text)

    def special_ids(self) -> frozenset[int]:
        return self._special_ids


class SentencePiece:
    """A tokenizer in T5's and mT5's own format, read by its own library; transformers would also require protobuf."""

    def __init__(self, path: Path) -> None:
        self._pieces = SentencePieceProcessor(model_file=str(path))

    def encode(self, text: str) -> list[int]:
        return [*self._pieces.encode(text), self._pieces.eos_id()]

    def decode(self, ids: Sequence[int]) -> str:
        # the model's vocabulary is padded beyond the tokenizer's
        return str(self._pieces.decode([token for token in ids if token < self._pieces.get_piece_size()]))

    def special_ids(self) -> frozenset[int]:
        """The pieces that are not text: control pieces, unknown and unused ones, and those with special names."""
        pieces = self._pieces
        tests = (pieces.is_control, pieces.is_unknown, pieces.is_unused)
        size = pieces.get_piece_size()
        marked = {token for token in range(size) if any(test(token) for test in tests)}
        return frozenset(marked | _ids_by_name({pieces.id_to_piece(token): token for token in range(size)}))


def load_tokenizer(folder: Path, *, name: str) -> Tokenizer:
    """The tokenizer of a checkpoint. Raises `ModelError`, which calls the model `name`, if it is missing or unreadable.

    `tokenizer.json` is complete, so it is read directly: the classes that a checkpoint names rebuild it from its
    vocabulary, and differ between versions of transformers. Older checkpoints have only a vocabulary.
    """
    try:
        tokenizer = _load_any_format(folder)
        if tokenizer:
            tokenizer.encode("a")  # some wrong settings fail only here
            return tokenizer
    except Exception as error:  # the Rust reader raises plain Exception for a broken file
        raise ModelError(
            f"The tokenizer of {name} cannot be read. Copy its files (tokenizer.json and the like) again from where "
            "the checkpoint came from."
        ) from error
    raise ModelError(
        f"{name} has no tokenizer (tokenizer.json, spiece.model, or vocab.json with merges.txt). "
        "Copy the missing file into the folder, or download the checkpoint again."
    )


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has all files of one of the three formats."""
    return any(all((folder / name).is_file() for name in names) for names in FILE_FORMATS)


def _load_any_format(folder: Path) -> Tokenizer | None:
    rust, pieces, vocabulary = (all((folder / name).is_file() for name in names) for names in FILE_FORMATS)
    if rust:
        return Tokenizer(FastTokenizer(PreTrainedTokenizerFast.from_pretrained(folder)))
    if pieces:
        return Tokenizer(SentencePiece(folder / "spiece.model"))
    return Tokenizer(FastTokenizer(GPT2Tokenizer.from_pretrained(folder))) if vocabulary else None


def start_token(config: Any) -> int:
    """The first token that an encoder-decoder's decoder reads; T5 checkpoints that name none begin with padding."""
    candidates = (config.decoder_start_token_id, config.bos_token_id, config.pad_token_id, 0)
    return int(next(token for token in candidates if token is not None))


def stop_tokens(hf_model: Any) -> frozenset[int]:
    """The ids that end an answer: each `eos_token_id` of the generation configs of the model and its language model.

    `hf_model` may be a language model. A config may be missing or give none, one or several; ids outside the vocabulary
    are ignored.
    """
    modules = (hf_model, getattr(hf_model, "language_model", None))
    size = int(getattr(hf_model.config, "text_config", hf_model.config).vocab_size)
    return frozenset(token for module in modules for token in _eos_tokens(module) if 0 <= token < size)


def _eos_tokens(module: Any) -> list[int]:
    value = getattr(getattr(module, "generation_config", None), "eos_token_id", None)
    return [token for token in (value if isinstance(value, list | tuple) else [value]) if type(token) is int]


def special_ids(tokenizer: Any) -> frozenset[int]:
    """The ids of all special tokens, even if the tokenizer's files do not mark them as special."""
    marked = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    return frozenset(marked | _ids_by_name(tokenizer.get_vocab()) | set(tokenizer.all_special_ids))


def _ids_by_name(vocabulary: Mapping[str, int]) -> set[int]:
    return {token for piece, token in vocabulary.items() if SPECIAL_NAMES.fullmatch(piece.strip(WORD_STARTS))}
