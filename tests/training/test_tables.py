"""Every language's plain words are whole, in its own script, and fit for any name."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blip_space.languages import LANGUAGES
from training.lexicon import GRAMMARS, lexicon
from training.lexicon.lexicon import TABLES
from training.scenes.concepts import concepts
from training.scenes.scene import MAX_OBJECTS

ENGLISH: dict[str, Any] = json.loads((TABLES / "en.json").read_text(encoding="utf-8"))
EVERY_TABLE = pytest.mark.parametrize("code", lexicon.language_codes())
WITH_A_NAME = ("count_of", "exists", "and_of")


def table(code: str) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads((TABLES / f"{code}.json").read_text(encoding="utf-8"))
    return whole


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def test_eighty_languages_have_a_table() -> None:
    assert len(lexicon.language_codes()) == 80
    assert set(GRAMMARS) <= set(lexicon.language_codes()) <= set(LANGUAGES)


@EVERY_TABLE
def test_a_table_is_whole(code: str) -> None:
    own = table(code)
    assert list(own) == list(ENGLISH)
    for part in ("colours", "shapes"):
        assert list(own[part]) == list(ENGLISH[part])
        assert len(set(own[part].values())) == len(own[part])
    assert len(set(own["numbers"])) == MAX_OBJECTS + 1
    assert own["yes"] != own["no"]
    assert list(own["questions"]) == list(ENGLISH["questions"])


@EVERY_TABLE
def test_a_name_has_its_place_in_the_questions_that_need_one(code: str) -> None:
    for key, wordings in table(code)["questions"].items():
        assert wordings
        assert all(wording.count("{name}") == (key in WITH_A_NAME) for wording in wordings)


@EVERY_TABLE
def test_words_are_in_their_script_and_tidy(code: str) -> None:
    scripts = {unicodedata.name(letter).split()[0] for letter in LANGUAGES[code].own_name if letter.isalpha()}
    if code == "ja":
        scripts |= {"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}
    for words in strings(table(code)):
        assert words == unicodedata.normalize("NFC", words).strip()
        letters = [letter for letter in words.replace("{name}", "") if unicodedata.category(letter)[0] == "L"]
        foreign = {unicodedata.name(letter).split()[0] for letter in letters} - scripts - {"MODIFIER"}
        assert not foreign, words


@EVERY_TABLE
def test_cldr_names_everything_and_joins_lists(code: str, sources: Path) -> None:
    own = lexicon.load_lexicon(code, sources)
    assert all(own.name_of(concept.name) for concept in concepts())
    three = own.join([own.name_of(key) for key in ("dog", "cat", "pizza")])
    assert all(own.name_of(key) in three for key in ("dog", "cat", "pizza"))


def test_chinese_is_traditional_and_several_are_said_without_grammar(sources: Path) -> None:
    assert lexicon.load_lexicon("zh", sources).name_of("cat") == "貓"
    assert lexicon.load_lexicon("de", sources).count_phrase("dog", 3) == "Hund × 3"
