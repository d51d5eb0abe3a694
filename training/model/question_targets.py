"""What a question means and which things it is about: a second lesson for the reader, thrown away once learned.

An answer's few words teach slowly where to look. So the end of the prompt is also asked, in no language, what the
newest question wants and what it is about: earlier turns resolved, the things found. Knows questions and one linear
layer; knows no words.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from training.model.codebook import entropy
from training.model.targets import KINDS, STRANGE
from training.scenes.colours import COLOURS
from training.scenes.scene import MAX_OBJECTS, SIDES, Scene
from training.tasks.questions import Question, referents

WANTS = ("count", "colour", "shape", "what", "exists", "else")

PARTS = {
    "wants": len(WANTS),
    "kind": len(KINDS) + 1,  # 0: any
    "colour": len(COLOURS) + 1,
    "side": len(SIDES) + 1,
    "number of things": MAX_OBJECTS + 2,  # the last: the picture is none that the world knows
    "kind of the first": len(KINDS) + 1,  # 0: there is none
    "colour of the first": len(COLOURS) + 1,
}
"""What is asked, and how many options each part has."""


def of(question: Question, scene: Scene) -> tuple[int, ...]:
    """The right answers for a question about a scene."""
    objects = referents(question, scene)
    first = objects[0] if objects else None
    return (
        WANTS.index(question.answer_type),
        _number(KINDS, question.kind),
        _number(COLOURS, question.colour),
        _number(SIDES, question.side),
        STRANGE if scene.ood_kind else len(objects),
        _number(KINDS, first.kind if first else None),
        _number(COLOURS, first.colour if first else None),
    )


def _number(names: tuple[str, ...], name: str | None) -> int:
    return names.index(name) + 1 if name else 0


class Grasp(nn.Module):
    """Reads the meaning off the encoder's state of a prompt's last token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, sum(PARTS.values()))

    def loss(self, states: Tensor, mask: Tensor, meaning: Tensor) -> Tensor:
        """How far states (N, tokens, width) are from the meanings (N, parts); the last unmasked token speaks."""
        last = states[torch.arange(len(states)), mask.sum(dim=1) - 1]
        answers = self.head(last).split(list(PARTS.values()), dim=-1)
        surprise: Any = sum(map(entropy, answers, meaning.unbind(-1)))
        return surprise / len(states)  # type: ignore[no-any-return]  # a sum is untyped
