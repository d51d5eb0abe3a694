"""An auxiliary loss of the language model: its encoder predicts a question's meaning and the objects it refers to.

An answer has few tokens, a weak training signal for where to look. So a head on the encoder's last state also predicts
the newest question's answer type, properties and objects, even if earlier turns name them. Must not import `lexicon`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from training.model.codebook import summed_cross_entropy
from training.model.targets import IGNORE_INDEX, KINDS, OUT_OF_DISTRIBUTION
from training.scenes.colours import COLOURS
from training.scenes.scene import MAX_OBJECTS, SIDES, Scene
from training.tasks.questions import Question, referents

ANSWER_TYPES = ("count", "colour", "shape", "what", "exists", "else")

TARGETS = {
    "answer type": len(ANSWER_TYPES),
    "kind": len(KINDS) + 1,  # 0: any
    "colour": len(COLOURS) + 1,
    "side": len(SIDES) + 1,
    "number of objects": MAX_OBJECTS + 2,  # the last: the image is out of distribution
    "kind of the first": len(KINDS) + 1,  # 0: there is no object
    "colour of the first": len(COLOURS) + 1,
}
"""The number of options of each target."""


def question_targets(question: Question, scene: Scene) -> tuple[int, ...]:
    """The targets for a question about a scene, in the order of `TARGETS`."""
    objects = referents(question, scene)
    first = objects[0] if objects else None
    return (
        ANSWER_TYPES.index(question.answer_type),
        _option(KINDS, question.kind),
        _option(COLOURS, question.colour),
        _option(SIDES, question.side),
        OUT_OF_DISTRIBUTION if scene.ood_kind else len(objects),
        _option(KINDS, first.kind if first else None),
        _option(COLOURS, first.colour if first else None),
    )


def _option(names: tuple[str, ...], name: str | None) -> int:
    if name and name not in names:
        return IGNORE_INDEX  # a general name
    return names.index(name) + 1 if name else 0


class QuestionHead(nn.Module):
    """Predicts the targets of a question from the encoder's state of the prompt's last token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, sum(TARGETS.values()))

    def loss(self, states: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        """The mean of N questions' summed cross entropies: `states` (N, tokens, width), `targets` (N, targets)."""
        last = states[torch.arange(len(states)), mask.sum(dim=1) - 1]
        logits = self.head(last).split(list(TARGETS.values()), dim=-1)
        total: Any = sum(map(summed_cross_entropy, logits, targets.unbind(-1)))
        return total / len(states)  # type: ignore[no-any-return]  # a sum is untyped
