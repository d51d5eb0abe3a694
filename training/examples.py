"""`python -m training.examples`: the page's examples, drawn from the world that the embedded model knows.

The drawings of everyday things are Noto Emoji's (Apache-2.0); the flat shapes are our own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from training.__main__ import RUNS
from training.scenes import names, sources, sprites

FOLDER = Path(__file__).parent.parent / "assets" / "examples"
STYLE = "noto"
SIZE = (480, 320)


@dataclass(frozen=True)
class Example:
    """A picture of things in a row, a question about it, and the paper that they lie on."""

    file: str
    things: tuple[str, ...]
    prompt: str
    language: str
    paper: str = "white"


EVERYDAY = (
    Example("dog-and-two-cats.png", ("dog", "cat", "cat"), "What is on the left?", "en", "#eef6ff"),
    Example("whale-and-sailboat.png", ("whale", "sailboat"), "", "de", "#e3f4f7"),
    Example("octopus.png", ("octopus",), "これは何ですか？", "ja"),
    Example("four-bananas.png", ("banana",) * 4, "Kuna vitu vingapi?", "sw", "#fff6e5"),
)
FLAT = (
    Example("three-blue-circles.png", (), "How many circles are there?", "en"),
    Example("yellow-heart.png", (), "What colour is the heart?", "ar"),
)


def main() -> None:
    """Draw the everyday pictures and list all examples; the flat ones lie there already."""
    sets = RUNS / "sources"
    characters = names.characters(sources.fetched(sources.ANNOTATIONS, sets))
    for example in EVERYDAY:
        picture(example, sets, characters).save(FOLDER / example.file, optimize=True)
    (FOLDER / "examples.json").write_text(
        json.dumps(list(_rows()), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def picture(example: Example, sets: Path, characters: Mapping[str, str]) -> Image.Image:
    """The example's things in a row on its paper."""
    paper = Image.new("RGB", SIZE, example.paper)
    width, height = SIZE
    side = min(height * 3 // 4, (width - 30) // len(example.things) - 10)
    for place, name in enumerate(example.things):
        thing = sprites.drawing(name, STYLE, sets, characters, side=side)
        left = round((place + 0.5) * (width - 20) / len(example.things) + 10 - side / 2)
        paper.paste(thing, (left, (height - side) // 2), thing)
    return paper


def _rows() -> Iterator[dict[str, str]]:
    for example in (*EVERYDAY, *FLAT):
        yield {"file": example.file, "prompt": example.prompt, "language": example.language}


if __name__ == "__main__":
    main()
