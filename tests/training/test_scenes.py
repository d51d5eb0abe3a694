"""A scene follows from its seed, stays inside its canvas, and answers truly."""

from __future__ import annotations

import numpy as np
import pytest

from training import drawing, plainstyle, targets
from training.layouts import Box
from training.questions import Ask, answer
from training.scenes import MOST, Scene, Thing, make
from training.targets import UNASKED
from training.words import TONGUES

MANY = range(200)
WHITE = ((255, 255, 255), (255, 255, 255))


def scene_of(*things: tuple[str, str, float, float]) -> Scene:
    """A 100 x 100 canvas with (shape, colour, x, y) on it."""
    return Scene(100, 100, WHITE, tuple(Thing(s, c, Box(x, y, 20), (0, 0, 0)) for s, c, x, y in things))


def test_the_same_seed_gives_the_same_picture() -> None:
    for index in range(20):
        one, two = (make(5, index, split="a") for _ in range(2))
        assert one == two
        assert np.array_equal(drawing.pixels(one, side=96, seed="x"), drawing.pixels(two, side=96, seed="x"))


def test_splits_share_no_scene() -> None:
    assert all(make(5, index, split="a") != make(5, index, split="b") for index in MANY)


def test_things_lie_on_the_canvas_and_apart() -> None:
    for index in MANY:
        scene = make(5, index, split="a")
        assert len(scene.things) <= MOST
        for thing in scene.things:
            assert 0 <= thing.box.x <= scene.width
            assert 0 <= thing.box.y <= scene.height
        for number, one in enumerate(scene.things):
            for other in scene.things[:number]:
                reach = (one.box.size + other.box.size) / 2 * 0.8
                assert max(abs(one.box.x - other.box.x), abs(one.box.y - other.box.y)) > reach


def test_the_stranger_draws_what_he_says() -> None:
    for index in range(30):
        image, scene = plainstyle.draw(5, index)
        for thing in scene.things:
            assert image.getpixel((round(thing.box.x), round(thing.box.y))) == thing.fill


def test_a_side_is_named_only_where_people_would_agree() -> None:
    scene = scene_of(("circle", "red", 20, 50), ("star", "blue", 80, 52))
    left, top = scene.at("left"), scene.at("top")
    assert left is not None
    assert left.shape == "circle"
    assert top is None


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (Ask("count", "count"), "three"),
        (Ask("count", "count", "circle"), "two"),
        (Ask("count", "count", "heart"), "zero"),
        (Ask("colour_they", "colour"), "red and blue"),
        (Ask("shape_they", "shape"), "two circles and a star"),
        (Ask("side", "what", side="right"), "a red star"),
        (Ask("exists", "exists", "star", "blue"), "no"),
        (Ask("caption", "what"), "two blue circles and a red star"),
    ],
)
def test_the_answer_is_true(ask: Ask, words: str) -> None:
    scene = scene_of(("circle", "blue", 20, 20), ("star", "red", 80, 50), ("circle", "blue", 20, 80))
    assert answer(ask, scene, TONGUES["en"]) == words


def test_an_empty_picture_shows_nothing_in_every_language() -> None:
    empty = scene_of()
    for tongue in TONGUES.values():
        assert answer(Ask("caption", "what"), empty, tongue) == tongue.nothing
        assert answer(Ask("count", "count"), empty, tongue) == tongue.numbers[0]


def test_targets_count_what_the_scene_holds() -> None:
    for index in MANY:
        scene = make(5, index, split="a")
        found = targets.of(scene, grid=8)
        assert found.counts[-1, -1] == len(scene.things) == found.counts[:-1, -1].sum()


def test_a_crowd_is_not_counted() -> None:
    found = targets.of(make(5, 0, split="a", numbers=(12,)), grid=8)
    assert (found.counts == UNASKED).all()
    assert (found.sides == UNASKED).all()
