"""The tokenizer, whichever files it comes in, and from any thread."""

import json
import sys
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer
from transformers import GPT2Tokenizer, PreTrainedTokenizerFast

from blip_space.catalogue import TINY_FOLDER
from blip_space.errors import ModelError
from blip_space.models import interface
from blip_space.models.families.blip2 import Blip2
from blip_space.models.threads import MIN_PARAMETERS
from blip_space.models.tokenizer import FastTokenizer, Tokenizer, load_tokenizer, start_token, stop_tokens
from tests.checkpoints import blip2
from tests.checkpoints.generation import embed_text, image_features, image_positions, with_hf_model

TEXTS = ["a photo of two cats", "Question: how many? Answer:", "Ein roter Kreis", " leading and  double "]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("family", blip2.LANGUAGE_MODELS)
def test_ids_equal_the_processors(folders: dict[str, Path], family: str, text: str) -> None:
    assert load_tokenizer(folders[family], name="x").encode(text) == blip2.make_tokenizer(family)(text)["input_ids"]


def test_decoding_leaves_special_tokens_out_and_spaces_alone(model: Blip2) -> None:
    ids = model.preparation.encode("two cats . on a mat .")
    assert model.decode(ids).strip() == "two cats . on a mat ."


def test_typed_image_slot_is_plain_text(model: Blip2, folders: dict[str, Path], family: str) -> None:
    slot = json.loads((folders[family] / "config.json").read_text())["image_token_index"]
    assert slot not in model.preparation.encode("what is <image> here")


def test_counting_counts_what_the_model_reads(model: Blip2, two_images: list[Image.Image]) -> None:
    (features,) = image_features(model, two_images[:1])
    read = len(embed_text(model, features, TEXTS[0]))
    assert read == image_positions(model.preparation) + len(model.preparation.encode(TEXTS[0]))
    assert len(model.preparation.encode("a " * 3000)) >= 3000


