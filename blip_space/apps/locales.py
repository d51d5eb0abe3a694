"""The languages of the page: which one a user reads, and its texts.

The texts of a language are one file, `assets/locales/TAG.json`: each key has a sentence, or a sentence for each plural
form of the language (CLDR's names, chosen by the value `n`). `{name}` in a sentence stands for a value. A user reads
the language that the page's address names (`?language=de`, where a browser refuses cookies), else that of the page's
cookie, else the first of the browser's languages that there is, else English. Programs that call the API and the
command line read English.

The layout is built once for all users, so while it is built a text is a marker, `⟦key|name=value⟧`, which is
replaced in the page of each user. Must not import Gradio.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, cached_property
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import babel
from babel.core import get_global
from babel.numbers import format_decimal

from blip_space import ASSETS
from blip_space.languages import LANGUAGES

FOLDER = ASSETS / "locales"
DEFAULT = "en"
COOKIE = "blip-space-language"
"""The cookie by which the browser says which language its user has chosen on the page."""

Text = str | Mapping[str, str]

PARAMETER = "language"
"""The parameter of the page's address that says the same."""

LANGUAGE_NAME = "language_name"
"""The key of the name of the language with the code `code`, whose texts are CLDR's."""

MAX_TAGS = 32
"""How many of a browser's languages are considered."""


@dataclass(frozen=True)
class Locale:
    """One language of the page: its BCP 47 tag and its texts by key."""

    tag: str
    texts: Mapping[str, Text]

    @cached_property
    def _cldr(self) -> babel.Locale:
        return babel.Locale.parse(self.tag, sep="-")

    @property
    def direction(self) -> str:
        """`ltr` or `rtl`."""
        return self._cldr.text_direction

    @property
    def own_name(self) -> str:
        """What the language is called in itself, as a list of languages shows it."""
        return self.text("own_name")

    def text(self, key: str, **values: object) -> str:
        """The text of `key` with its values, whose numbers are written as the language writes them. A text with plural
        forms needs the value `n`. Raises `KeyError` if English has no such key."""
        if key == LANGUAGE_NAME:
            return self.language_name(str(values["code"]))
        text = self.texts.get(key) or english().texts[key]
        if not isinstance(text, str):
            count = values.get("n")
            text = text.get(self._cldr.plural_form(count if isinstance(count, int) else 0)) or text["other"]
        shown = {name: self.number(value) for name, value in values.items()}
        return re.sub(r"\{(\w+)\}", lambda match: shown.get(match[1], match[0]), text)

    def language_name(self, code: str) -> str:
        """What a language of the models is called in this one, after its own name unless both are the same."""
        own = LANGUAGES[code].own_name
        name = self._cldr.languages.get({"iw": "he"}.get(code, code)) or LANGUAGES[code].english_name
        return own if own.casefold() == name.casefold() else f"{own} – {name}"

    def replace_markers(self, text: str) -> str:
        """`text` with the texts for its markers, and for those in their values."""
        return MARKER.sub(self._marked, text)

    def _marked(self, match: re.Match[str]) -> str:
        pairs = parse_qsl(match[3] or "", keep_blank_values=True, separator=";")
        values = {name: self.replace_markers(value) for name, value in pairs}
        text = self.text(
            match[2], **{name: int(value) if value.isdecimal() else value for name, value in values.items()}
        )
        return html.escape(text) if match[1] else text

    def number(self, value: object) -> str:
        """A number as the language writes it; anything else as text."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return str(value)
        return str(format_decimal(value, locale=self._cldr, numbering_system="latn"))


current_locale: ContextVar[Locale | None] = ContextVar("current_locale", default=None)
"""The language that the user of the page reads whose event runs; None outside of the page's events."""


def reads_english() -> bool:
    """Whether the user reads English, as programs do."""
    locale = current_locale.get()
    return locale is None or locale.tag == DEFAULT


