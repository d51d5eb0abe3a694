"""The tokenizer, in any of its file formats, and from any thread."""

import json
import sys
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer
from transformers import GPT2Tokenizer, PreTrainedTokenizerFast

from blip_space.catalogue import TINY_FOLDER
from blip_space.errors import ModelError
from blip_space.models.families.blip2 import Blip2
from blip_space.models.tokenizer import FastTokenizer, Tokenizer, load_tokenizer, start_token, stop_tokens
from tests.checkpoints import blip2

TEXTS = ["a photo of two cats", "Question: how many? Answer:", "Ein roter Kreis", " leading and  double "]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("family", blip2.LANGUAGE_MODELS)
def test_ids_equal_transformers(folders: dict[str, Path], family: str, text: str) -> None:
    assert load_tokenizer(folders[family], name="x").encode(text) == blip2.make_tokenizer(family)(text)["input_ids"]


def test_decoding_drops_special_tokens_and_keeps_spaces(model: Blip2) -> None:
    ids = model.preparation.encode("two cats . on a mat .")
    assert model.decode(ids).strip() == "two cats . on a mat ."


def test_a_typed_image_token_is_plain_text(model: Blip2, folders: dict[str, Path], family: str) -> None:
    image_token = json.loads((folders[family] / "config.json").read_text())["image_token_index"]
    assert image_token not in model.preparation.encode("what is <image> here")


STRANGE = [
    "", " ", "\n", "a\tb\r\nc", "what is <image> here </s><s><pad>", "<extra_id_0> [MASK] <|endoftext|>", "x" * 3_000,
    "\U0001f469\u200d\U0001f467\U0001f1e9\U0001f1eae\u0301\u200b\ufeff\x00\x7f", "赤い丸と青い四角。", "यह क्या है?",
    "الصورة فيها دائرة حمراء", "นี่คืออะไร", "Что это?", *blip2.CORPUS,
]  # fmt: skip


def through_transformers(tokenizer: Any, hidden: Collection[int]) -> Callable[[str], tuple[list[int], str, str]]:
    """The same through transformers' own call, which configures the Rust tokenizer each time."""

    def encode_and_decode(text: str) -> tuple[list[int], str, str]:
        ids = tokenizer(text, split_special_tokens=True, verbose=False)["input_ids"]
        keep = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        visible = [[token for token in part if token not in hidden] for part in (ids, [*ids, *range(300), 10**6])]
        return ids, tokenizer.decode(visible[0], **keep), tokenizer.decode(visible[1], **keep)

    return encode_and_decode


