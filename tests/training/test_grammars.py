"""Every grammar is complete, and makes the phrases that a speaker would."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from blip_space.languages import LANGUAGES
from training.evaluation.scoring import in_language
from training.lexicon import GRAMMARS, WORDINGS, Grammar
from training.scenes.colours import COLOURS
from training.scenes.scene import MAX_OBJECTS, SHAPES, SIDES
from training.tasks.questions import Question, render_question

EVERY_GRAMMAR = pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS)


@EVERY_GRAMMAR
def test_every_grammar_is_complete(grammar: Grammar) -> None:
    assert grammar.code in LANGUAGES
    assert len(grammar.numbers) == MAX_OBJECTS + 1
    assert set(grammar.colours) == set(COLOURS)
    assert set(grammar.shapes) == set(SHAPES)
    assert set(grammar.synonyms) == {None, *SHAPES}
    assert set(grammar.sides) == set(SIDES)
    assert set(grammar.questions) == set(WORDINGS)


@EVERY_GRAMMAR
def test_every_wording_fills_its_placeholders(grammar: Grammar) -> None:
    rng = random.Random(1)
    for wording in WORDINGS:
        for shape in (None, *SHAPES):
            for colour in (None, *COLOURS):
                texts = [render_question(Question(wording, "", shape, colour, "left"), grammar, rng) for _ in range(4)]
                assert all("{" not in text and "  " not in text and text == text.strip() for text in texts)


@EVERY_GRAMMAR
def test_no_two_kinds_have_the_same_phrase(grammar: Grammar) -> None:
    phrases = [
        grammar.count_phrase(n, shape, colour)
        for n in range(1, MAX_OBJECTS + 1)
        for shape in SHAPES
        for colour in COLOURS
    ]
    assert len(set(phrases)) == len(phrases)


@pytest.mark.parametrize(
    ("code", "kind", "expected"),
    [
        ("en", (3, "circle", "blue"), "three blue circles"),
        ("en", (1, "star", "orange"), "an orange star"),
        ("de", (1, "circle", "red"), "ein roter Kreis"),
        ("de", (1, "heart", "pink"), "ein rosa Herz"),
        ("de", (2, "cross", "green"), "zwei grüne Kreuze"),
        ("es", (1, "star", "red"), "una estrella roja"),
        ("es", (4, "heart", "blue"), "cuatro corazones azules"),
        ("fr", (1, "star", "white"), "une étoile blanche"),
        ("fr", (2, "circle", "grey"), "deux cercles gris"),
        ("ar", (1, "circle", "red"), "دائرة حمراء"),
        ("ar", (2, "square", "blue"), "مربعان أزرقان"),
        ("ar", (3, "circle", "blue"), "ثلاث دوائر زرقاء"),
        ("ar", (3, "square", "blue"), "ثلاثة مربعات زرقاء"),
        ("hi", (1, "star", "blue"), "एक नीला तारा"),
        ("hi", (3, "star", "blue"), "तीन नीले तारे"),
        ("ja", (3, "circle", "blue"), "三つの青い円"),
        ("zh", (2, "circle", "blue"), "兩個藍色的圓形"),
    ],
)
def test_numbers_and_colours_agree_with_their_nouns(code: str, kind: tuple[int, str, str], expected: str) -> None:
    assert GRAMMARS[code].count_phrase(*kind) == expected


@pytest.mark.parametrize(
    ("code", "parts", "expected"),
    [
        ("en", ["a", "b", "c"], "a, b and c"),
        ("de", ["a"], "a"),
        ("ar", ["a", "b", "c"], "a وb وc"),
        ("ja", ["a", "b", "c"], "a、bとc"),
        ("zh", ["a", "b"], "a和b"),
    ],
)
def test_lists_are_joined_as_the_language_joins_them(code: str, parts: list[str], expected: str) -> None:
    assert GRAMMARS[code].join(parts) == expected


@EVERY_GRAMMAR
def test_a_wrong_list_is_still_in_its_language(grammar: Grammar, sources: Path) -> None:
    """The word for "and" was once missing from a language's own words, so wrong lists counted as another language."""
    phrases = [grammar.count_phrase(count, "star", "red") for count in (1, 2, 3)]
    assert in_language(grammar.join(phrases), grammar.code, sources)
    assert not in_language("zwei rote Sterne" if grammar.code != "de" else "two red stars", grammar.code, sources)
