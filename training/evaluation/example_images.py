"""The card's sheet of examples: images with their questions and with correct or wrong answers.

Must not import `model`; questions and answers come from `tables`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.evaluation.flat_shapes import EvalQuestion

EACH, COLUMNS, SIDE, LINE, GAP = 8, 4, 160, 18, 12
RIGHT, WRONG, INK = (24, 128, 56), (190, 40, 40), (40, 40, 40)
MAX_CHARACTERS = 27
"""The number of characters that fit below an image; a longer text is cut."""

Pixels = NDArray[np.uint8]


def render_sheet(images: Sequence[Pixels], questions: Sequence[EvalQuestion], answers: Sequence[str]) -> Image.Image:
    """Draw the first `EACH` questions with correct answers and, below them, the first `EACH` with wrong answers."""
    correct = [index for index, question in enumerate(questions) if answers[index] == question.expected][:EACH]
    wrong = [index for index, question in enumerate(questions) if answers[index] != question.expected][:EACH]
    rows = -(-len(correct) // COLUMNS) + -(-len(wrong) // COLUMNS)
    height = SIDE + 3 * LINE + GAP
    sheet = Image.new("RGB", (COLUMNS * (SIDE + GAP) + GAP, rows * height + GAP), "white")
    for position, index in enumerate([*correct, *wrong]):
        cell = position if position < len(correct) else position - len(correct) + -(-len(correct) // COLUMNS) * COLUMNS
        left, top = cell % COLUMNS * (SIDE + GAP) + GAP, cell // COLUMNS * height + GAP
        question = questions[index]
        sheet.paste(Image.fromarray(images[question.image]).resize((SIDE, SIDE)), (left, top))
        ImageDraw.Draw(sheet).rectangle((left, top, left + SIDE, top + SIDE), outline=(200, 200, 200))
        _draw_lines(sheet, left, top + SIDE + 2, question, answers[index])
    return sheet


def _draw_lines(sheet: Image.Image, left: int, top: int, question: EvalQuestion, answer: str) -> None:
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    prompt = question.prompt.removeprefix("Question: ").partition(" Short answer")[0]
    lines = [(prompt, INK), (answer, RIGHT if answer == question.expected else WRONG)]
    if answer != question.expected:
        lines.append((f"({question.expected})", INK))
    for position, (text, colour) in enumerate(lines):
        shortened = text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"
        canvas.text((left, top + position * LINE), shortened, colour, font=font)
