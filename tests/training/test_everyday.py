"""Everyday objects: images that show the scene, correct answers from templates, and initial embeddings."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from training.lexicon import english_nouns
from training.lexicon.lexicon import Lexicon, language_codes, load_lexicon
from training.model import vocabulary
from training.model.codebook import TargetCodebook
from training.model.embeddings import meaning_vectors
from training.scenes import everyday, mixture, out_of_distribution
from training.scenes.layouts import Box
from training.scenes.mixture import SceneRenderer
from training.scenes.scene import Scene, SceneObject
from training.tasks import templates
from training.tasks.questions import Question

WHITE = ((255, 255, 255), (255, 255, 255))


@pytest.fixture(scope="module")
def renderer(sources: Path) -> SceneRenderer:
    """A renderer with one drawing style."""
    return mixture.load_renderer(sources, ("noto",))


@pytest.fixture(scope="module")
def lexicons(sources: Path) -> dict[str, Lexicon]:
    """Every language's lexicon."""
    return {code: load_lexicon(code, sources) for code in language_codes()}


def row(*kinds: str) -> Scene:
    """Objects from left to right on a 300 x 100 canvas."""
    step = 300 / len(kinds)
    objects = (SceneObject(kind, None, Box((i + 0.5) * step, 50, 60), (0, 0, 0)) for i, kind in enumerate(kinds))
    return Scene(300, 100, WHITE, tuple(objects))


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (Question("what", "what"), "dog × 2 and cat"),
        (Question("count", "count"), "three"),
        (Question("count_of", "count", "dog"), "two"),
        (Question("count_of", "count", "key"), "zero"),
        (Question("exists", "exists", "cat"), "yes"),
        (Question("exists", "exists", "key"), "no"),
        (Question("right", "what", side="right"), "cat"),
        (Question("else", "else", "cat"), "dog × 2"),
    ],
)
def test_the_template_answer_is_correct(lexicons: dict[str, Lexicon], question: Question, expected: str) -> None:
    assert templates.answer(question, row("dog", "dog", "cat"), lexicons["en"]) == expected


def test_every_language_answers_that_it_does_not_know_an_image(lexicons: dict[str, Lexicon]) -> None:
    rng = random.Random(1)
    for lexicon in lexicons.values():
        for _ in range(5):
            questions = templates.sample_dialogue(mixture.ood_scene("photo"), rng)
            assert {templates.answer(question, mixture.ood_scene("photo"), lexicon) for question in questions} == {
                lexicon.unknown
            }


def test_every_language_renders_every_question(lexicons: dict[str, Lexicon]) -> None:
    rng = random.Random(2)
    for index in range(300):
        scene = everyday.sample_everyday_scene(rng)
        for question in templates.sample_dialogue(scene, rng):
            lexicon = lexicons["en"] if templates.needs_english(question) else lexicons[language_codes()[index % 80]]
            text = templates.render_question(question, lexicon, rng)
            assert text == text.strip()
            assert "{" not in text


def test_objects_are_rendered_where_the_scene_has_them(renderer: SceneRenderer) -> None:
    _, cover = renderer.render(row("dog", "whale"), side=96, seed="x")
    covered = cover.reshape(6, 16, 6, 16).mean(axis=(1, 3)) > 20
    assert covered[2:4, 1].all()
    assert covered[2:4, 4].all()
    assert not covered[0].any()
    assert not covered[:, [0, 5]][[0, 5]].any()


def test_the_same_seed_gives_the_same_image(renderer: SceneRenderer) -> None:
    for index in range(30):
        scene = mixture.sample_scene(3, index, split="a")
        assert scene == mixture.sample_scene(3, index, split="a")
        first, second = (renderer.render(scene, side=96, seed="x")[0] for _ in range(2))
        assert np.array_equal(first, second)


def test_training_and_evaluation_share_no_photograph() -> None:
    assert not set(out_of_distribution.TRAINING_FILES) & set(out_of_distribution.EVALUATION_FILES)


def test_an_embedding_starts_as_the_meaning_in_its_language(sources: Path) -> None:
    meanings = vocabulary.word_meanings(sources)
    vectors = meaning_vectors(meanings, TargetCodebook(160))
    pieces = list(meanings)
    dog = everyday.NAMES.index("dog") + 1 + 6
    for code, word in (("de", "▁Hund"), ("fr", "▁chien"), ("ja", "▁イヌ"), ("sw", "▁mbwa")):
        meaning = vocabulary.WordMeaning("kind", dog, code)
        indices = [index for index, piece in enumerate(pieces) if meaning in meanings[piece]]
        assert pieces.index(word) in indices
        vector = meaning_vectors({"word": (meaning,)}, TargetCodebook(160))[0]
        assert int(torch.argmax(vectors @ vector)) in indices


@pytest.mark.parametrize(
    ("name", "a", "many"),
    [
        ("dog", "a dog", "dogs"),
        ("owl", "an owl", "owls"),
        ("unicorn", "a unicorn", "unicorns"),
        ("octopus", "an octopus", "octopuses"),
        ("butterfly", "a butterfly", "butterflies"),
        ("computer mouse", "a computer mouse", "computer mice"),
        ("glass of milk", "a glass of milk", "glasses of milk"),
        ("jeans", "jeans", "jeans"),
        ("fish", "a fish", "fish"),
    ],
)
def test_english_nouns(name: str, a: str, many: str) -> None:
    assert english_nouns.noun_forms(name) == {"one": name, "a": a, "many": many}
