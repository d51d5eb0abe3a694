"""Incremental text: complete characters, and never a part of a stop string."""

import random
from collections.abc import Callable, Sequence
from itertools import groupby, pairwise
from pathlib import Path

import pytest
import regex

from blip_space.catalogue import TINY_FOLDER, read_folder
from blip_space.engine.detokenizer import REPLACEMENT_CHARACTER, Detokenizer, visible_text
from blip_space.loading.preparation import load_preparation
from blip_space.models.tokenizer import load_tokenizer
from tests.checkpoints.blip2 import LANGUAGE_MODELS, write

STOPS = ("\n", "Question:")


def updates(text: str, *stops: str) -> list[str]:
    """The visible text after each character, and at the end."""
    parts = [visible_text(text[:size], stops).text for size in range(1, len(text) + 1)]
    return [*parts, visible_text(text, stops, finished=True).text]


@pytest.mark.parametrize(
    "text", ["three blue circles", "drei  Kreise", "三個藍色的圓形", "किताब क्षत्रिय", "👩‍👧‍👦 👍🏽 é"]
)
def test_each_update_extends_the_last_and_the_final_one_is_complete(text: str) -> None:
    parts = updates(text)
    assert parts[-1] == text
    assert all(later.startswith(earlier) for earlier, later in pairwise(parts))


def test_a_grapheme_cluster_is_visible_once_it_can_no_longer_change() -> None:
    assert set(updates("👩‍👧 x")) == {"", "👩‍👧", "👩‍👧 x"}
    assert "e" not in updates("e\u0301t")


def test_the_last_grapheme_cluster_is_held_back_in_any_text() -> None:
    rng = random.Random(5)
    characters = "ab1 .\r\n\u0301\u0600\u200d\u0915\u094d\u0937é👩🏽🇩🇪"
    for _ in range(3_000):
        text = "x" + "".join(rng.choices(characters, k=rng.randint(1, 5)))
        clusters = regex.findall(r"\X", text)
        assert visible_text(text).text == "".join(clusters[:-1]).rstrip()


def test_a_partial_character_is_never_visible() -> None:
    assert visible_text("a cat\ufffd").text == "a ca"
    assert visible_text("a cat\ufffd", finished=True).text == "a cat"


def test_a_stop_string_ends_the_text_and_no_part_of_it_is_ever_visible() -> None:
    text = " two cats. Question: What?"
    assert visible_text(text, STOPS) == visible_text(" two cats.\nmore", STOPS)
    assert visible_text(text, STOPS).stopped
    assert visible_text(" two cats.\nAnother Question: What?", STOPS).text == "two cats."
    assert not any("Q" in part for part in updates(text, *STOPS))


def test_a_partial_stop_string_is_visible_in_the_final_text() -> None:
    assert updates("Quest", *STOPS)[-1] == "Quest"
    assert visible_text("Questions", STOPS).text == "Question"


def test_white_space_around_an_answer_is_removed() -> None:
    assert visible_text("\n  yes \n", ()).text == "yes"
    assert visible_text("", STOPS, finished=True).text == ""


SENTENCES = (
    "two cats and a dog, beside a tree.",
    "三個藍色的圓形和一隻貓",
    "किताब क्षत्रिय में रखी है",
    "👩‍👧‍👦 👍🏽 é ñ 🇩🇪🇫🇷 👨‍👩‍👧‍👦",
    "قطة زرقاء وكلب",
    "a  b   c\td",
)


@pytest.fixture(scope="module", params=(*LANGUAGE_MODELS, "embedded"))
def tokens(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Callable[[Sequence[int]], str], Callable[[str], list[int]]]:
    """The decode and encode functions of each kind of tokenizer."""
    if request.param == "embedded":
        preparation = load_preparation(read_folder(TINY_FOLDER))
        return preparation.decode, preparation.encode
    folder: Path = write(tmp_path_factory.mktemp("tokens") / request.param, request.param)
    tokenizer = load_tokenizer(folder, name="x")
    return tokenizer.decode, tokenizer.encode


def test_text_decoded_token_by_token_equals_text_decoded_at_once(
    tokens: tuple[Callable[[Sequence[int]], str], Callable[[str], list[int]]],
) -> None:
    """With partial characters, special tokens and random ids."""
    decode, encode = tokens
    rng = random.Random(3)
    lists = [encode(sentence) * 3 for sentence in SENTENCES]
    lists += [[rng.randrange(200) for _ in range(60)] for _ in range(40)]
    lists += [[rng.choice((0, 1, 2, rng.randrange(300))) for _ in range(60)] for _ in range(20)]
    for ids in lists:
        detokenizer, visible = Detokenizer(decode), ""
        for count in range(1, len(ids) + 1):
            before, visible = visible, detokenizer.extend(ids[:count]).text
            decoded = decode(ids[:count]).lstrip()
            assert visible.startswith(before) or "\ufffd" in decoded
            assert decoded.startswith(visible) or decoded.endswith("\ufffd")
        assert detokenizer.finish(ids) == visible_text(decode(ids), finished=True)
        rest = detokenizer.finish(ids).text[len(visible) :]
        assert len(rest) <= 64 or "\ufffd" in decode(ids)


def decode_bytes(ids: Sequence[int]) -> str:
    """Like SentencePiece's byte fallback, which decodes a run of bytes at once; ids from 256 on are ASCII."""
    text = ""
    for is_byte, run in groupby(ids, lambda token: token < 256):
        tokens = list(run)
        try:
            text += bytes(tokens).decode() if is_byte else "".join(chr(token - 256) for token in tokens)
        except UnicodeDecodeError:
            text += REPLACEMENT_CHARACTER * len(tokens)
    return text


@pytest.mark.parametrize(
    "ids",
    [[*"中".encode(), 0xFF, *(256 + ord(letter) for letter in "and more")], [*("三個藍色的圓形和一隻貓" * 2).encode()]],
)
def test_bytes_are_visible_once_they_are_complete_characters(ids: list[int]) -> None:
    """Invalid bytes change characters before them, and a window that started within a character showed no text."""
    detokenizer = Detokenizer(decode_bytes)
    for count in range(1, len(ids) + 1):
        visible, decoded = detokenizer.extend(ids[:count]), decode_bytes(ids[:count])
        assert visible == visible_text(decoded) or decoded.endswith(REPLACEMENT_CHARACTER)


def test_a_token_is_decoded_with_few_others() -> None:
    """Each token decoded all before it again: 11 % of the time of 150 tokens, and growing with their number."""
    lengths = list[int]()
    detokenizer = Detokenizer(lambda ids: lengths.append(len(ids)) or "".join(f" {number}" for number in ids))  # type: ignore[func-returns-value]
    ids = list(range(500))
    for count in range(1, 501):
        text = detokenizer.extend(ids[:count]).text
    assert text == "".join(f" {number}" for number in ids).strip()[: len(text)]
    assert text.endswith("498 49")
    assert max(lengths) <= 16
    assert len(lengths) < 600
