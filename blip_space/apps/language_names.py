"""Other codes and other names of the 96 languages, by which browsers and users call them.

Must not depend on anything but the table of languages.
"""

from __future__ import annotations

from blip_space.languages import LANGUAGES

OTHER_CODES = {
    "arb": "ar", "cmn": "zh", "he": "iw", "in": "id", "ji": "yi", "jw": "jv", "mo": "ro", "nb": "no", "nn": "no",
    "pes": "fa", "prs": "fa", "swh": "sw", "tl": "fil", "yue": "zh",
}  # fmt: skip
"""Codes that browsers send, or that other tables have, by the code of this project."""

OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "bn": ("Bengali",),
    "ceb": ("Bisaya", "Visayan"),
    "el": ("Modern Greek",),
    "es": ("Castilian", "Castellano"),
    "eu": ("Euskera",),
    "fa": ("Farsi", "Dari"),
    "fil": ("Tagalog", "Pilipino"),
    "ga": ("Gaelic", "Irish Gaelic"),
    "gd": ("Gaelic",),
    "ht": ("Haitian Creole", "Kreyol"),
    "id": ("Bahasa Indonesia",),
    "iw": ("Ivrit",),
    "ja": ("Nihongo",),
    "jv": ("Bahasa Jawa",),
    "km": ("Cambodian",),
    "ko": ("Hangugeo", "Hangul"),
    "ku": ("Sorani", "Kurmanji"),
    "ky": ("Kirghiz",),
    "mi": ("Te Reo",),
    "ms": ("Bahasa Melayu",),
    "my": ("Myanmar",),
    "nl": ("Flemish", "Vlaams"),
    "no": ("Bokmål", "Nynorsk"),
    "ny": ("Chichewa", "Chewa"),
    "pa": ("Panjabi", "Gurmukhi"),
    "ps": ("Pushto", "Pakhto"),
    "pt": ("Brazilian",),
    "ro": ("Moldovan",),
    "ru": ("Russkij", "Russkiy"),
    "si": ("Sinhalese",),
    "sr": ("Srpski",),
    "st": ("Sotho",),
    "uk": ("Ukrainska",),
    "vi": ("Tieng Viet",),
    "yi": ("Jiddisch",),
    "zh": ("Mandarin", "Cantonese", "Putonghua", "Hanyu", "简体中文", "繁體中文", "普通话", "國語", "粵語"),
}
"""Names beside the English and the own one, by code. A page's list finds each without accents too."""


def code_of_tag(tag: str) -> str | None:
    """The code of a browser's language tag, such as `nb-NO` or `zh-TW`. None if the table lacks the language."""
    base = tag.replace("_", "-").split("-")[0].lower()
    code = OTHER_CODES.get(base, base)
    return code if code in LANGUAGES else None


def search_names() -> dict[str, list[str]]:
    """All names and codes of each language by its code, as a user may type them."""
    codes: dict[str, list[str]] = {}
    for other, code in OTHER_CODES.items():
        codes.setdefault(code, []).append(other)
    return {
        code: [code, *codes.get(code, ()), language.own_name, language.english_name, *OTHER_NAMES.get(code, ())]
        for code, language in LANGUAGES.items()
    }
