"""Two ways to ask and answer: with grammar, about flat shapes; and in plain words, about anything in any language.

Knows scenes, questions and words; knows no prompt.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from training.lexicon import TONGUES
from training.lexicon.lexicon import Plain
from training.scenes.scene import Scene
from training.tasks import dialogues, questions, templates
from training.tasks.dialogues import Manner
from training.tasks.questions import Ask


class Speech(Protocol):
    """A way to ask and answer in one language."""

    @property
    def code(self) -> str:
        """The language's code."""

    def single(self, scene: Scene, rng: random.Random, *, manner: Manner) -> Ask:
        """One question that needs no other."""

    def conversation(self, scene: Scene, rng: random.Random) -> list[Ask]:
        """Questions of which the newest mostly needs the others."""

    def answer(self, ask: Ask, scene: Scene) -> str:
        """The right answer."""

    def phrase(self, ask: Ask, rng: random.Random) -> str:
        """The question in words."""

    def in_another(self, code: str) -> Speech:
        """The same way to speak, in another language if it can be spoken so."""


@dataclass(frozen=True)
class Grammar:
    """Flat shapes in one of the languages that have a grammar here: "three blue circles"."""

    code: str

    def single(self, scene: Scene, rng: random.Random, *, manner: Manner) -> Ask:
        """See `Speech`."""
        return dialogues.single(scene, rng, manner=manner)

    def conversation(self, scene: Scene, rng: random.Random) -> list[Ask]:
        """See `Speech`."""
        return dialogues.conversation(scene, rng)

    def answer(self, ask: Ask, scene: Scene) -> str:
        """See `Speech`."""
        return questions.answer(ask, scene, TONGUES[self.code])

    def phrase(self, ask: Ask, rng: random.Random) -> str:
        """See `Speech`."""
        return questions.phrase(ask, TONGUES[self.code], rng)

    def in_another(self, code: str) -> Speech:
        """See `Speech`."""
        return Grammar(code if code in TONGUES else "en")


@dataclass(frozen=True)
class PlainWords:
    """Anything, in any of the eighty languages: names, numbers, yes and no."""

    code: str
    plains: Mapping[str, Plain]

    def single(self, scene: Scene, rng: random.Random, *, manner: Manner) -> Ask:
        """See `Speech`."""
        return templates.single(scene, rng, manner=manner)

    def conversation(self, scene: Scene, rng: random.Random) -> list[Ask]:
        """See `Speech`."""
        return templates.conversation(scene, rng)

    def answer(self, ask: Ask, scene: Scene) -> str:
        """See `Speech`."""
        return templates.answer(ask, scene, self.plains[self.code])

    def phrase(self, ask: Ask, rng: random.Random) -> str:
        """See `Speech`."""
        return templates.phrase(ask, self.plains[self.code], rng)

    def in_another(self, code: str) -> Speech:
        """See `Speech`."""
        return PlainWords(code, self.plains)
