"""Object names and list patterns, in every language for which CLDR has all the names.

Reads the unpacked CLDR packages of `sources`. Depends on nothing else in training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

LOCALES = {"iw": "he", "zh": "zh-Hant"}
"""CLDR's locale for a language, if it differs from mBLIP's code; mBLIP's Chinese is Traditional."""


@dataclass(frozen=True)
class LocaleNames:
    """The object names of one language, by their English keys, and its list patterns."""

    code: str
    by_key: Mapping[str, str]
    patterns: Mapping[str, str]
    """CLDR's standard list patterns `start`, `middle`, `end` and `2`, each with placeholders {0} and {1}."""

    def join(self, items: Sequence[str]) -> str:
        """Join `items` to a list in words: "a, b and c"."""
        if len(items) < 2:
            return "".join(items)
        if len(items) == 2:
            return self.patterns["2"].format(*items)
        joined = self.patterns["end"].format(*items[-2:])
        for item in reversed(items[1:-2]):
            joined = self.patterns["middle"].format(item, joined)
        return self.patterns["start"].format(items[0], joined)


@cache
def characters(annotations: Path) -> Mapping[str, str]:
    """The emoji characters by their English names, from CLDR's package in the folder `annotations`."""
    by_name: dict[str, str] = {}
    for character, name in _annotations(annotations, "en").items():
        by_name.setdefault(name, character)
    return by_name


def load_names(annotations: Path, lists: Path, code: str, keys: Sequence[str]) -> LocaleNames | None:
    """The names of `keys` in the language `code`, or None if CLDR lacks one of the names."""
    locale = LOCALES.get(code, code)
    if not (annotations / "annotations" / locale).exists():
        return None
    localized, emoji = _annotations(annotations, locale), characters(annotations)
    names = {key: localized.get(emoji[key]) for key in keys}
    if not all(names.values()):
        return None
    misc = json.loads((lists / "main" / locale / "listPatterns.json").read_text(encoding="utf-8"))
    patterns = misc["main"][locale]["listPatterns"]["listPattern-type-standard"]
    return LocaleNames(code, {key: name for key, name in names.items() if name}, patterns)


def _annotations(folder: Path, locale: str) -> dict[str, str]:
    path = folder / "annotations" / locale / "annotations.json"
    entries: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["annotations"]["annotations"]
    return {character: entry["tts"][0] for character, entry in entries.items() if "tts" in entry}
