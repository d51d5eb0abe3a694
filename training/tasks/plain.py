"""Plain questions in all eighty languages, worded as people ask them, about concepts and their general names.

`plain_dialogues` samples them, and answers are those of `templates`. A wording's key is `PREFIX` and a key of
`lexicon.plain`, or one of `templates`. Must not import `samples`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from training.lexicon import GRAMMARS, plain
from training.lexicon.lexicon import Lexicon
from training.scenes.everyday import NAMES
from training.scenes.general_names import general_names
from training.scenes.scene import SHAPES
from training.tasks import questions
from training.tasks.plain_dialogues import PREFIX
from training.tasks.questions import Question

OWN_SHARE = 0.9
"""How often a question in a language with plain nouns uses them; otherwise it uses what every language has."""

CHINESE_TWO = ("兩", "两", "2")
"""The number two before a measure word, which is not the word for two that answers use."""

FALLBACKS = {
    "count": "count_of",
    "count_all": "count",
    "and_count": "and_of",
    "and_exists": "and_of",
    "is_it": "exists",
    "colour_it": "colour",
    "colour_they": "colour",
    "among": "and_of",
    "left_of_it": "and_left",
    "right_of_it": "and_right",
}
"""The key of a template with the same meaning, by the key of a plain wording, if the keys differ."""

COLOUR_WORDINGS = {"colour_the": "colour_the", "colour_left": "colour_side", "colour_right": "colour_side"}
"""The key of a wording in the grammars, which all have the colour of a named shape."""

ENGLISH_ONLY = ("exists_number", "is_colour", "other_side")


def render_plain_question(question: Question, lexicon: Lexicon, rng: random.Random) -> str:
    """The question in the lexicon's language, in a random plain wording."""
    key = question.wording.removeprefix(PREFIX)
    if key in COLOUR_WORDINGS and lexicon.code in GRAMMARS:
        grammatical = replace(question, wording=COLOUR_WORDINGS[key])
        return questions.render_question(grammatical, GRAMMARS[lexicon.code], rng)
    own = plain.wordings().get(lexicon.code, {}).get(key)
    if own and (key in ENGLISH_ONLY or key in COLOUR_WORDINGS or rng.random() < OWN_SHARE):
        text = _own_wording(question, rng.choice(own), lexicon, rng)
        if text:
            return text
    return rng.choice(list(_generic_wordings(key, lexicon))).format(name=_name(question, lexicon))


def _own_wording(question: Question, wording: str, lexicon: Lexicon, rng: random.Random) -> str | None:
    """The wording with the forms of the question's noun; None if the language has no noun for it."""
    words: dict[str, str] = {"m": rng.choice(plain.MEASURE_WORDS)}
    if question.kind and "{" in wording:
        forms = _forms(question.kind, lexicon, rng)
        if forms is None:
            return None
        words |= forms
    if question.colour:
        words["colour"] = lexicon.colours[question.colour]
    if question.number is not None:
        words["number"] = rng.choice((lexicon.numbers[question.number], str(question.number)))
        if lexicon.code == "zh" and question.number == 2:
            words["number"] = rng.choice(CHINESE_TWO)
    try:
        text = wording.format(**words)
        return text[:1].upper() + text[1:]
    except KeyError:  # the shapes' grammar has fewer forms than the nouns
        return None


def _forms(kind: str, lexicon: Lexicon, rng: random.Random) -> plain.Forms | None:
    if kind in SHAPES and lexicon.code == "sw":
        return {"one": lexicon.shapes[kind]}
    if kind in SHAPES:
        return GRAMMARS[lexicon.code].noun_forms(kind, None) if lexicon.code in ("en", "de") else None
    forms = plain.noun_forms(lexicon.code, kind, rng)
    if not forms and lexicon.code in ("ja", "zh") and kind in lexicon.names.by_key:
        return {"one": lexicon.name_of(kind)}
    return forms


def _generic_wordings(key: str, lexicon: Lexicon) -> Iterator[str]:
    """Wordings that every language has, which take a name in its dictionary form."""
    words = plain.plain_words()[lexicon.code]
    short = {"how_many": words.how_many, "count_all": words.how_many, "is_it": words.is_it, "exists": words.exists}
    if key in short:
        yield from (short[key],) * 2
    if key != "how_many":  # the templates count everything, but it refers to what was named before
        yield from lexicon.questions[FALLBACKS.get(key, key)]


def _name(question: Question, lexicon: Lexicon) -> str:
    kind = question.kind or ""
    general = plain.plain_words()[lexicon.code].general
    if kind in general:
        return general[kind]
    if kind in general_names() and kind not in NAMES:
        return kind if lexicon.code == "en" else plain.nouns(lexicon.code)[kind][0]["one"]
    return lexicon.name_of(kind) if kind else ""


def needs_english(question: Question, lexicon: Lexicon) -> bool:
    """Whether the language has no words for the question, or no name for its objects."""
    key = question.wording.removeprefix(PREFIX)
    if key in COLOUR_WORDINGS:
        return lexicon.code not in GRAMMARS and key not in plain.wordings().get(lexicon.code, {})
    if key in ENGLISH_ONLY:
        has_noun = not question.kind or question.kind in plain.nouns(lexicon.code)
        return lexicon.code not in plain.wordings() or not has_noun
    is_general = question.kind in general_names() and question.kind not in NAMES
    if not is_general or question.kind in plain.plain_words()[lexicon.code].general:
        return False
    return question.kind not in plain.nouns(lexicon.code) and lexicon.code != "en"
