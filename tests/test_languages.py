"""Laws of the language table."""

import pytest

from blip_space import catalogue
from blip_space.errors import UserError
from blip_space.languages import LANGUAGES, find_language, format_names, mentions_language


def test_there_are_96_languages_and_mblip_speaks_them_all() -> None:
    assert len(LANGUAGES) == 96
    assert set(catalogue.MBLIP_LANGUAGES) == set(LANGUAGES)


def test_tiers_are_as_wide_as_the_training_data_says() -> None:
    tiers = [row.tier for row in LANGUAGES.values()]
    assert {tier: tiers.count(tier) for tier in sorted(set(tiers))} == {
        "basic": 33,
        "good": 28,
        "rare": 19,
        "strong": 16,
    }


def test_rows_are_distinct_and_whole() -> None:
    assert len({row.own_name for row in LANGUAGES.values()}) == 96
    assert all(row.own_name and row.prompt_name and len(row.script) == 4 for row in LANGUAGES.values())


def test_languages_written_from_the_right_say_so() -> None:
    right = {code for code, row in LANGUAGES.items() if row.direction == "rtl"}
    assert right == {"ar", "fa", "iw", "ku", "ps", "sd", "ur", "yi"}


def test_hebrew_is_asked_for_as_mblip_learned_it_and_shown_as_people_know_it() -> None:
    assert find_language("iw").prompt_name == "former Hebrew"
    assert find_language("iw").english_name == "Hebrew"


@pytest.mark.parametrize("code", ["xx", "", "EN", "en ", None, 7, ["en"]])
def test_unknown_code_is_a_sentence(code: str) -> None:
    with pytest.raises(UserError, match="There is no language"):
        find_language(code)


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_is_recognised_when_named(code: str) -> None:
    row = LANGUAGES[code]
    assert mentions_language(f"Describe it in {row.prompt_name}.")
    assert mentions_language(f"({row.own_name})")


@pytest.mark.parametrize("text", ["Please polish this.", "Describe the Englishman.", "javanese", "Describe the image"])
def test_words_that_merely_resemble_a_language_do_not_count(text: str) -> None:
    assert not mentions_language(text)


@pytest.mark.parametrize(
    "text",
    [
        "Describe the temple in Indonesia",
        "the island of Jawa",
        "Rumah Melayu",
        "วัดในประเทศไทย",
        "ປະເທດລາວ",
        "the Greek temple",
        "This Malagasy dancer",
        "a Turkish carpet and my Thai curry",
    ],
)
def test_a_country_and_a_people_are_no_language(text: str) -> None:
    assert not mentions_language(text)


@pytest.mark.parametrize(
    "text",
    [
        "dalam bahasa Indonesia",
        "ing basa Jawa",
        "Bahasa Melayu",
        "ตอบเป็นภาษาไทย",
        "ພາສາລາວ",
        "ភាសាខ្មែរ",
        "မြန်မာလို",
        "in Malagasy",
        "Describe the Greek temple in French",
        "in the German language",
        "Use German",
        "in both English and German please",
    ],
)
def test_a_language_is_one_where_its_country_has_its_name(text: str) -> None:
    assert mentions_language(text)


def test_scripts_without_spaces_need_none_around_the_name() -> None:
    assert mentions_language("日本語で答えてください")


def test_listed_reads_as_a_sentence() -> None:
    assert format_names(["en"]) == "English"
    assert format_names(["en", "de", "hi"]) == "English, German and Hindi"
