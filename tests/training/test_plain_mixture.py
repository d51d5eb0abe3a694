"""The mixture of plain questions: general names of several kinds, near ones that are absent, and as many yes as no."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import torch

from training.lexicon import plain
from training.lexicon.lexicon import Lexicon, load_lexicon
from training.model.question_targets import OBJECT_TARGETS, QuestionHead, object_targets
from training.model.targets import IGNORE_INDEX
from training.recipe import RECIPES
from training.scenes.general_names import general_names, is_doubtful, members
from training.scenes.groups import near_kinds, sample_group_scene
from training.scenes.layouts import Box
from training.scenes.mixture import sample_scene
from training.scenes.scene import Scene, SceneObject
from training.stages.reports import report_scene
from training.tasks.plain import render_plain_question
from training.tasks.plain_dialogues import PREFIX, sample_plain_dialogue, sample_plain_question
from training.tasks.questions import Question, is_true, referents
from training.tasks.writers import GrammarWriter, PlainWriter

SCENES = 1_500


@pytest.fixture(scope="module")
def lexicons(sources: Path) -> dict[str, Lexicon]:
    """The lexicons of the languages with tables of plain nouns."""
    return {code: load_lexicon(code, sources) for code in plain.wordings()}


def scene_of(*kinds: str, colour: str | None = None) -> Scene:
    """A scene of one object of each of `kinds`, in a row."""
    objects = (SceneObject(kind, colour, Box(10 + 12 * i, 48, 10), (0, 0, 0)) for i, kind in enumerate(kinds))
    return Scene(96, 96, ((255, 255, 255),) * 2, tuple(objects))


def newest_questions(seed: int) -> list[tuple[Question, Scene]]:
    """The newest question of many samples, half about group scenes, with its scene."""
    rng = random.Random(seed)
    asked = []
    for index in range(SCENES):
        scene = sample_group_scene(rng) if index % 2 else sample_scene(seed, index, split="mixture")
        if not scene.ood_kind:
            short = [sample_plain_question(scene, rng, length="short")]
            asked.append(((sample_plain_dialogue(scene, rng) if index % 3 else short)[-1], scene))
    return asked


def is_general(question: Question) -> bool:
    return question.kind in general_names()


@pytest.mark.parametrize("general", [False, True])
def test_half_of_the_answers_are_yes(general: bool) -> None:
    asked = [(one, scene) for one, scene in newest_questions(1) if one.answer_type == "exists" and one.kind]
    answers = Counter(is_true(one, len(referents(one, scene))) for one, scene in asked if is_general(one) == general)
    assert min(answers.values()) > 50
    assert 0.4 < answers[True] / answers.total() < 0.6


def test_every_number_of_a_general_name_is_asked() -> None:
    asked = [(one, scene) for one, scene in newest_questions(2) if one.answer_type == "count" and is_general(one)]
    numbers = Counter(len(referents(one, scene)) for one, scene in asked)
    assert all(numbers[number] > 0.05 * numbers.total() for number in range(5))
    kinds = [len({obj.kind for obj in referents(one, scene)}) for one, scene in asked]
    assert sum(count > 1 for count in kinds) > 0.3 * len(kinds)


def test_a_group_scene_shows_several_kinds_of_one_name_or_copies() -> None:
    rng = random.Random(3)
    scenes = [scene for scene in (sample_group_scene(rng) for _ in range(300)) if len(scene.objects) > 2]
    kinds = [[obj.kind for obj in scene.objects] for scene in scenes]
    grouped = [
        any(len(members(name) & set(names)) > 1 and not is_doubtful(name, names) for name in general_names())
        for names in kinds
    ]
    assert sum(grouped) > 0.5 * len(scenes)
    assert sum(len(set(names)) < len(names) for names in kinds) > 0.4 * len(scenes)


def test_a_near_kind_lacks_the_name_for_certain() -> None:
    assert {"dog", "frog"} <= set(near_kinds("bird"))
    assert not {"duck", "bat", "house"} & set(near_kinds("bird"))
    assert "bicycle" in near_kinds("car")
    assert not {"taxi", "bus"} & set(near_kinds("car"))


def test_a_flat_shape_is_named_with_its_colour_as_in_other_questions(lexicons: dict[str, Lexicon]) -> None:
    scene, what = scene_of("circle", colour="red"), Question(PREFIX + "what", "what")
    assert PlainWriter("de", lexicons).answer(what, scene) == GrammarWriter("de").answer(what, scene)
    assert PlainWriter("de", lexicons).answer(what, scene) == "ein roter Kreis"
    assert PlainWriter("sw", lexicons).answer(what, scene) == lexicons["sw"].name_of("circle")


def test_nouns_agree_and_sentences_begin_with_a_capital(lexicons: dict[str, Lexicon]) -> None:
    rng, dogs = random.Random(5), Question(PREFIX + "count", "count", "dog")
    texts = {render_plain_question(dogs, lexicons["sw"], rng) for _ in range(400)}
    assert {"Mbwa wako wangapi?", "Mbwa wangapi wanaonekana kwenye picha?"} <= texts
    assert "mbwa wako wangapi?" not in texts
    two = Question(PREFIX + "exists_number", "exists", "dog", number=2)
    texts = {render_plain_question(two, lexicons["zh"], rng) for _ in range(100)}
    assert any("兩" in text for text in texts)
    assert not any("二" in text for text in texts)


def test_an_object_is_marked_if_the_question_refers_to_it() -> None:
    scene, names = scene_of("dog", "automobile", "cat"), list(general_names())
    rows = object_targets(Question("", "count", "animal"), scene)
    assert [row[0] for row in rows] == [1, 0, 1, 0, 0, 0]
    assert rows[1][1 + names.index("car")] == rows[0][1 + names.index("animal")] == 1
    assert rows[0][1 + names.index("car")] == 0
    assert [row[0] for row in object_targets(Question("", "exists", "dog"), scene)] == [1, 0, 0, 0, 0, 0]
    crowded = object_targets(Question("", "count"), scene_of(*["dog"] * 7))
    assert {target for row in crowded for target in row} == {IGNORE_INDEX}


def test_the_loss_of_the_objects_falls_as_their_states_are_learned() -> None:
    head, scene = QuestionHead(16), scene_of("dog", "automobile")
    targets = torch.tensor([object_targets(Question("", "count", "animal"), scene)])
    states = torch.randn(1, 12, 16)
    before = head.object_loss(states, targets)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        head.object_loss(states, targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert head.object_loss(states, targets) < 0.7 * before
    ignored = torch.full((1, 6, OBJECT_TARGETS), IGNORE_INDEX)
    assert head.object_loss(states, ignored) == 0


def test_reports_after_those_of_the_mixture_show_groups() -> None:
    recipe = RECIPES["plain"]
    assert report_scene(recipe, 3) == sample_scene(recipe.seed, 3, split="reports")
    later = [report_scene(recipe, recipe.reports + index) for index in range(50)]
    assert later == [report_scene(recipe, recipe.reports + index) for index in range(50)]
    assert all(scene.objects and not scene.flat for scene in later)
