"""The ready questions of the embedded model: complete in all its languages, known to it, and answered correctly."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import blip_space
from blip_space import catalogue
from training import questions
from training.examples import FOLDER
from training.lexicon.lexicon import load_lexicon

MAX_WRONG = 8
"""The tolerated number of wrong answers among the 640 about the page's examples."""


def test_every_language_has_ready_questions_of_the_training_data(sources: Path) -> None:
    spec = catalogue.find_model("tiny")
    assert tuple(spec.ready_questions) == spec.languages
    for code, ready in spec.ready_questions.items():
        wordings = load_lexicon(code, sources).questions
        for text, (key, _) in zip(ready.questions, questions.ASKED.values(), strict=True):
            assert text in wordings[key]


def test_the_line_of_what_the_model_knows_is_up_to_date(sources: Path) -> None:
    spec = catalogue.find_model("tiny")
    lexicons = {code: load_lexicon(code, sources) for code in spec.languages}
    lines = questions.knowledge_lines(lexicons, photographed=questions.photographed_concepts(Path(spec.source)))
    assert {code: ready.knows for code, ready in spec.ready_questions.items()} == lines


def test_ready_questions_about_the_examples_are_answered_correctly(sources: Path) -> None:
    spec = catalogue.find_model("tiny")
    asked = [
        (FOLDER / file, text, code, expected(load_lexicon(code, sources)))
        for code, ready in spec.ready_questions.items()
        for text, (_, examples) in zip(ready.questions, questions.ASKED.values(), strict=True)
        for file, expected in examples.items()
    ]
    assert len(asked) == 640
    with blip_space.load("tiny") as engine, ThreadPoolExecutor(questions.AT_ONCE) as pool:
        answers = pool.map(lambda one: engine.ask(one[0], one[1], language=one[2]), asked)
        wrong = [(*one, answer) for one, answer in zip(asked, answers, strict=True) if answer != one[3]]
    assert len(wrong) <= MAX_WRONG, wrong
