"""Photographs, and how a model folder names them: through the engine, as users ask, with the second image encoder.

`photographs.txt` lists them with the right answers. What is counted is the English name of what a whole photograph or a
cut-out shows, and "I don't know" where there is no concept for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from training.evaluation.photograph_packages import fetch_photograph

LIST = Path(__file__).with_name("photographs.txt")
CUT_OUTS = "tuxpaint"
WHAT = "What is this?"
NO_CONCEPT = "-"
MARGIN = 0.15
"""The white margin around a cut-out, as a share of its longer side."""

Ask = Callable[[Image.Image, str], str]
"""The model's answer in English to a question about an image."""


@dataclass(frozen=True)
class Photograph:
    """One photograph: its package and file, and the names that are right; none if no concept is right."""

    package: str
    file: str
    names: frozenset[str]

    @property
    def is_cut_out(self) -> bool:
        """Whether the photograph has no background."""
        return self.package == CUT_OUTS

    def open(self, folder: Path) -> Image.Image:
        """The image in RGB. A cut-out is on a white square."""
        image = Image.open(fetch_photograph(self.package, self.file, folder))
        return _on_white_square(image.convert("RGBA")) if self.is_cut_out else image.convert("RGB")


def listed_photographs() -> list[Photograph]:
    """All photographs of the list."""
    lines = LIST.read_text(encoding="utf-8").splitlines()
    rows = [line.split(" ", 2) for line in lines if line and not line.startswith("#")]
    return [
        Photograph(package, file, frozenset() if names == NO_CONCEPT else frozenset(names.split("|")))
        for package, file, names in rows
    ]


def photograph_answers(ask: Ask, folder: Path) -> dict[Photograph, str]:
    """The answer to "What is this?" about each photograph; missing packages are downloaded into `folder`."""
    return {photograph: ask(photograph.open(folder), WHAT) for photograph in listed_photographs()}


def photograph_counts(answers: Mapping[Photograph, str], unknown: str) -> list[tuple[str, int, int, int, int]]:
    """For each kind of photographs: its title, and how many answers are right, are `unknown`, are a wrong name, and
    there are. Where no concept is right, `unknown` is the right answer."""
    rows = []
    for is_cut_out, title in ((False, "whole photographs"), (True, "cut-out photographs")):
        for is_known, what in ((True, "of a concept that has a class"), (False, "of something else")):
            group = [one for one in answers if one.is_cut_out == is_cut_out and bool(one.names) == is_known]
            named = sum(answers[one] in one.names for one in group)
            refused = sum(answers[one] == unknown for one in group)
            right = named if is_known else refused
            rows.append((f"{title} {what}", right, refused, len(group) - named - refused, len(group)))
    return rows


def photograph_table(counts: Sequence[tuple[str, int, int, int, int]]) -> str:
    """A Markdown table of counts and percentages, a row for each kind of photographs."""
    lines = ["| photographs | right | “I don't know” | a wrong name | number |", "|---|--:|--:|--:|--:|"]
    for title, *numbers, total in counts:
        cells = [f"{number} ({100 * number / total:.0f} %)" for number in numbers]
        lines.append(f"| {title} | {' | '.join(cells)} | {total} |")
    return "\n".join(lines)


def _on_white_square(image: Image.Image) -> Image.Image:
    side = round(max(image.size) * (1 + 2 * MARGIN))
    square = Image.new("RGB", (side, side), "white")
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2), image)
    return square