def test_what_a_decoder_reads_before_an_answer_is_as_generation_has_it(
    model: Blip2, two_images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repetition penalty counts it, so the prompt of a decoder-only model has none."""
    network, (features,) = model._hf_model, image_features(model, two_images[:1])
    monkeypatch.setattr(network.language_model.generation_config, "decoder_start_token_id", 3)
    expected = () if model.spec.decoder_only else (3,)
    prompt = embed_text(with_hf_model(model, network, model.spec), features, "a")
    assert (prompt.start, prompt.next_position) == (expected, len(prompt))


def test_a_small_model_decodes_on_one_thread(model: Blip2, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interface, "ALL_THREADS", 7)
    specs = [replace(model.spec, parameters=MIN_PARAMETERS - less) for less in (1, 0)]
    assert [with_hf_model(model, model._hf_model, spec).threads for spec in specs] == [1, 7]


STRANGE = [
    "", " ", "\n", "a\tb\r\nc", "what is <image> here </s><s><pad>", "<extra_id_0> [MASK] <|endoftext|>", "x" * 3_000,
    "\U0001f469\u200d\U0001f467\U0001f1e9\U0001f1eae\u0301\u200b\ufeff\x00\x7f", "赤い丸と青い四角。", "यह क्या है?",
    "الصورة فيها دائرة حمراء", "นี่คืออะไร", "Что это?", *blip2.CORPUS,
]  # fmt: skip


def as_before(tokenizer: Any, hidden: Collection[int]) -> Callable[[str], tuple[list[int], str, str]]:
    """Through transformers' own call, which sets the Rust tokenizer anew each time."""

    def both_ways(text: str) -> tuple[list[int], str, str]:
        ids = tokenizer(text, split_special_tokens=True, verbose=False)["input_ids"]
        keep = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        shown = [[token for token in part if token not in hidden] for part in (ids, [*ids, *range(300), 10**6])]
        return ids, tokenizer.decode(shown[0], **keep), tokenizer.decode(shown[1], **keep)

    return both_ways


@pytest.mark.parametrize("kind", [*blip2.LANGUAGE_MODELS, "tiny", "vocabulary", "truncating"])
def test_ids_and_texts_are_those_of_transformers_own_call(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    folder = {"tiny": TINY_FOLDER, "vocabulary": tmp_path, "truncating": tmp_path}.get(kind) or folders[kind]
    if kind == "vocabulary":
        write_vocabulary(tmp_path)
    if kind == "truncating":
        truncating = blip2.make_tokenizer("t5")
        truncating.backend_tokenizer.enable_truncation(4)
        truncating.backend_tokenizer.enable_padding(length=9)
        truncating.save_pretrained(tmp_path)
    tokens = load_tokenizer(folder, name="x")
    reader = GPT2Tokenizer if kind == "vocabulary" else PreTrainedTokenizerFast
    expected = as_before(reader.from_pretrained(folder), tokens._hidden)
    for text in [*TEXTS, *STRANGE]:
        ids = tokens.encode(text)
        texts = tokens.decode(ids), tokens.decode([*ids, *range(300), 10**6])
        assert (ids, *texts) == expected(text), text


@pytest.mark.parametrize("kind", [*blip2.LANGUAGE_MODELS, "pieces"])
def test_threads_may_encode_and_decode_at_once(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """A call of transformers' own sets the tokenizer anew, and another thread may then read what that set."""
    if kind == "pieces":
        train_pieces(tmp_path, vocab_size=150)
    tokens = load_tokenizer(folders.get(kind, tmp_path), name="x")

    def both_ways(text: str) -> tuple[list[int], str]:
        ids = tokens.encode(text)
        return ids, tokens.decode(ids)

    texts = [*TEXTS, *STRANGE] * 20
    expected = [both_ways(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(both_ways, texts)) == expected


@pytest.mark.parametrize("kind", ["opt", "t5", "pieces"])
def test_a_long_text_holds_no_other_thread_up(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """The interpreter's lock was held for as long as 200 kB took, and every stream stood still."""
    if kind == "pieces":
        train_pieces(tmp_path, vocab_size=150)
    tokens = load_tokenizer(folders.get(kind, tmp_path), name="x")
    ids: list[int] = []
    for work in (lambda: ids.extend(tokens.encode("a photo of two cats " * 20_000)), lambda: tokens.decode(ids)):
        assert any(has_time(tokens, work) for _ in range(20))  # a busy machine may let the other wait a while


def has_time(tokens: Tokenizer, work: Callable[[], Any]) -> bool:
    """Whether another thread can use the tokenizer while `work` does, which alone gives the interpreter's lock back."""
    begun, texts, before = Event(), list[str](), sys.getswitchinterval()

    def other() -> None:
        begun.wait()
        texts.append(tokens.decode(tokens.encode("two cats")))

    thread = Thread(target=other)
    thread.start()
    sys.setswitchinterval(1_000)  # seconds after which a thread that waits has the lock taken away from another
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
    """A folder as OPT's were in 2023, and the tokenizer that it is of."""
    made = blip2.make_tokenizer("opt")
    made.backend_tokenizer.model.save(str(folder))
    special = {"bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "</s>"}
    config = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return made


def test_sentencepiece_alone_is_enough(tmp_path: Path) -> None:
    """Old mT5 folders have `spiece.model` and no `tokenizer.json`, which transformers reads only with protobuf."""
    train_pieces(tmp_path, vocab_size=150)
    tokens = load_tokenizer(tmp_path, name="x")
    ids = tokens.encode(TEXTS[0])
    assert ids == [*SentencePieceProcessor(model_file=str(tmp_path / "spiece.model")).encode(TEXTS[0]), 1]
    size = SentencePieceProcessor(model_file=str(tmp_path / "spiece.model")).get_piece_size()
    assert tokens.decode([0, *ids, size, 9999]) == TEXTS[0]


def test_vocabulary_and_merges_are_enough(tmp_path: Path) -> None:
    """Old OPT folders say in `tokenizer_config.json` alone that a prompt begins with BOS."""
    made = write_vocabulary(tmp_path)
    assert load_tokenizer(tmp_path, name="x").encode(TEXTS[0]) == made(TEXTS[0])["input_ids"]


def test_missing_tokenizer_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="x has no tokenizer"):
        load_tokenizer(tmp_path, name="x")


@pytest.mark.parametrize("name", ["tokenizer.json", "spiece.model"])
def test_broken_tokenizer_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(ModelError, match="cannot be read") as caught:
        load_tokenizer(tmp_path, name="x")
    assert str(tmp_path) not in str(caught.value)


HIDDEN = [
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
@pytest.mark.parametrize("name", HIDDEN)
def test_special_tokens_are_never_shown_whatever_the_file_calls_them(name: str, how: str) -> None:
    """mT5 has its `<extra_id_0>` in the vocabulary, as a word like any other."""
    pieces = ["<none>", "▁two", "▁cats", "▁<b>", *{"in the vocabulary": [name], "as a word": [f"▁{name}"]}.get(how, [])]
    made = RustTokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=0))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    if how in ("marked", "unmarked"):
        made.add_tokens([AddedToken(name, special=how == "marked", normalized=False)])
    tokens = Tokenizer(FastTokenizer(PreTrainedTokenizerFast(tokenizer_object=made)))
    assert tokens.decode([4, 1, 4, 2, 4, 3, 4]) == "two cats <b>"


def test_special_pieces_of_sentencepiece_are_never_shown(tmp_path: Path) -> None:
    symbols = ["▁<extra_id_1>", "<extra_id_0>", "<image>", "<b>"]
    train_pieces(tmp_path, vocab_size=160, bos_id=3, user_defined_symbols=symbols)
    tokens, pieces = (
        load_tokenizer(tmp_path, name="x"),
        SentencePieceProcessor(model_file=str(tmp_path / "spiece.model")),
    )
    special = [0, 1, 2, 3, *(pieces.piece_to_id(piece) for piece in ("▁<extra_id_1>", "<extra_id_0>", "<image>"))]
    ids = [token for word in pieces.encode(TEXTS[0]) for token in (word, *special)]
    assert tokens.decode(ids) == TEXTS[0]
    assert tokens.decode([pieces.piece_to_id("<b>")]) == "<b>"


@pytest.mark.parametrize(
    ("named", "token"), [((7, 5, 3), 7), ((None, 5, 3), 5), ((None, None, 3), 3), ((None,) * 3, 0)]
)
def test_an_answer_begins_with_the_first_token_that_the_settings_name(
    named: tuple[int | None, ...], token: int
) -> None:
    names = ("decoder_start_token_id", "bos_token_id", "pad_token_id")
    assert start_token(SimpleNamespace(**dict(zip(names, named, strict=True)))) == token


@pytest.mark.parametrize("given", [3, [3], (3, True, None, "1", -1, 9)])
def test_only_tokens_of_the_vocabulary_end_an_answer(given: Any) -> None:
    settings = SimpleNamespace(eos_token_id=given)
    assert stop_tokens(SimpleNamespace(config=SimpleNamespace(vocab_size=9), generation_config=settings)) == {3}
