"""The 96 languages of mBLIP: their names, scripts and amounts of training data.

Codes, prompt names and caption counts are from mBLIP's evaluation and training data (a prompt name is the exact string
in mBLIP's training prompts, so Hebrew is `former Hebrew`); own names, scripts and directions are from CLDR. The
catalogue and a folder's `blip_space.json` say which model supports which language. Must not import the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from blip_space.errors import UserError, quote

Tier = Literal["strong", "good", "basic", "rare"]

TIER_FLOORS: tuple[tuple[Tier, int], ...] = (("strong", 20_000), ("good", 1_000), ("basic", 100), ("rare", 0))
"""The minimum number of training captions of each tier, best first."""

ENGLISH_NAMES = {"iw": "Hebrew"}
"""Common English names, by code, of languages whose name in the training prompts is another one."""

UNSPACED_SCRIPTS = frozenset({"Hant", "Jpan", "Khmr", "Laoo", "Mymr", "Thai"})
"""Scripts that write words without spaces between them."""

AMBIGUOUS_NAMES = {
    "id": r"[Bb]ahasa Indonesia",
    "jv": r"[Bb]a(?:ha)?sa Jawa",
    "km": "ភាសាខ្មែរ",
    "lo": "ພາສາລາວ",
    "ms": r"[Bb]ahasa Melayu",
    "my": "မြန်မာ(?:ဘာသာ|စကား|လို)",
    "th": "ภาษาไทย",
}
"""Languages whose own name also names a country, an island or a people, each with a pattern for the language only."""

DETERMINERS = "a|an|the|this|that|these|those|some|any|each|every|my|your|his|her|its|our|their"
"""A language's English name between one of these and another word is an adjective, as in `the Greek temple`."""


@dataclass(frozen=True)
class Language:
    """One language: its name in mBLIP's prompts, its own name, its script and its amount of training data."""

    code: str
    prompt_name: str
    own_name: str
    script: str
    direction: Literal["ltr", "rtl"]
    training_captions: int

    @property
    def english_name(self) -> str:
        """The common English name."""
        return ENGLISH_NAMES.get(self.code, self.prompt_name)

    @property
    def tier(self) -> Tier:
        """The amount of mBLIP's training data: `strong`, `good`, `basic` or `rare`."""
        return next(tier for tier, floor in TIER_FLOORS if self.training_captions >= floor)


