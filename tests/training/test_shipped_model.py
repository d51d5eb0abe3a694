"""The embedded model scores what its card says, less a margin: on two hundred questions through the engine, and on
flat shapes in an unseen drawing style."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from blip_space import catalogue, images
from blip_space.engine.request import Request
from blip_space.serving.threaded import ThreadedEngine
from training import card, evaluate
from training.evaluation import flat_shapes
from training.evaluation.scoring import mean
from training.evaluation.tables import EvaluatedModel
from training.fixture import COLUMNS, FOLDER, SIDE
from training.lexicon import GRAMMARS
from training.lexicon.lexicon import language_codes

TINY = Path(__file__).parents[2] / "assets" / "tiny"
EXAMPLES = TINY.parent / "examples"
TEN_MEGABYTES, ALL_MEGABYTES = 10_000_000, 36_000_000
MARGIN = 0.15
"""The tolerated difference from the card's share; with some twenty questions a task its standard error is about 0.1."""

Ask = Callable[..., str]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Asks the embedded model about an image, through the engine."""
    engine = ThreadedEngine([catalogue.find_model("tiny")])
    engine.start()
    file = tmp_path_factory.mktemp("images") / "image.png"

    def ask_model(image: Image.Image, prompt: str, *, language: str = "en", turns: Any = ()) -> str:
        image.save(file)
        pairs = tuple((user_text, answer) for user_text, answer in turns)
        request = Request(image=images.decode(file), prompt=prompt, language=language, turns=pairs)
        return list(engine.submit(request).updates())[-1]

    yield ask_model
    engine.stop()


def three_blue_circles() -> Image.Image:
    image = Image.new("RGB", (400, 200), "white")
    for left in (30, 150, 270):
        ImageDraw.Draw(image).ellipse((left, 50, left + 100, 150), fill="blue")
    return image


@pytest.mark.parametrize(("code", "grammar"), GRAMMARS.items(), ids=GRAMMARS)
def test_flat_shapes_are_counted_and_their_colour_named(ask: Ask, code: str, grammar: Any) -> None:
    count, colour = "How many shapes are there?", "What colour are they?"
    number = ask(three_blue_circles(), count, language=code)
    assert number == grammar.numbers[3]
    assert ask(three_blue_circles(), colour, language=code, turns=[(count, number)]) == grammar.colours["blue"]


EXPECTED = {
    "octopus.png": "タコ",
    "three-blue-circles.png": "three",
    "whale-and-sailboat.png": "Wal",
    "yellow-heart.png": "أصفر",
    "four-bananas.png": "nne",
    "dog-and-two-cats.png": "कुत्ता",
}


@pytest.mark.parametrize("example", json.loads((EXAMPLES / "examples.json").read_text(encoding="utf-8")), ids=EXPECTED)
def test_the_examples_of_the_page_are_answered_correctly(ask: Ask, example: dict[str, str]) -> None:
    image = Image.open(EXAMPLES / example["file"]).convert("RGB")
    assert ask(image, example["prompt"], language=example["language"]) == EXPECTED[example["file"]]


def test_two_hundred_questions_score_what_the_card_says(ask: Ask) -> None:
    questions = json.loads((FOLDER / "questions.json").read_text(encoding="utf-8"))
    sheet = Image.open(FOLDER / "images.webp").convert("RGB")
    correct: dict[str, list[bool]] = {}
    for question in questions:
        row, column = divmod(question["image"], COLUMNS)
        image = sheet.crop((column * SIDE, row * SIDE, (column + 1) * SIDE, (row + 1) * SIDE))
        answer_ = ask(image, question["prompt"], language=question["language"], turns=question["turns"])
        task = question["task"].partition(":")[0]  # all kinds of out-of-distribution images together
        correct.setdefault(task, []).append(answer_ == question["answer"])
    assert sum(map(len, correct.values())) == 200
    promised = card_column("everyday objects", column=2)
    for task, scores in correct.items():
        promise = promised.get(task, 1.0)
        assert sum(scores) / len(scores) >= promise - MARGIN, task


@pytest.mark.parametrize("style", flat_shapes.DRAWING_STYLES)
def test_the_card_is_true_of_flat_shapes(sources: Path, style: str) -> None:
    """Other images than the card's, a dozen per cell: the mean of each task is at most a margin below."""
    model: EvaluatedModel = evaluate.load_model(TINY, sources)
    scores = evaluate.evaluate_flat_shapes(model, style, each=12, seed=99)
    for task, promise in card_column(f"flat shapes, {style}", column=-1).items():
        assert mean(scores, task) >= promise - MARGIN, task


def card_column(title: str, *, column: int) -> dict[str, float]:
    """One column of the card's table of that title, as shares by task."""
    table = (TINY / "README.md").read_text(encoding="utf-8").split(f"| {title} |")[1].split("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()[2:] if row.startswith("|")]
    return {row[0]: float(row[column]) / 100 for row in rows}


def test_every_file_is_small() -> None:
    sizes = [path.stat().st_size for path in TINY.iterdir()]
    assert max(sizes) < TEN_MEGABYTES
    assert sum(sizes) < ALL_MEGABYTES


def test_the_folder_has_the_languages_of_the_training_data() -> None:
    facts = json.loads((TINY / "blip_space.json").read_text(encoding="utf-8"))
    assert facts["languages"] == list(language_codes())
    assert facts["style"] == "mblip"
    assert len(facts["languages"]) == 80


def test_the_card_has_the_text_of_its_template() -> None:
    committed = (TINY / "README.md").read_text(encoding="utf-8")
    for paragraph in card.new_card().split("\n\n"):
        assert paragraph.split(" -->\n<!-- ")[0] in committed