@pytest.mark.parametrize("kind", [*blip2.LANGUAGE_MODELS, "tiny", "vocabulary", "truncating"])
def test_ids_and_texts_equal_those_of_transformers_call(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    folder = {"tiny": TINY_FOLDER, "vocabulary": tmp_path, "truncating": tmp_path}.get(kind) or folders[kind]
    if kind == "vocabulary":
        write_vocabulary(tmp_path)
    if kind == "truncating":
        truncating = blip2.make_tokenizer("t5")
        truncating.backend_tokenizer.enable_truncation(4)
        truncating.backend_tokenizer.enable_padding(length=9)
        truncating.save_pretrained(tmp_path)
    tokenizer = load_tokenizer(folder, name="x")
    tokenizer_class = GPT2Tokenizer if kind == "vocabulary" else PreTrainedTokenizerFast
    expected = through_transformers(tokenizer_class.from_pretrained(folder), tokenizer._hidden_ids)
    for text in [*TEXTS, *STRANGE]:
        ids = tokenizer.encode(text)
        texts = tokenizer.decode(ids), tokenizer.decode([*ids, *range(300), 10**6])
        assert (ids, *texts) == expected(text), text


@pytest.mark.parametrize("kind", [*blip2.LANGUAGE_MODELS, "sentencepiece"])
def test_threads_may_encode_and_decode_at_once(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """A call of transformers' own reconfigures the tokenizer, and other threads would read its settings."""
    if kind == "sentencepiece":
        train_pieces(tmp_path, vocab_size=150)
    tokenizer = load_tokenizer(folders.get(kind, tmp_path), name="x")

    def encode_and_decode(text: str) -> tuple[list[int], str]:
        ids = tokenizer.encode(text)
        return ids, tokenizer.decode(ids)

    texts = [*TEXTS, *STRANGE] * 20
    expected = [encode_and_decode(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(encode_and_decode, texts)) == expected


@pytest.mark.parametrize("kind", ["opt", "t5", "sentencepiece"])
def test_a_long_text_blocks_no_other_thread(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """The GIL was held while 200 kB were tokenized, and every stream stood still."""
    if kind == "sentencepiece":
        train_pieces(tmp_path, vocab_size=150)
    tokenizer = load_tokenizer(folders.get(kind, tmp_path), name="x")
    ids: list[int] = []
    for work in (lambda: ids.extend(tokenizer.encode("a photo of two cats " * 20_000)), lambda: tokenizer.decode(ids)):
        assert any(lets_others_run(tokenizer, work) for _ in range(20))  # on a busy machine the other may have to wait


def lets_others_run(tokenizer: Tokenizer, work: Callable[[], Any]) -> bool:
    """Whether another thread can use the tokenizer during `work`, which must release the GIL by itself."""
    begun, texts, before = Event(), list[str](), sys.getswitchinterval()

    def use_tokenizer() -> None:
        begun.wait()
        texts.append(tokenizer.decode(tokenizer.encode("two cats")))

    thread = Thread(target=use_tokenizer)
    thread.start()
    sys.setswitchinterval(1_000)  # seconds after which a waiting thread would take the GIL from another
    try:
        begun.set()
        work()
        return bool(texts)
    finally:
        sys.setswitchinterval(before)
        thread.join()


def train_pieces(folder: Path, **settings: Any) -> None:
    SentencePieceTrainer.train(
        sentence_iterator=iter(blip2.CORPUS * 20), model_prefix=str(folder / "spiece"), pad_id=0, eos_id=1,
        unk_id=2, hard_vocab_limit=False, minloglevel=2, **({"bos_id": -1} | settings),
    )  # fmt: skip


def write_vocabulary(folder: Path) -> Any:
    """Write a folder like OPT's of 2023; returns its tokenizer."""
    opt_tokenizer = blip2.make_tokenizer("opt")
    opt_tokenizer.backend_tokenizer.model.save(str(folder))
    special = {"bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "</s>"}
    config = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return opt_tokenizer


def test_sentencepiece_alone_is_enough(tmp_path: Path) -> None:
    """Old mT5 folders have only `spiece.model`, which transformers reads only with protobuf."""
    train_pieces(tmp_path, vocab_size=150)
    tokenizer = load_tokenizer(tmp_path, name="x")
    ids = tokenizer.encode(TEXTS[0])
    assert ids == [*SentencePieceProcessor(model_file=str(tmp_path / "spiece.model")).encode(TEXTS[0]), 1]
    size = SentencePieceProcessor(model_file=str(tmp_path / "spiece.model")).get_piece_size()
    assert tokenizer.decode([0, *ids, size, 9999]) == TEXTS[0]


def test_vocabulary_and_merges_are_enough(tmp_path: Path) -> None:
    """In old OPT folders only `tokenizer_config.json` says that a prompt begins with BOS."""
    opt_tokenizer = write_vocabulary(tmp_path)
    assert load_tokenizer(tmp_path, name="x").encode(TEXTS[0]) == opt_tokenizer(TEXTS[0])["input_ids"]


def test_a_missing_tokenizer_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="x has no tokenizer"):
        load_tokenizer(tmp_path, name="x")


@pytest.mark.parametrize("name", ["tokenizer.json", "spiece.model"])
def test_a_broken_tokenizer_is_reported(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(ModelError, match="cannot be read") as caught:
        load_tokenizer(tmp_path, name="x")
    assert str(tmp_path) not in str(caught.value)


SPECIAL_NAMES = [
    "<s>",
    "</s>",
    "<pad>",
    "<unk>",
    "<image>",
    "<mask>",
    "<extra_id_0>",
    "<extra_id_99>",
    "<|endoftext|>",
    "[PAD]",
]


@pytest.mark.parametrize("how", ["marked", "unmarked", "in the vocabulary", "as a word"])
@pytest.mark.parametrize("name", SPECIAL_NAMES)
def test_special_tokens_are_never_visible_however_the_file_marks_them(name: str, how: str) -> None:
    """mT5's vocabulary has `<extra_id_0>` as a normal word."""
    pieces = ["<none>", "▁two", "▁cats", "▁<b>", *{"in the vocabulary": [name], "as a word": [f"▁{name}"]}.get(how, [])]
    rust = RustTokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=0))
    rust.pre_tokenizer, rust.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    if how in ("marked", "unmarked"):
        rust.add_tokens([AddedToken(name, special=how == "marked", normalized=False)])
    tokenizer = Tokenizer(FastTokenizer(PreTrainedTokenizerFast(tokenizer_object=rust)))
    assert tokenizer.decode([4, 1, 4, 2, 4, 3, 4]) == "two cats <b>"


def test_special_pieces_of_sentencepiece_are_never_visible(tmp_path: Path) -> None:
    symbols = ["▁<extra_id_1>", "<extra_id_0>", "<image>", "<b>"]
    train_pieces(tmp_path, vocab_size=160, bos_id=3, user_defined_symbols=symbols)
    tokenizer, pieces = (
        load_tokenizer(tmp_path, name="x"),
        SentencePieceProcessor(model_file=str(tmp_path / "spiece.model")),
    )
    special = [0, 1, 2, 3, *(pieces.piece_to_id(piece) for piece in ("▁<extra_id_1>", "<extra_id_0>", "<image>"))]
    ids = [token for word in pieces.encode(TEXTS[0]) for token in (word, *special)]
    assert tokenizer.decode(ids) == TEXTS[0]
    assert tokenizer.decode([pieces.piece_to_id("<b>")]) == "<b>"


@pytest.mark.parametrize(
    ("settings", "token"), [((7, 5, 3), 7), ((None, 5, 3), 5), ((None, None, 3), 3), ((None,) * 3, 0)]
)
def test_an_answer_starts_with_the_first_token_that_the_settings_name(
    settings: tuple[int | None, ...], token: int
) -> None:
    names = ("decoder_start_token_id", "bos_token_id", "pad_token_id")
    assert start_token(SimpleNamespace(**dict(zip(names, settings, strict=True)))) == token


@pytest.mark.parametrize("eos_token_id", [3, [3], (3, True, None, "1", -1, 9)])
def test_only_tokens_of_the_vocabulary_end_an_answer(eos_token_id: Any) -> None:
    settings = SimpleNamespace(eos_token_id=eos_token_id)
    assert stop_tokens(SimpleNamespace(config=SimpleNamespace(vocab_size=9), generation_config=settings)) == {3}