_ROWS: tuple[tuple[str, str, str, str, Literal["ltr", "rtl"], int], ...] = (
    ("af", "Afrikaans", "Afrikaans", "Latn", "ltr", 448),
    ("am", "Amharic", "አማርኛ", "Ethi", "ltr", 73),
    ("ar", "Arabic", "العربية", "Arab", "rtl", 23_436),
    ("az", "Azerbaijani", "azərbaycan", "Latn", "ltr", 1_819),
    ("be", "Belarusian", "беларуская", "Cyrl", "ltr", 546),
    ("bg", "Bulgarian", "български", "Cyrl", "ltr", 8_241),
    ("bn", "Bangla", "বাংলা", "Beng", "ltr", 3_848),
    ("ca", "Catalan", "català", "Latn", "ltr", 4_927),
    ("ceb", "Cebuano", "Cebuano", "Latn", "ltr", 105),
    ("cs", "Czech", "čeština", "Latn", "ltr", 20_852),
    ("cy", "Welsh", "Cymraeg", "Latn", "ltr", 270),
    ("da", "Danish", "dansk", "Latn", "ltr", 9_349),
    ("de", "German", "Deutsch", "Latn", "ltr", 138_393),
    ("el", "Greek", "Ελληνικά", "Grek", "ltr", 17_383),
    ("en", "English", "English", "Latn", "ltr", 996_547),
    ("eo", "Esperanto", "Esperanto", "Latn", "ltr", 141),
    ("es", "Spanish", "español", "Latn", "ltr", 149_880),
    ("et", "Estonian", "eesti", "Latn", "ltr", 2_636),
    ("eu", "Basque", "euskara", "Latn", "ltr", 526),
    ("fa", "Persian", "فارسی", "Arab", "rtl", 20_596),
    ("fi", "Finnish", "suomi", "Latn", "ltr", 9_330),
    ("fil", "Filipino", "Filipino", "Latn", "ltr", 590),
    ("fr", "French", "français", "Latn", "ltr", 115_141),
    ("ga", "Irish", "Gaeilge", "Latn", "ltr", 154),
    ("gd", "Scottish Gaelic", "Gàidhlig", "Latn", "ltr", 51),
    ("gl", "Galician", "galego", "Latn", "ltr", 953),
    ("gu", "Gujarati", "ગુજરાતી", "Gujr", "ltr", 327),
    ("ha", "Hausa", "Hausa", "Latn", "ltr", 92),
    ("hi", "Hindi", "हिन्दी", "Deva", "ltr", 6_767),
    ("ht", "Haitian", "Kreyòl Ayisyen", "Latn", "ltr", 58),
    ("hu", "Hungarian", "magyar", "Latn", "ltr", 14_358),
    ("hy", "Armenian", "հայերեն", "Armn", "ltr", 981),
    ("id", "Indonesian", "Indonesia", "Latn", "ltr", 4_923),
    ("ig", "Igbo", "Igbo", "Latn", "ltr", 28),
    ("is", "Icelandic", "íslenska", "Latn", "ltr", 795),
    ("it", "Italian", "italiano", "Latn", "ltr", 67_855),
    ("iw", "former Hebrew", "עברית", "Hebr", "rtl", 4_463),
    ("ja", "Japanese", "日本語", "Jpan", "ltr", 21_603),
    ("jv", "Javanese", "Jawa", "Latn", "ltr", 55),
    ("ka", "Georgian", "ქართული", "Geor", "ltr", 944),
    ("kk", "Kazakh", "қазақ тілі", "Cyrl", "ltr", 867),
    ("km", "Khmer", "ខ្មែរ", "Khmr", "ltr", 350),
    ("kn", "Kannada", "ಕನ್ನಡ", "Knda", "ltr", 485),
    ("ko", "Korean", "한국어", "Hang", "ltr", 6_092),
    ("ku", "Kurdish", "کوردی", "Arab", "rtl", 101),
    ("ky", "Kyrgyz", "кыргызча", "Cyrl", "ltr", 303),
    ("lb", "Luxembourgish", "Lëtzebuergesch", "Latn", "ltr", 215),
    ("lo", "Lao", "ລາວ", "Laoo", "ltr", 76),
    ("lt", "Lithuanian", "lietuvių", "Latn", "ltr", 4_622),
    ("lv", "Latvian", "latviešu", "Latn", "ltr", 2_505),
    ("mg", "Malagasy", "Malagasy", "Latn", "ltr", 66),
    ("mi", "Maori", "Māori", "Latn", "ltr", 37),
    ("mk", "Macedonian", "македонски", "Cyrl", "ltr", 912),
    ("ml", "Malayalam", "മലയാളം", "Mlym", "ltr", 913),
    ("mn", "Mongolian", "монгол", "Cyrl", "ltr", 747),
    ("mr", "Marathi", "मराठी", "Deva", "ltr", 1_154),
    ("ms", "Malay", "Melayu", "Latn", "ltr", 1_188),
    ("mt", "Maltese", "Malti", "Latn", "ltr", 281),
    ("my", "Burmese", "မြန်မာ", "Mymr", "ltr", 316),
    ("ne", "Nepali", "नेपाली", "Deva", "ltr", 1_186),
    ("nl", "Dutch", "Nederlands", "Latn", "ltr", 34_570),
    ("no", "Norwegian", "norsk", "Latn", "ltr", 7_768),
    ("ny", "Nyanja", "Nyanja", "Latn", "ltr", 29),
    ("pa", "Punjabi", "ਪੰਜਾਬੀ", "Guru", "ltr", 184),
    ("pl", "Polish", "polski", "Latn", "ltr", 45_295),
    ("ps", "Pashto", "پښتو", "Arab", "rtl", 126),
    ("pt", "Portuguese", "português", "Latn", "ltr", 62_459),
    ("ro", "Romanian", "română", "Latn", "ltr", 16_856),
    ("ru", "Russian", "русский", "Cyrl", "ltr", 257_052),
    ("sd", "Sindhi", "سنڌي", "Arab", "rtl", 53),
    ("si", "Sinhala", "සිංහල", "Sinh", "ltr", 214),
    ("sk", "Slovak", "slovenčina", "Latn", "ltr", 6_773),
    ("sl", "Slovenian", "slovenščina", "Latn", "ltr", 3_138),
    ("sm", "Samoan", "Gagana Samoa", "Latn", "ltr", 25),
    ("sn", "Shona", "chiShona", "Latn", "ltr", 31),
    ("so", "Somali", "Soomaali", "Latn", "ltr", 296),
    ("sq", "Albanian", "shqip", "Latn", "ltr", 1_780),
    ("sr", "Serbian", "српски", "Cyrl", "ltr", 1_210),
    ("st", "Southern Sotho", "Sesotho", "Latn", "ltr", 25),
    ("su", "Sundanese", "Basa Sunda", "Latn", "ltr", 38),
    ("sv", "Swedish", "svenska", "Latn", "ltr", 16_047),
    ("sw", "Swahili", "Kiswahili", "Latn", "ltr", 324),
    ("ta", "Tamil", "தமிழ்", "Taml", "ltr", 1_462),
    ("te", "Telugu", "తెలుగు", "Telu", "ltr", 515),
    ("tg", "Tajik", "тоҷикӣ", "Cyrl", "ltr", 396),
    ("th", "Thai", "ไทย", "Thai", "ltr", 7_103),
    ("tr", "Turkish", "Türkçe", "Latn", "ltr", 33_628),
    ("uk", "Ukrainian", "українська", "Cyrl", "ltr", 14_235),
    ("ur", "Urdu", "اردو", "Arab", "rtl", 870),
    ("uz", "Uzbek", "o‘zbek", "Latn", "ltr", 300),
    ("vi", "Vietnamese", "Tiếng Việt", "Latn", "ltr", 33_629),
    ("xh", "Xhosa", "IsiXhosa", "Latn", "ltr", 30),
    ("yi", "Yiddish", "ייִדיש", "Hebr", "rtl", 43),
    ("yo", "Yoruba", "Èdè Yorùbá", "Latn", "ltr", 21),
    ("zh", "Chinese", "中文", "Hant", "ltr", 54_463),
    ("zu", "Zulu", "isiZulu", "Latn", "ltr", 66),
)

