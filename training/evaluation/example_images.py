"""Pictures of right and wrong answers for the card: what was shown, what was asked, what was said.

Knows how to lay out a sheet; the questions and marks come from `figures`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.evaluation.flat_shapes import EvalQuestion

EACH, COLUMNS, SIDE, LINE, GAP = 8, 4, 160, 18, 12
RIGHT, WRONG, INK = (24, 128, 56), (190, 40, 40), (40, 40, 40)
LONGEST = 27
"""More letters than this do not fit below a picture."""

Pixels = NDArray[np.uint8]


def sheet(pictures: Sequence[Pixels], questions: Sequence[EvalQuestion], said: Sequence[str]) -> Image.Image:
    """The first pictures that were answered right, and below them the first that were not."""
    right = [place for place, one in enumerate(questions) if said[place] == one.truth][:EACH]
    wrong = [place for place, one in enumerate(questions) if said[place] != one.truth][:EACH]
    rows = -(-len(right) // COLUMNS) + -(-len(wrong) // COLUMNS)
    tall = SIDE + 3 * LINE + GAP
    paper = Image.new("RGB", (COLUMNS * (SIDE + GAP) + GAP, rows * tall + GAP), "white")
    for number, place in enumerate([*right, *wrong]):
        spot = number if number < len(right) else number - len(right) + -(-len(right) // COLUMNS) * COLUMNS
        left, top = spot % COLUMNS * (SIDE + GAP) + GAP, spot // COLUMNS * tall + GAP
        one = questions[place]
        paper.paste(Image.fromarray(pictures[one.image]).resize((SIDE, SIDE)), (left, top))
        ImageDraw.Draw(paper).rectangle((left, top, left + SIDE, top + SIDE), outline=(200, 200, 200))
        _lines(paper, left, top + SIDE + 2, one, said[place])
    return paper


def _lines(paper: Image.Image, left: int, top: int, question: EvalQuestion, said: str) -> None:
    canvas, font = ImageDraw.Draw(paper), ImageFont.load_default(12)
    asked = question.prompt.removeprefix("Question: ").partition(" Short answer")[0]
    lines = [(asked, INK), (said, RIGHT if said == question.truth else WRONG)]
    if said != question.truth:
        lines.append((f"({question.truth})", INK))
    for number, (text, colour) in enumerate(lines):
        shown = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
        canvas.text((left, top + number * LINE), shown, colour, font=font)
