"""A scene follows from its seed, stays inside its canvas, and has correct answers and targets."""

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
from training.stages.language_model import noisy_features
from training.stages.text_batches import sample_query_targets
from training.tasks.questions import Question, answer

MANY = range(200)
WHITE = ((255, 255, 255), (255, 255, 255))


def scene_of(*objects: tuple[str, str, float, float]) -> Scene:
    """A 100 x 100 canvas with (shape, colour, x, y) on it."""
    placed = [SceneObject(shape, colour, Box(x, y, 20), (0, 0, 0)) for shape, colour, x, y in objects]
    return Scene(100, 100, WHITE, sort_in_reading_order(placed, 100, 100))


def test_the_same_seed_gives_the_same_image() -> None:
    for index in range(20):
        first, second = (sample_flat_scene(5, index, split="a") for _ in range(2))
        assert first == second
        assert np.array_equal(
            rendering.render_pixels(first, side=96, seed="x"), rendering.render_pixels(second, side=96, seed="x")
        )


def test_splits_share_no_scene() -> None:
    assert all(sample_flat_scene(5, index, split="a") != sample_flat_scene(5, index, split="b") for index in MANY)


def test_objects_are_on_the_canvas_and_apart() -> None:
    for index in MANY:
        scene = sample_flat_scene(5, index, split="a")
        assert len(scene.objects) <= MAX_OBJECTS
        for obj in scene.objects:
            assert 0 <= obj.box.x <= scene.width
            assert 0 <= obj.box.y <= scene.height
        for number, first in enumerate(scene.objects):
            for second in scene.objects[:number]:
                min_distance = (first.box.size + second.box.size) / 2 * 0.8
                assert max(abs(first.box.x - second.box.x), abs(first.box.y - second.box.y)) > min_distance


def test_the_unseen_style_draws_its_scene() -> None:
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
    ("question", "expected"),
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
def test_the_answer_is_correct(question: Question, expected: str) -> None:
    scene = scene_of(("circle", "blue", 20, 20), ("star", "red", 80, 50), ("circle", "blue", 20, 80))
    assert answer(question, scene, GRAMMARS["en"]) == expected


def test_a_row_is_read_from_the_left_and_a_column_from_the_top() -> None:
    row = scene_of(("star", "red", 80, 40), ("circle", "blue", 20, 50), ("heart", "pink", 50, 60))
    column = scene_of(("star", "red", 51, 80), ("circle", "blue", 50, 20), ("heart", "pink", 49, 50))
    assert [obj.kind for obj in row.objects] == ["circle", "heart", "star"]
    assert [obj.kind for obj in column.objects] == ["circle", "heart", "star"]


def test_query_targets_have_each_object_and_the_number_of_equal_ones() -> None:
    scene = scene_of(("circle", "blue", 20, 50), ("star", "blue", 50, 50), ("circle", "blue", 80, 50))
    first, second, third, fourth, *_ = [dict(zip(FACTORS, row, strict=True)) for row in targets.query_targets(scene)]
    assert first["alike"] == first["of its kind"] == third["alike"] == 2
    assert first["of its colour"] == second["of its colour"] == 3
    assert [first["new"] for first in (first, second, third)] == [1, 1, 0]
    assert [first["new colour"] for first in (first, second, third)] == [1, 0, 0]
    assert fourth["kind"] == 0
    assert {first["number"] for first in (first, second, third, fourth)} == {3}


def test_a_patch_target_is_the_object_in_it() -> None:
    scene = scene_of(("circle", "blue", 31, 31), ("star", "red", 81, 81))
    patches = targets.scene_targets(scene, grid=8).patches.reshape(8, 8, -1)
    assert patches[2, 2, 3] == 1
    assert patches[6, 6, 3] == 2
    assert patches[0, 7].tolist() == [0, 0, 0, 0]
    assert patches[..., 2].sum() == 2


def test_a_crowded_scene_has_no_query_targets() -> None:
    crowded = targets.scene_targets(sample_flat_scene(5, 0, split="a", numbers=(12,)), grid=8)
    assert (crowded.queries == IGNORE_INDEX).all()
    assert (crowded.patches[:, 3] == IGNORE_INDEX).all()


def test_encoded_targets_are_decoded_despite_noise() -> None:
    codebook = TargetCodebook(160)
    query_targets = sample_query_targets([sample_flat_scene(5, index, split="a") for index in MANY], random.Random(1))
    logits = codebook.logits(noisy_features(codebook, {"query_targets": query_targets}))
    for factor_logits, expected in zip(logits, query_targets.unbind(-1), strict=True):
        has_target = expected != IGNORE_INDEX
        assert torch.equal(factor_logits.argmax(-1)[has_target], expected[has_target])
