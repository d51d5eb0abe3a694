"""An auxiliary loss of the language model: its encoder predicts a question's meaning and the objects it refers to.

An answer has few tokens, a weak training signal for where to look. So a head on the encoder's last state also predicts
the newest question's answer type, properties and objects, even if earlier turns name them; and a head on the state of
each object's query predicts whether the question refers to the object, and its general names.

Must not import `lexicon`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from training.model.codebook import summed_cross_entropy
from training.model.targets import IGNORE_INDEX, KINDS, OUT_OF_DISTRIBUTION
from training.scenes.colours import COLOURS
from training.scenes.general_names import general_names
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

OBJECT_TARGETS = 1 + len(general_names())
"""The number of targets of an object's query: whether the question refers to the object, and its general names."""

GENERAL_NAMES_WEIGHT = 4.0
"""The weight of the loss of an object's general names, of which nearly all are absent."""


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


def object_targets(question: Question, scene: Scene) -> tuple[tuple[int, ...], ...]:
    """The targets of each object's query, in reading order: whether the question refers to the object, and whether it
    has each general name. A query without an object has zeros, and the queries of a crowded scene have no targets."""
    if len(scene.objects) > MAX_OBJECTS:
        return ((IGNORE_INDEX,) * OBJECT_TARGETS,) * MAX_OBJECTS
    meant = {id(obj) for obj in referents(question, scene)}
    rows = [(int(id(obj) in meant), *_memberships(obj.kind)) for obj in scene.objects]
    return (*rows, *((0,) * OBJECT_TARGETS for _ in range(MAX_OBJECTS - len(rows))))


@cache
def _memberships(kind: str) -> tuple[int, ...]:
    return tuple(int(kind in general.members) for general in general_names().values())


def _option(names: tuple[str, ...], name: str | None) -> int:
    if name and name not in names:
        return IGNORE_INDEX  # a general name
    return names.index(name) + 1 if name else 0


class QuestionHead(nn.Module):
    """Predicts the targets of a question from the encoder's state of the prompt's last token, and those of the objects
    from the states of their queries."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, sum(TARGETS.values()))
        self.object_head = nn.Linear(width, OBJECT_TARGETS)

    def loss(self, states: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        """The mean of N questions' summed cross entropies: `states` (N, tokens, width), `targets` (N, targets)."""
        last = states[torch.arange(len(states)), mask.sum(dim=1) - 1]
        logits = self.head(last).split(list(TARGETS.values()), dim=-1)
        total: Any = sum(map(summed_cross_entropy, logits, targets.unbind(-1)))
        return total / len(states)  # type: ignore[no-any-return]  # a sum is untyped

    def object_loss(self, states: Tensor, targets: Tensor) -> Tensor:
        """The mean of N questions' binary cross entropies, summed over the objects, with that of whether the question
        refers to an object and the mean of those of its general names: `states` (N, tokens, width), `targets`
        (N, objects, object targets)."""
        logits = self.object_head(states[:, :MAX_OBJECTS]).float()
        has_target = targets != IGNORE_INDEX
        losses = nn.functional.binary_cross_entropy_with_logits(logits, targets.clamp(min=0).float(), reduction="none")
        losses = losses * has_target
        total: Any = (losses[..., 0] + GENERAL_NAMES_WEIGHT * losses[..., 1:].mean(dim=-1)).sum()
        return total / len(states)  # type: ignore[no-any-return]  # a sum is untyped
