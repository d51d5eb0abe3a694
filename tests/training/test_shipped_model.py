"""The committed model answers fresh pictures as its card says, less a margin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

from blip_space.languages import LANGUAGES
from training import evaluate, exam
from training.answers import greedy
from training.lessons import prompt
from training.words import TONGUES

TINY = Path(__file__).parents[2] / "assets" / "tiny"
TEN_MEGABYTES = 10_000_000


@pytest.fixture(scope="module")
def shipped() -> tuple[Any, Any]:
    """The committed model and its tokenizer."""
    return evaluate.load(TINY)


def ask(shipped: tuple[Any, Any], image: Image.Image, *talk: str, language: str = "en") -> list[str]:
    """The model's answers to questions one after another about one picture, each turn seeing its own earlier words."""
    model, tokenizer = shipped
    pixels = exam.as_bytes([image], model.config.vision_config.image_size)
    turns: list[tuple[str, str]] = []
    for question in talk:
        said = greedy(model, tokenizer, pixels, [prompt(turns, question, LANGUAGES[language])])
        turns.append((question, said[0]))
    return [said for _, said in turns]


def three_blue_circles() -> Image.Image:
    image = Image.new("RGB", (400, 200), "white")
    for left in (30, 150, 270):
        ImageDraw.Draw(image).ellipse((left, 50, left + 100, 150), fill="blue")
    return image


@pytest.mark.parametrize(("code", "tongue"), TONGUES.items(), ids=TONGUES)
def test_things_are_counted_and_their_colour_told_in_every_language(
    shipped: tuple[Any, Any], code: str, tongue: Any
) -> None:
    said = ask(shipped, three_blue_circles(), "How many shapes are there?", "What colour are they?", language=code)
    assert said == [tongue.numbers[3], tongue.colours["blue"]]


EXAMPLES = TINY.parent / "examples"
RIGHT = {
    "three-blue-circles.png": "three",
    "square-and-triangle.png": "ein rotes Quadrat und ein grünes Dreieck",
    "five-stars.png": "cinco",
    "yellow-heart.png": "أصفر",
}


@pytest.mark.parametrize("example", json.loads((EXAMPLES / "examples.json").read_text(encoding="utf-8")), ids=RIGHT)
def test_the_examples_of_the_page_are_answered_right(shipped: tuple[Any, Any], example: dict[str, str]) -> None:
    image = Image.open(EXAMPLES / example["file"]).convert("RGB")
    assert ask(shipped, image, example["prompt"], language=example["language"]) == [RIGHT[example["file"]]]


@pytest.mark.parametrize("hand", exam.HANDS)
def test_the_card_tells_the_truth(shipped: tuple[Any, Any], hand: str) -> None:
    """Other pictures than the card's, a dozen a cell: the mean of each task may fall short by a margin, no more."""
    model, tokenizer = shipped
    pictures = exam.drawn(hand, count=400, side=model.config.vision_config.image_size, seed=99)
    questions = exam.sheet(pictures, each=12, seed=99)
    chosen = torch.tensor([question.picture for question in questions])
    said = greedy(model, tokenizer, pictures.pictures[chosen], [question.prompt for question in questions])
    marks = evaluate.mark(questions, said)
    promised = card_means(hand)
    for task, promise in promised.items():
        shares = [share for (name, _), share in marks.items() if name == task]
        assert sum(shares) / len(shares) >= promise - 0.15, task


def card_means(hand: str) -> dict[str, float]:
    """The last column of the card's table of that hand."""
    table = (TINY / "README.md").read_text(encoding="utf-8").split(f"| {hand} |")[1].split("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()[2:] if row.startswith("|")]
    return {row[0]: float(row[-1]) / 100 for row in rows}


def test_every_file_is_small() -> None:
    assert all(path.stat().st_size < TEN_MEGABYTES for path in TINY.iterdir())


def test_the_folder_names_the_languages_that_were_taught() -> None:
    facts = json.loads((TINY / "blip_space.json").read_text(encoding="utf-8"))
    assert facts["languages"] == list(TONGUES)
    assert facts["style"] == "mblip"
