"""Articles and plurals of English nouns, for questions about everyday objects. Depends on nothing else in training."""

from __future__ import annotations

IRREGULAR = {
    "mouse": "mice",
    "wolf": "wolves",
    "leaf": "leaves",
    "knife": "knives",
    "tooth": "teeth",
    "snowman": "snowmen",
    "tomato": "tomatoes",
    "potato": "potatoes",
    "volcano": "volcanoes",
    "fish": "fish",
    "deer": "deer",
    "shrimp": "shrimp",
}
UNINFLECTED = ("bread", "bacon", "popcorn", "spaghetti", "sushi", "tennis", "bowling", "corn", "milk")
CONSONANT_SOUND = ("unicorn",)
"""Names that begin with a vowel letter but a consonant sound."""


def noun_forms(name: str) -> dict[str, str]:
    """The forms of a noun by template placeholder: `one` is "dog", `a` is "a dog", `many` is "dogs"."""
    plural_form = plural(name)
    article = "an " if name[0] in "aeiou" and name not in CONSONANT_SOUND else "a "
    if plural_form == name and name not in IRREGULAR:
        article = ""
    return {"one": name, "a": f"{article}{name}", "many": plural_form}


def plural(name: str) -> str:
    """The plural of a noun or of a phrase; "jeans" and "bread" do not change."""
    head, preposition, rest = name.partition(" of ")
    *before, last = head.split(" ")
    plural_form = IRREGULAR.get(last) or _regular_plural(last)
    return f"{' '.join([*before, plural_form])}{preposition}{rest}"


def _regular_plural(noun: str) -> str:
    if noun in UNINFLECTED or (noun.endswith("s") and not noun.endswith(("ss", "us", "os"))):
        return noun
    if noun.endswith(("sh", "ch", "x", "s", "z")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"
