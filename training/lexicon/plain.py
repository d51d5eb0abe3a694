"""Plain wordings: questions as people ask them, with nouns in their inflected forms, and general names of concepts.

Nine languages have tables of nouns (`nouns/`) and wordings (`plain_questions.json`); for the others `plain.txt` has a
few sentences that take a name in its dictionary form. Must not import `tasks`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from training.lexicon import english_nouns

FOLDER = Path(__file__).parent
GENERAL_COLUMNS = ("animal", "fruit", "flower", "tree", "apple", "car")
"""The general names that `plain.txt` has in every language."""

Forms = Mapping[str, str]
"""The forms of a noun by the placeholders of the wordings, as "one", "a" and "many"."""


@dataclass(frozen=True)
class PlainWords:
    """One language's plain words that need no grammar."""

    photograph: str
    """The answer to a question about a photograph that only a drawing can answer."""

    how_many: str
    is_it: str
    exists: str
    general: Mapping[str, str]
    """The general names in their dictionary form."""


@cache
def plain_words() -> Mapping[str, PlainWords]:
    """The plain words of each language."""
    words = {}
    for line in (FOLDER / "plain.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            code, photograph, how_many, is_it, exists, *general = line.split("|")
            by_name = dict(zip(GENERAL_COLUMNS, general, strict=True))
            words[code] = PlainWords(photograph, how_many, is_it, exists, by_name)
    return words


@cache
def wordings() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """The plain wordings of the languages that have nouns, by language and by key."""
    table = json.loads((FOLDER / "plain_questions.json").read_text(encoding="utf-8"))
    return {code: {key: tuple(texts) for key, texts in by_key.items()} for code, by_key in table.items()}


@cache
def nouns(code: str) -> Mapping[str, tuple[Forms, ...]]:
    """The nouns of each concept and general name in the language `code`; empty if it has no table."""
    path = FOLDER / "nouns" / f"{code}.txt"
    found: dict[str, tuple[Forms, ...]] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            kind, *entry = line.split("|")
            found[kind] = (*found.get(kind, ()), _INFLECTIONS[code](*entry))
    return found


def noun_forms(code: str, kind: str, rng: random.Random) -> Forms | None:
    """The forms of a random noun for `kind`, or None if the language has none."""
    entries = nouns(code).get(kind, ())
    if code == "en" and (not entries or rng.random() < 0.4):
        return english_nouns.noun_forms(kind)
    return rng.choice(entries) if entries else None


def vocabulary(code: str) -> Iterator[tuple[str, str]]:
    """Every word or phrase of the language's plain nouns, with the concept or general name that it stands for."""
    for kind, entries in nouns(code).items():
        for forms in entries:
            yield from ((word, kind) for key, word in forms.items() if key in ("one", "many", "the_many"))
    yield from ((word, kind) for kind, word in plain_words()[code].general.items())


def _english(singular: str, plural: str) -> Forms:
    article = "an" if singular[0] in "aeiou" and not singular.startswith("uni") else "a"
    is_uninflected = singular in english_nouns.UNINFLECTED
    return {"one": singular, "a": singular if is_uninflected else f"{article} {singular}", "many": plural}


def _german(gender: str, singular: str, plural: str) -> Forms:
    accusative = singular.replace("er ", "en ") if gender == "m" and " " in singular else singular
    articles = {"m": ("ein", "einen"), "f": ("eine", "eine"), "n": ("ein", "ein")}[gender]
    return {"one": singular, "a": f"{articles[0]} {singular}", "a_acc": f"{articles[1]} {accusative}", "many": plural}


def _french(gender: str, singular: str, plural: str = "") -> Forms:
    many = plural or _french_plural(singular)
    is_plural = singular == plural and singular.endswith(("es", "aux"))
    article = "des" if is_plural or gender == "p" else {"m": "un", "f": "une"}[gender]
    is_elided = many[0] in "aeéêiîoôœuy" or (many[0] == "h" and not many.startswith(_ASPIRATED))
    de_many = f"d'{many}" if is_elided else f"de {many}"
    return {"one": singular, "a": f"{article} {singular}", "many": many, "de_many": de_many, "the_many": f"les {many}"}


_ASPIRATED = ("ham", "hib", "hot", "haut")
"""How French words begin whose h forbids an elision ("hibiscus" is the exception that does not occur after "de")."""


def _french_plural(singular: str) -> str:
    if singular.endswith(("s", "x", "z")):
        return singular
    return singular + ("x" if singular.endswith(("eau", "eu")) else "s")


def _spanish(gender: str, singular: str, plural: str = "") -> Forms:
    many = plural or singular + ("s" if singular[-1] in "aeiouáéíóú" else "es")
    is_feminine = gender == "f"
    article = "un" if not is_feminine or singular in ("águila", "ancla") else "una"
    if singular == many and singular.split()[0].endswith("as"):
        article = "unas"
    the = "el" if article == "un" else "la"
    return {
        "one": singular,
        "a": f"{article} {singular}",
        "many": many,
        "the": f"{the} {singular}",
        "the_many": f"{'las' if is_feminine else 'los'} {many}",
        "cuantos": "Cuántas" if is_feminine else "Cuántos",
    }


def _arabic(_: str, singular: str, plural: str) -> Forms:
    has_ending = " " not in singular and singular[-1] not in "ةىاءي"
    return {
        "one": singular,
        "many": plural,
        "acc": f"{singular}ًا" if has_ending else singular,
        "the_many": _arabic_definite(plural),
    }


_ARABIC_ADJECTIVES = frozenset(
    (
        "حمراء",
        "خضراء",
        "رومية",
        "شراعية",
        "نارية",
        "دوارة",
        "رملية",
        "رياضية",
        "موسيقية",
        "مكبرة",
        "مفتوحة",
        "محمولة",
        "جوالة",
        "مرنة",
        "فضائية",
        "مكسورة",
        "يدوية",
        "شمسية",
        "طائرة",
        "مقلية",
    )
)


def _arabic_definite(plural: str) -> str:
    """The definite plural: of a noun with an adjective both words are definite, of a genitive only the last one."""
    *first, last = plural.split(" ")
    if first and last in _ARABIC_ADJECTIVES:
        first = [f"ال{word}" for word in first]
    return " ".join([*first, last if last.startswith("ال") else f"ال{last}"])


def _hindi(gender: str, singular: str, plural: str = "") -> Forms:
    return {"one": singular, "many": plural or singular, "kitne": "कितनी" if gender == "f" else "कितने"}


def _swahili(noun_class: str, singular: str, plural: str) -> Forms:
    how_many = {"wa": "wangapi", "n": "ngapi", "vi": "vingapi", "mi": "mingapi", "ma": "mangapi"}[noun_class]
    subject = {"wa": "wa", "n": "zi", "vi": "vi", "mi": "i", "ma": "ya"}[noun_class]
    return {"one": singular, "many": plural, "ngapi": how_many, "wa": subject}


def _uninflected(noun: str) -> Forms:
    return {"one": noun}


_INFLECTIONS: Mapping[str, Callable[..., Forms]] = {
    "en": _english,
    "de": _german,
    "fr": _french,
    "es": _spanish,
    "ar": _arabic,
    "hi": _hindi,
    "sw": _swahili,
    "ja": _uninflected,
    "zh": _uninflected,
}
MEASURE_WORDS = (
    *("個", "個", "隻", "顆", "朵", "輛", "棵", "張", "條", "把", "本", "个", "只", "颗"),
    "匹",
    "頭",
    "根",
    "辆",
)
"""Chinese measure words; a question may use any of them, since people do not always use the usual one."""
