"""A scene follows from its seed, stays inside its canvas, and answers truly."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from training.evaluation import unseen_style
from training.lexicon import GRAMMARS
from training.model import targets
from training.model.codebook import TargetCodebook
from training.model.targets import FACTORS, IGNORE_INDEX
from training.scenes import rendering
from training.scenes.layouts import Box
from training.scenes.scene import MAX_OBJECTS, Scene, SceneObject, sample_flat_scene, sort_in_reading_order
from training.stages.language_model import noisy_features, sample_query_targets
from training.tasks.questions import Question, answer

MANY = range(200)
WHITE = ((255, 255, 255), (255, 255, 255))


def scene_of(*objects: tuple[str, str, float, float]) -> Scene:
    """A 100 x 100 canvas with (shape, colour, x, y) on it."""
    placed = [SceneObject(shape, colour, Box(x, y, 20), (0, 0, 0)) for shape, colour, x, y in objects]
    return Scene(100, 100, WHITE, sort_in_reading_order(placed, 100, 100))


def test_the_same_seed_gives_the_same_picture() -> None:
    for index in range(20):
        one, two = (sample_flat_scene(5, index, split="a") for _ in range(2))
        assert one == two
        assert np.array_equal(
            rendering.render_pixels(one, side=96, seed="x"), rendering.render_pixels(two, side=96, seed="x")
        )


def test_splits_share_no_scene() -> None:
    assert all(sample_flat_scene(5, index, split="a") != sample_flat_scene(5, index, split="b") for index in MANY)


def test_things_lie_on_the_canvas_and_apart() -> None:
    for index in MANY:
        scene = sample_flat_scene(5, index, split="a")
        assert len(scene.objects) <= MAX_OBJECTS
        for obj in scene.objects:
            assert 0 <= obj.box.x <= scene.width
            assert 0 <= obj.box.y <= scene.height
        for number, one in enumerate(scene.objects):
            for other in scene.objects[:number]:
                reach = (one.box.size + other.box.size) / 2 * 0.8
                assert max(abs(one.box.x - other.box.x), abs(one.box.y - other.box.y)) > reach


def test_the_stranger_draws_what_he_says() -> None:
    for index in range(30):
        image, scene = unseen_style.draw_image(5, index)
        for obj in scene.objects:
            assert image.getpixel((round(obj.box.x), round(obj.box.y))) == obj.fill


def test_a_side_is_named_only_where_people_would_agree() -> None:
    scene = scene_of(("circle", "red", 20, 50), ("star", "blue", 80, 52))
    left, top = scene.at("left"), scene.at("top")
    assert left is not None
    assert left.kind == "circle"
    assert top is None


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (Question("count", "count"), "three"),
        (Question("count", "count", "circle"), "two"),
        (Question("count", "count", "heart"), "zero"),
        (Question("colour_they", "colour"), "blue and red"),
        (Question("shape_they", "shape"), "two circles and a star"),
        (Question("side", "what", side="right"), "a red star"),
        (Question("exists", "exists", "star", "blue"), "no"),
        (Question("caption", "what"), "two blue circles and a red star"),
    ],
)
def test_the_answer_is_true(question: Question, words: str) -> None:
    scene = scene_of(("circle", "blue", 20, 20), ("star", "red", 80, 50), ("circle", "blue", 20, 80))
    assert answer(question, scene, GRAMMARS["en"]) == words


def test_a_row_is_read_from_the_left_and_a_column_from_the_top() -> None:
    row = scene_of(("star", "red", 80, 40), ("circle", "blue", 20, 50), ("heart", "pink", 50, 60))
    column = scene_of(("star", "red", 51, 80), ("circle", "blue", 50, 20), ("heart", "pink", 49, 50))
    assert [obj.kind for obj in row.objects] == ["circle", "heart", "star"]
    assert [obj.kind for obj in column.objects] == ["circle", "heart", "star"]


def test_a_report_tells_each_thing_and_how_many_are_like_it() -> None:
    scene = scene_of(("circle", "blue", 20, 50), ("star", "blue", 50, 50), ("circle", "blue", 80, 50))
    first, second, third, fourth, *_ = [dict(zip(FACTORS, row, strict=True)) for row in targets.query_targets(scene)]
    assert first["alike"] == first["of its kind"] == third["alike"] == 2
    assert first["of its colour"] == second["of its colour"] == 3
    assert [one["new"] for one in (first, second, third)] == [1, 1, 0]
    assert [one["new colour"] for one in (first, second, third)] == [1, 0, 0]
    assert fourth["kind"] == 0
    assert {one["number"] for one in (first, second, third, fourth)} == {3}


def test_a_patch_shows_the_thing_that_lies_there() -> None:
    scene = scene_of(("circle", "blue", 31, 31), ("star", "red", 81, 81))
    patches = targets.scene_targets(scene, grid=8).patches.reshape(8, 8, -1)
    assert patches[2, 2, 3] == 1
    assert patches[6, 6, 3] == 2
    assert patches[0, 7].tolist() == [0, 0, 0, 0]
    assert patches[..., 2].sum() == 2


def test_a_crowd_is_not_reported() -> None:
    found = targets.scene_targets(sample_flat_scene(5, 0, split="a", numbers=(12,)), grid=8)
    assert (found.queries == IGNORE_INDEX).all()
    assert (found.patches[:, 3] == IGNORE_INDEX).all()


def test_a_written_report_can_be_read_again() -> None:
    codebook = TargetCodebook(160)
    report = sample_query_targets([sample_flat_scene(5, index, split="a") for index in MANY], random.Random(1))
    logits = codebook.logits(noisy_features(codebook, report))
    for answers, expected in zip(logits, report.unbind(-1), strict=True):
        asked = expected != IGNORE_INDEX
        assert torch.equal(answers.argmax(-1)[asked], expected[asked])
