"""Text becomes token ids and back.

Depends on one checkpoint's tokenizer, whichever of the three kinds of files it came in; must not import torch or the
model. Nothing is changed after construction, so any number of threads may encode and decode at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from sentencepiece import SentencePieceProcessor
from transformers import GPT2Tokenizer, PreTrainedTokenizerFast

from blip_space.errors import ModelError

NAMES = re.compile(
    r"</?s>|<(?:pad|unk|mask|bos|eos|sep|cls|image|extra_id_\d+)>|\[(?:PAD|UNK|MASK|BOS|EOS|SEP|CLS)\]|<\|[^<>|]+\|>",
    re.IGNORECASE,
)
"""What special tokens are called in the vocabularies of these families, whether or not a file marks them as special."""

KINDS = (("tokenizer.json",), ("spiece.model",), ("vocab.json", "merges.txt"))
"""The files of a tokenizer, by kind."""

WORD_STARTS = "▁Ġ "
"""What SentencePiece and byte-level vocabularies write where a word begins."""


class Backend(Protocol):
    """A library's tokenizer, of which these calls change nothing and let other threads go on meanwhile."""

    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: Sequence[int]) -> str: ...
    def special_ids(self) -> frozenset[int]: ...


SHORT_TEXT, SHORT_IDS = 4_096, 512
"""What is no longer takes a millisecond at most; to release the interpreter's lock for that costs more, since who has
released it waits up to five milliseconds (`sys.getswitchinterval`) until it has it again."""


class Tokenizer:
    """One tokenizer. From any thread."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._hidden = backend.special_ids()

    def encode(self, text: str) -> list[int]:
        """The ids that the model reads, BOS or `</s>` included as this tokenizer adds them.

        The names of special tokens are not looked for in the text: nobody puts a picture in by typing `<image>`.
        """
        return self._backend.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these ids without special tokens, its spaces as they were written."""
        return self._backend.decode([token for token in ids if token not in self._hidden])


class FastTokenizer:
    """The Rust tokenizer inside one of transformers', set once; that one must not be called afterwards.

    Each call of transformers' own sets truncation, padding and special tokens again, which other threads then read
    (tokenizers 0.23.3), or which fails while one reads ("Already borrowed", earlier versions). `encode` and `decode`
    keep the interpreter's lock as long as they take, 0.06 s for 200 kB; the calls for batches release it.
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
    """T5's and mT5's own format, read by the library that wrote it; transformers would want protobuf as well."""

    def __init__(self, path: Path) -> None:
        self._pieces = SentencePieceProcessor(model_file=str(path))

    def encode(self, text: str) -> list[int]:
        return [*self._pieces.encode(text), self._pieces.eos_id()]

    def decode(self, ids: Sequence[int]) -> str:
        # the model's vocabulary is padded beyond the tokenizer's
        known = [token for token in ids if token < self._pieces.get_piece_size()]
        return str(self._pieces.decode(known))

    def special_ids(self) -> frozenset[int]:
        """The pieces that are no text: those that steer, stand for the unknown, are not used, or are called so."""
        pieces = self._pieces
        tests = (pieces.is_control, pieces.is_unknown, pieces.is_unused)
        size = pieces.get_piece_size()
        marked = {token for token in range(size) if any(test(token) for test in tests)}
        return frozenset(marked | _named({pieces.id_to_piece(token): token for token in range(size)}))


def load_tokenizer(folder: Path, *, name: str) -> Tokenizer:
    """The tokenizer of a checkpoint; `ModelError`, which calls the model `name`, when it is missing or unreadable.

    `tokenizer.json` is the whole tokenizer, so it is read as it is: the classes that a checkpoint names rebuild it
    from its vocabulary, and differ between versions of transformers. Older folders have the vocabulary only.
    """
    try:
        tokens = _read(folder)
        if tokens:
            tokens.encode("a")  # some wrong settings show only here
            return tokens
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
    """Whether the files of one of the three kinds are there."""
    return any(all((folder / name).is_file() for name in names) for names in KINDS)


def _read(folder: Path) -> Tokenizer | None:
    rust, pieces, vocabulary = (all((folder / name).is_file() for name in names) for names in KINDS)
    if rust:
        return Tokenizer(FastTokenizer(PreTrainedTokenizerFast.from_pretrained(folder)))
    if pieces:
        return Tokenizer(SentencePiece(folder / "spiece.model"))
    return Tokenizer(FastTokenizer(GPT2Tokenizer.from_pretrained(folder))) if vocabulary else None


def start_token(settings: Any) -> int:
    """What an encoder-decoder's answer begins with; T5 checkpoints that do not say so begin with padding."""
    named = (settings.decoder_start_token_id, settings.bos_token_id, settings.pad_token_id, 0)
    return int(next(token for token in named if token is not None))


def stop_tokens(network: Any) -> frozenset[int]:
    """The tokens that end an answer: those of the checkpoint's `generation_config` and of its language model's.

    `network` is a whole one, whose language model may have no settings of its own, or a language model alone. Each may
    name none, one or several; what is no token is left out.
    """
    parts = (network, getattr(network, "language_model", None))
    return frozenset(token for part in parts for token in _stops(part) if 0 <= token < _vocabulary_size(network))


def _stops(part: Any) -> list[int]:
    found = getattr(getattr(part, "generation_config", None), "eos_token_id", None)
    return [token for token in (found if isinstance(found, list | tuple) else [found]) if type(token) is int]


def _vocabulary_size(network: Any) -> int:
    config = getattr(network.config, "text_config", network.config)
    return int(config.vocab_size)


def special_ids(tokenizer: Any) -> frozenset[int]:
    """The ids of everything that is no text, whatever the tokenizer's files say of it."""
    marked = {token for token, row in tokenizer.added_tokens_decoder.items() if row.special}
    return frozenset(marked | _named(tokenizer.get_vocab()) | set(tokenizer.all_special_ids))


def _named(vocabulary: Mapping[str, int]) -> set[int]:
    return {token for piece, token in vocabulary.items() if NAMES.fullmatch(piece.strip(WORD_STARTS))}
