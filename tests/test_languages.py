"""Laws of the language table."""

import pytest

from blip_space import catalogue
from blip_space.errors import UserError
from blip_space.languages import LANGUAGES, find_language, format_names, mentions_language


def test_there_are_96_languages_and_mblip_supports_them_all() -> None:
    assert len(LANGUAGES) == 96
    assert catalogue.find_model("mblip-mt0-xl").languages == tuple(LANGUAGES)


def test_tiers_follow_the_training_data() -> None:
    tiers = [language.tier for language in LANGUAGES.values()]
    assert {tier: tiers.count(tier) for tier in sorted(set(tiers))} == {
        "basic": 33,
        "good": 28,
        "rare": 19,
        "strong": 16,
    }


def test_languages_are_distinct_and_complete() -> None:
    assert len({language.own_name for language in LANGUAGES.values()}) == 96
    for language in LANGUAGES.values():
        assert language.own_name
        assert language.prompt_name
        assert len(language.script) == 4


def test_right_to_left_languages_are_marked() -> None:
    right_to_left = {code for code, language in LANGUAGES.items() if language.direction == "rtl"}
    assert right_to_left == {"ar", "fa", "iw", "ku", "ps", "sd", "ur", "yi"}


def test_hebrew_has_its_training_name_in_prompts_and_its_common_name_elsewhere() -> None:
    assert find_language("iw").prompt_name == "former Hebrew"
    assert find_language("iw").english_name == "Hebrew"


@pytest.mark.parametrize("code", ["xx", "", "EN", "en ", None, 7, ["en"]])
def test_an_unknown_code_is_rejected(code: str) -> None:
    with pytest.raises(UserError, match="There is no language"):
        find_language(code)


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_is_recognised_when_named(code: str) -> None:
    language = LANGUAGES[code]
    assert mentions_language(f"Describe it in {language.prompt_name}.")
    assert mentions_language(f"({language.own_name})")


@pytest.mark.parametrize("text", ["Please polish this.", "Describe the Englishman.", "javanese", "Describe the image"])
def test_words_that_only_resemble_a_language_do_not_count(text: str) -> None:
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
def test_countries_and_peoples_do_not_count(text: str) -> None:
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
def test_a_language_with_the_name_of_its_country_counts(text: str) -> None:
    assert mentions_language(text)


def test_names_in_scripts_without_spaces_count_inside_a_sentence() -> None:
    assert mentions_language("日本語で答えてください")


def test_names_are_joined_for_a_sentence() -> None:
    assert format_names(["en"]) == "English"
    assert format_names(["en", "de", "hi"]) == "English, German and Hindi"
