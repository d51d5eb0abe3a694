"""The tokenizer, whichever files it comes in, and from any thread."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from blip_space.errors import ModelError
from blip_space.model.blip2 import Blip2
from blip_space.model.tokens import Tokens, read_tokens
from tests.model import checkpoints

TEXTS = ["a photo of two cats", "Question: how many? Answer:", "Ein roter Kreis", " leading and  double "]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("family", checkpoints.FAMILIES)
def test_ids_equal_the_processors(folders: dict[str, Path], family: str, text: str) -> None:
    assert read_tokens(folders[family], name="x").encode(text) == checkpoints.make_tokenizer(family)(text)["input_ids"]


def test_decoding_leaves_special_tokens_out_and_spaces_alone(model: Blip2) -> None:
    ids = model._tokens.encode("two cats . on a mat .")
    assert model.decode(ids).strip() == "two cats . on a mat ."


def test_typed_image_slot_is_plain_text(model: Blip2, folders: dict[str, Path], family: str) -> None:
    slot = json.loads((folders[family] / "config.json").read_text())["image_token_index"]
    assert slot not in model._tokens.encode("what is <image> here")


def test_counting_counts_what_the_model_reads(model: Blip2) -> None:
    assert model.count_tokens(TEXTS[0]) == len(model._tokens.encode(TEXTS[0]))
    assert model.count_tokens("a " * 3000) >= 3000


def test_threads_may_count_at_once(model: Blip2) -> None:
    expected = [model.count_tokens(text) for text in TEXTS * 25]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(model.count_tokens, TEXTS * 25)) == expected


def test_sentencepiece_alone_is_enough(tmp_path: Path) -> None:
    """Old mT5 folders have `spiece.model` and no `tokenizer.json`, which transformers reads only with protobuf."""
    SentencePieceTrainer.train(
        sentence_iterator=iter(checkpoints.CORPUS * 20), model_prefix=str(tmp_path / "spiece"), vocab_size=150,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    tokens = read_tokens(tmp_path, name="x")
    ids = tokens.encode(TEXTS[0])
    assert ids == [*SentencePieceProcessor(model_file=str(tmp_path / "spiece.model")).encode(TEXTS[0]), 1]
    assert tokens.decode([0, *ids, 9999]) == TEXTS[0]


def test_vocabulary_and_merges_are_enough(tmp_path: Path) -> None:
    """Old OPT folders say in `tokenizer_config.json` alone that a prompt begins with BOS."""
    made = checkpoints.make_tokenizer("opt")
    made.backend_tokenizer.model.save(str(tmp_path))
    special = {"bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "</s>"}
    config = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, **special}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert read_tokens(tmp_path, name="x").encode(TEXTS[0]) == made(TEXTS[0])["input_ids"]


def test_missing_tokenizer_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="x has no tokenizer"):
        read_tokens(tmp_path, name="x")


@pytest.mark.parametrize("name", ["tokenizer.json", "spiece.model"])
def test_broken_tokenizer_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(ModelError, match="cannot be read") as caught:
        read_tokens(tmp_path, name="x")
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
    made = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=0))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    if how in ("marked", "unmarked"):
        made.add_tokens([AddedToken(name, special=how == "marked", normalized=False)])
    tokens = Tokens(PreTrainedTokenizerFast(tokenizer_object=made))
    assert tokens.decode([4, 1, 4, 2, 4, 3, 4]) == "two cats <b>"


def test_special_pieces_of_sentencepiece_are_never_shown(tmp_path: Path) -> None:
    SentencePieceTrainer.train(
        sentence_iterator=iter(checkpoints.CORPUS * 20), model_prefix=str(tmp_path / "spiece"), vocab_size=160,
        pad_id=0, eos_id=1, unk_id=2, bos_id=3, hard_vocab_limit=False, minloglevel=2,
        user_defined_symbols=["▁<extra_id_1>", "<extra_id_0>", "<image>", "<b>"],
    )  # fmt: skip
    tokens, pieces = read_tokens(tmp_path, name="x"), SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))
    special = [0, 1, 2, 3, *(pieces.piece_to_id(piece) for piece in ("▁<extra_id_1>", "<extra_id_0>", "<image>"))]
    ids = [token for word in pieces.encode(TEXTS[0]) for token in (word, *special)]
    assert tokens.decode(ids) == TEXTS[0]
    assert tokens.decode([pieces.piece_to_id("<b>")]) == "<b>"