def page_language() -> str:
    """The code of the language that the user reads, as the table of languages has it."""
    return (current_locale.get() or english()).tag.partition("-")[0]


OTHER_BASES = {"yue": "zh-Hant", "wuu": "zh-Hans"}
"""Languages whose readers read another one of the page."""

MARKER = re.compile(r"⟦(&|\\u0026)?(\w+)(?:\|([^⟧]*))?⟧")
"""`&` (which Gradio escapes in scripts) says that the marker stands in HTML, where its text is escaped."""


def text(key: str, **values: object) -> str:
    """The text of `key` in the language of the user whose event runs; outside of the page's events its marker.
    Raises `KeyError` if English has no such key."""
    if locale := current_locale.get():
        return locale.text(key, **values)
    if key != LANGUAGE_NAME:
        english().texts[key]
    query = ";".join(f"{name}={quote(str(value))}" for name, value in values.items())
    return f"⟦{key}|{query}⟧" if query else f"⟦{key}⟧"


@cache
def available() -> Mapping[str, Locale]:
    """Every language of the page, by its tag, in the order of the tags."""
    return {file.stem: Locale(file.stem, json.loads(file.read_text("utf-8"))) for file in sorted(FOLDER.glob("*.json"))}


def english() -> Locale:
    """The language whose texts stand in for those that another one lacks."""
    return available()[DEFAULT]


def locale_of(headers: Mapping[str, Any], query: str | None = None) -> Locale:
    """The language for a request with these headers, whose names are in lower case. `query` is that of the page's
    address; None for an event of the page, whose `Referer` has it."""
    return next((found for tag in tags_of(headers, query) if (found := find(tag))), english())


def tags_of(headers: Mapping[str, Any], query: str | None = None) -> list[str]:
    """The tags of the languages that a user has chosen or prefers, the first one first; arguments as of `locale_of`."""
    if query is None:
        query = _query_of(str(headers.get("referer", "")))
    named = [value for name, value in parse_qsl(query) if name == PARAMETER]
    chosen = [*named[:1], *_chosen(str(headers.get("cookie", "")))]
    return [*chosen, *_accepted(str(headers.get("accept-language", "")))]


def find(tag: str) -> Locale | None:
    """The language for a browser's tag, which may have a region, another script or an older code: `pt-BR` is
    Portuguese and `zh-TW` is traditional Chinese. None if there is none."""
    base, *subtags = tag.replace("_", "-").split("-")
    if base.lower() in OTHER_BASES:
        return available().get(OTHER_BASES[base.lower()])
    base = str(get_global("language_aliases").get(base.lower(), base.lower()))
    subtags = subtags[: next((index for index, part in enumerate(subtags) if len(part) == 1), None)]  # no extensions
    region = next((part.upper() for part in subtags if len(part) == 2), "")
    script = next((part.title() for part in subtags if len(part) == 4), "") or _likely_script(base, region)
    return available().get(f"{base}-{script}") or available().get(base)


def _query_of(address: str) -> str:
    try:
        return urlsplit(address).query
    except ValueError:
        return ""


def _likely_script(language: str, region: str) -> str:
    likely = get_global("likely_subtags")
    found = str(likely.get(f"{language}_{region}") or likely.get(language) or "").split("_")
    return found[1] if len(found) > 1 else ""


def _chosen(cookies: str) -> list[str]:
    try:
        return [morsel.value for name, morsel in SimpleCookie(cookies).items() if name == COOKIE]
    except CookieError:
        return []


def _accepted(header: str) -> list[str]:
    """The tags of an `Accept-Language` header, the preferred ones first."""
    found = []
    for entry in header.split(",")[:MAX_TAGS]:
        tag, _, quality = entry.strip().partition(";q=")
        if re.fullmatch(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8})*", tag):
            found.append((tag, float(quality) if re.fullmatch(r"[01](\.\d{0,3})?", quality.strip()) else 1.0))
    return [tag for tag, quality in sorted(found, key=lambda item: -item[1]) if quality]
