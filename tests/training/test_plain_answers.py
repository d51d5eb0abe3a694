"""Plain questions about the page's examples and about drawn apples, with the answers that are right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import blip_space
from tests.photographs import photograph
from training.scenes.layouts import Box
from training.scenes.mixture import load_renderer
from training.scenes.scene import Scene, SceneObject

EXAMPLES = Path(__file__).parents[2] / "assets" / "examples"
DOG_AND_CATS, BANANAS, HEART = "dog-and-two-cats.png", "four-bananas.png", "yellow-heart.png"


@pytest.fixture(scope="module")
def engine() -> Iterator[blip_space.Engine]:
    with blip_space.load("tiny") as engine:
        yield engine


@pytest.fixture(scope="module")
def apples(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawing of two red apples and a green one, of the size that users have."""
    kinds = ("red apple", "red apple", "green apple")
    white = (255, 255, 255)
    objects = (SceneObject(kind, None, Box(50 + 90 * i, 150, 80), white) for i, kind in enumerate(kinds))
    scene = Scene(300, 300, (white, white), tuple(objects))
    pixels = load_renderer(sources, ("noto",)).render(scene, side=300, seed="apples", clean=True)[0]
    file = tmp_path_factory.mktemp("images") / "apples.png"
    Image.fromarray(pixels).save(file)
    return file


@pytest.mark.parametrize(
    ("file", "language", "question", "answer"),
    [
        (DOG_AND_CATS, "en", "Is there a dog?", "yes"),
        (DOG_AND_CATS, "en", "Is there a bird?", "no"),
        (BANANAS, "en", "Is there a horse?", "no"),
        (BANANAS, "de", "Gibt es ein Pferd?", "nein"),
        (DOG_AND_CATS, "en", "How many cats are there?", "two"),
        (DOG_AND_CATS, "de", "Wie viele Katzen gibt es?", "zwei"),
        (DOG_AND_CATS, "fr", "Combien d'animaux y a-t-il ?", "trois"),
        (DOG_AND_CATS, "es", "¿Cuántos gatos hay?", "dos"),
        (DOG_AND_CATS, "ja", "猫は何匹いますか？", "二"),
        (DOG_AND_CATS, "sw", "Kuna paka wangapi?", "mbili"),
        (BANANAS, "de", "Wie viele Äpfel gibt es?", "null"),
        (BANANAS, "de", "Wie viele Bananen gibt es?", "vier"),
        (BANANAS, "en", "How many fruits are there?", "four"),
        (BANANAS, "en", "Is there any fruit?", "yes"),
        (BANANAS, "en", "Is there an apple?", "no"),
        (BANANAS, "zh", "有幾根香蕉？", "四"),
        (BANANAS, "ar", "كم عدد الموز؟", "أربعة"),
        (HEART, "en", "Is it yellow?", "yes"),
        (HEART, "de", "Welche Farbe hat es?", "gelb"),
        ("octopus.png", "en", "Is this an animal?", "yes"),
        ("whale-and-sailboat.png", "en", "How many animals are there?", "one"),
    ],
)
def test_a_plain_question_about_an_example_is_answered(
    engine: blip_space.Engine, file: str, language: str, question: str, answer: str
) -> None:
    assert engine.ask(EXAMPLES / file, question, language=language) == answer


@pytest.mark.parametrize(
    ("language", "question", "answer"),
    [
        ("de", "Wie viele Äpfel gibt es?", "drei"),
        ("en", "How many apples are there?", "three"),
        ("es", "¿Cuántas manzanas hay?", "tres"),
        ("en", "Is there a banana?", "no"),
    ],
)
def test_apples_of_two_colours_are_counted_as_apples(
    engine: blip_space.Engine, apples: Path, language: str, question: str, answer: str
) -> None:
    assert engine.ask(apples, question, language=language) == answer


def test_a_second_question_refers_to_the_first(engine: blip_space.Engine) -> None:
    history = [
        {"role": "user", "content": "How many dogs are there?"},
        {"role": "assistant", "content": "one"},
    ]
    assert engine.ask(EXAMPLES / DOG_AND_CATS, "And cats?", history=history) == "two"


@pytest.mark.parametrize(
    ("language", "question", "answer"),
    [
        ("en", "How many are there?", "I cannot tell that of a photograph."),
        ("de", "Wie viele sind es?", "Das kann ich bei einem Foto nicht sagen."),
        ("en", "What colour is it?", "I cannot tell that of a photograph."),
        ("en", "What is on the left?", "I cannot tell that of a photograph."),
        ("en", "Is this an animal?", "yes"),
        ("en", "Is there a dog?", "no"),
        ("en", "What is this?", "cat"),
    ],
)
def test_of_a_photograph_only_what_it_shows_is_answered(
    engine: blip_space.Engine, language: str, question: str, answer: str
) -> None:
    assert engine.ask(photograph("chelsea.png"), question, language=language) == answer
