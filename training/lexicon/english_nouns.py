"""English nouns with their article and their plural: for questions about everyday things as people type them.

Knows spelling only.
"""

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
UNCOUNTED = ("bread", "bacon", "popcorn", "spaghetti", "sushi", "tennis", "bowling", "corn", "milk")
CONSONANTS = ("unicorn",)
"""Names that begin with a vowel's letter and a consonant's sound."""


def forms(name: str) -> dict[str, str]:
    """`{one}` dog, `{a}` a dog, `{many}` dogs."""
    many = plural(name)
    article = "an " if name[0] in "aeiou" and name not in CONSONANTS else "a "
    if many == name and name not in IRREGULAR:
        article = ""
    return {"one": name, "a": f"{article}{name}", "many": many}


def plural(name: str) -> str:
    """The plural of a noun or of a phrase; "jeans" and "bread" stand for themselves."""
    head, of, rest = name.partition(" of ")
    *before, last = head.split(" ")
    many = IRREGULAR.get(last) or _regular(last)
    return f"{' '.join([*before, many])}{of}{rest}"


def _regular(noun: str) -> str:
    if noun in UNCOUNTED or (noun.endswith("s") and not noun.endswith(("ss", "us", "os"))):
        return noun
    if noun.endswith(("sh", "ch", "x", "s", "z")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"
