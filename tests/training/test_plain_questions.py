"""Plain questions: ten wordings of each task in nine languages, which training never asks, and scenes that fit."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from training.evaluation import plain_questions
from training.evaluation.plain_questions import LANGUAGE_CODES, PLAIN_TASKS, YES_OR_NO, PlainQuestion
from training.lexicon import GRAMMARS
from training.lexicon.lexicon import Lexicon, load_lexicon
from training.scenes import everyday
from training.scenes.scene import sample_flat_scene
from training.tasks import templates
from training.tasks.writers import GrammarWriter, QuestionWriter, TemplateWriter

SAMPLES = 1_000


@pytest.fixture(scope="module")
def lexicons(sources: Path) -> dict[str, Lexicon]:
    """The lexicons of the languages that ask plain questions."""
    return {code: load_lexicon(code, sources) for code in LANGUAGE_CODES}


@pytest.fixture(scope="module")
def questions() -> list[PlainQuestion]:
    """Four questions of every wording."""
    return plain_questions.plain_questions(4)


def sampled_texts(code: str, writer: QuestionWriter) -> set[str]:
    """The texts of many training questions in the language `code`."""
    rng, texts = random.Random(code), set()
    for index in range(SAMPLES):
        is_flat = isinstance(writer, GrammarWriter)
        scene = sample_flat_scene(1, index, split="t") if is_flat else everyday.sample_everyday_scene(rng)
        asked = writer.sample_dialogue(scene, rng) if index % 2 else [writer.sample_question(scene, rng, length="any")]
        texts |= {writer.render_question(one, rng) for one in asked if code == "en" or not templates.needs_english(one)}
    return texts


def test_every_language_has_ten_wordings_of_each_task() -> None:
    for task, entries in plain_questions.load_wordings().items():
        assert task in PLAIN_TASKS
        assert len(entries) == 10
        assert all(tuple(entry["wordings"]) == LANGUAGE_CODES for entry in entries)
        for code in LANGUAGE_CODES:
            assert len({entry["wordings"][code] for entry in entries}) == 10


@pytest.mark.parametrize("code", LANGUAGE_CODES)
def test_training_asks_none_of_the_sentences(code: str, lexicons: dict[str, Lexicon]) -> None:
    writers: list[QuestionWriter] = [TemplateWriter(code, lexicons)]
    writers += [GrammarWriter(code)] if code in GRAMMARS else []
    held_out = plain_questions.held_out_sentences()
    for writer in writers:
        assert not held_out & sampled_texts(code, writer)


def test_half_of_the_answers_to_yes_or_no_are_yes(questions: list[PlainQuestion], lexicons: dict[str, Lexicon]) -> None:
    asked = plain_questions.as_eval_questions(questions, lexicons)
    for code in LANGUAGE_CODES:
        mine = [one for one in asked if one.language == code and one.task == YES_OR_NO]
        assert Counter(one.expected for one in mine) == {lexicons[code].yes: 20, lexicons[code].no: 20}


def test_the_image_answers_the_question(questions: list[PlainQuestion], lexicons: dict[str, Lexicon]) -> None:
    english = {one.wordings["en"]: one for one in questions}
    counted = english["How many apples are there?"]
    apples = sum(obj.kind.endswith("apple") for obj in counted.scene.objects)
    assert counted.answer(lexicons["en"]) == lexicons["en"].numbers[apples]
    two = [one for one in questions if one.wordings["en"] == "Are there two bananas?"]
    for one in two:
        assert (one.answer(lexicons["en"]) == "yes") == (one.scene.count("banana") == 2)
    referring = english["And what is on the other side?"]
    assert referring.first_answer
    sides = [obj.kind for obj in (referring.scene.at("left"), referring.scene.at("right")) if obj]
    assert [referring.first_answer(lexicons["en"]), referring.answer(lexicons["en"])] == sides


def test_the_first_answer_is_in_the_prompt(questions: list[PlainQuestion], lexicons: dict[str, Lexicon]) -> None:
    asked = plain_questions.as_eval_questions(questions, lexicons, ["de"])
    prompts = [one.prompt for one in asked if one.prompt.endswith("Und links davon? Short answer in German:")]
    assert len(prompts) == 4
    assert all(prompt.startswith("Question: Was ist rechts? Answer: ") for prompt in prompts)
