"""`python -m training.examples`: renders the page's example images, of objects that the embedded model recognizes.

Everyday objects are from Noto Emoji (Apache-2.0); the flat shapes are our own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from training.__main__ import RUNS
from training.scenes import names, sources, sprites

FOLDER = Path(__file__).parent.parent / "assets" / "examples"
STYLE = "noto"
SIZE = (480, 320)


@dataclass(frozen=True)
class ExampleImage:
    """An example of the page: its image (objects in a row on a background), a question, and the answer's language."""

    file: str
    objects: tuple[str, ...]
    prompt: str
    language: str
    background: str = "white"


EVERYDAY = (
    ExampleImage("dog-and-two-cats.png", ("dog", "cat", "cat"), "What is on the left?", "en", "#eef6ff"),
    ExampleImage("whale-and-sailboat.png", ("whale", "sailboat"), "", "de", "#e3f4f7"),
    ExampleImage("octopus.png", ("octopus",), "これは何ですか？", "ja"),
    ExampleImage("four-bananas.png", ("banana",) * 4, "Kuna vitu vingapi?", "sw", "#fff6e5"),
)
FLAT = (
    ExampleImage("three-blue-circles.png", (), "How many circles are there?", "en"),
    ExampleImage("yellow-heart.png", (), "What colour is the heart?", "ar"),
)


def main() -> None:
    """Render the images of everyday objects, and write the list of all examples; images of flat shapes are kept."""
    sources_folder = RUNS / "sources"
    characters = names.characters(sources.fetch(sources.ANNOTATIONS, sources_folder))
    for example in EVERYDAY:
        render_example(example, sources_folder, characters).save(FOLDER / example.file, optimize=True)
    keys = ("file", "prompt", "language")
    entries = [{key: getattr(example, key) for key in keys} for example in (*EVERYDAY, *FLAT)]
    content = json.dumps(entries, indent=2, ensure_ascii=False)
    (FOLDER / "examples.json").write_text(f"{content}\n", encoding="utf-8")


def render_example(example: ExampleImage, sources_folder: Path, characters: Mapping[str, str]) -> Image.Image:
    """The example's image: its objects in a row on its background."""
    background = Image.new("RGB", SIZE, example.background)
    width, height = SIZE
    side = min(height * 3 // 4, (width - 30) // len(example.objects) - 10)
    for index, name in enumerate(example.objects):
        sprite = sprites.render_emoji(name, STYLE, sources_folder, characters, side=side)
        left = round((index + 0.5) * (width - 20) / len(example.objects) + 10 - side / 2)
        background.paste(sprite, (left, (height - side) // 2), sprite)
    return background


if __name__ == "__main__":
    main()