LANGUAGES: dict[str, Language] = {row[0]: Language(*row) for row in _ROWS}
"""All languages by code, in the order of their codes."""


def find_language(code: str) -> Language:
    """The language with this code. Raises `UserError` for an unknown code."""
    language = LANGUAGES.get(code) if isinstance(code, str) else None
    if language is None:
        sentence = f"There is no language {quote(code)}. Use one of the 96 codes, for example en, de or zh."
        raise UserError(sentence, code="unknown_language")
    return language


def format_names(codes: Iterable[str]) -> str:
    """The English names of languages for a sentence: `English, German and Hindi`."""
    *others, last = (find_language(code).english_name for code in codes)
    return f"{', '.join(others)} and {last}" if others else last


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Two patterns: any language's name; and an English name that is an adjective, as `DETERMINERS` describes."""
    languages = LANGUAGES.values()
    english = {name for language in languages for name in (language.prompt_name, language.english_name)}
    unambiguous = [language for language in languages if language.code not in AMBIGUOUS_NAMES]
    spaced = {language.own_name for language in unambiguous if language.script not in UNSPACED_SCRIPTS}
    unspaced = [re.escape(language.own_name) for language in unambiguous if language.script in UNSPACED_SCRIPTS]
    labels = "|".join(re.escape(LANGUAGES[code].own_name) for code in AMBIGUOUS_NAMES)
    words = rf"(?<!\w)(?:{_alternatives(english | spaced)})(?!\w)"
    name = "|".join([words, *unspaced, *AMBIGUOUS_NAMES.values(), rf"\((?:{labels})\)"])
    adjective = rf"(?<!\w)((?i:{DETERMINERS})\s+)(?:{_alternatives(english)})(?=\s+(?!(?i:languages?)\b)\w)"
    return re.compile(name), re.compile(adjective)


def _alternatives(names: set[str]) -> str:
    """A pattern that matches any of the names, the longest first."""
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


def mentions_language(text: str) -> bool:
    """Whether the text names one of the languages, in English or in the language itself (`in Swahili`, `auf Deutsch`).

    Matching is case-sensitive, so the verb `polish` is not the language Polish. Names of countries and peoples do not
    count: neither `the Greek temple` nor `in Indonesia`.
    """
    name, adjective = _patterns()
    return name.search(adjective.sub(r"\1", text)) is not None
