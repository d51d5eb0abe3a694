"""Every language's table is complete, in its own script, and its templates fit any name."""

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
    content: dict[str, Any] = json.loads((TABLES / f"{code}.json").read_text(encoding="utf-8"))
    return content


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
def test_a_table_is_complete(code: str) -> None:
    content = table(code)
    assert list(content) == list(ENGLISH)
    for part in ("colours", "shapes"):
        assert list(content[part]) == list(ENGLISH[part])
        assert len(set(content[part].values())) == len(content[part])
    assert len(set(content["numbers"])) == MAX_OBJECTS + 1
    assert content["yes"] != content["no"]
    assert list(content["questions"]) == list(ENGLISH["questions"])


@EVERY_TABLE
def test_questions_about_a_name_have_its_placeholder(code: str) -> None:
    for key, wordings in table(code)["questions"].items():
        assert wordings
        assert all(wording.count("{name}") == (key in WITH_A_NAME) for wording in wordings)


@EVERY_TABLE
def test_words_are_normalized_and_in_their_script(code: str) -> None:
    scripts = {unicodedata.name(letter).split()[0] for letter in LANGUAGES[code].own_name if letter.isalpha()}
    if code == "ja":
        scripts |= {"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}
    for text in strings(table(code)):
        assert text == unicodedata.normalize("NFC", text).strip()
        letters = [letter for letter in text.replace("{name}", "") if unicodedata.category(letter)[0] == "L"]
        foreign_scripts = {unicodedata.name(letter).split()[0] for letter in letters} - scripts - {"MODIFIER"}
        assert not foreign_scripts, text


@EVERY_TABLE
def test_cldr_has_every_name_and_list_pattern(code: str, sources: Path) -> None:
    content = lexicon.load_lexicon(code, sources)
    assert all(content.name_of(concept.name) for concept in concepts())
    joined = content.join([content.name_of(key) for key in ("dog", "cat", "pizza")])
    assert all(content.name_of(key) in joined for key in ("dog", "cat", "pizza"))


def test_chinese_is_traditional_and_counts_need_no_plural(sources: Path) -> None:
    assert lexicon.load_lexicon("zh", sources).name_of("cat") == "貓"
    assert lexicon.load_lexicon("de", sources).count_phrase("dog", 3) == "Hund × 3"
