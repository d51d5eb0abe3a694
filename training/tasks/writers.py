"""Writers of questions and answers: by grammar for flat shapes, by templates or plainly for all objects and languages.

Must not import `samples`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Protocol

from training.lexicon import GRAMMARS
from training.lexicon.lexicon import Lexicons
from training.scenes.scene import Scene
from training.tasks import dialogues, plain, plain_dialogues, questions, templates
from training.tasks.dialogues import AnswerLength
from training.tasks.questions import Question


class QuestionWriter(Protocol):
    """Writes questions and answers in one language."""

    @property
    def code(self) -> str:
        """The language's code."""

    def sample_question(self, scene: Scene, rng: random.Random, *, length: AnswerLength) -> Question:
        """A random question that needs no earlier turn, with an answer of that `length`."""

    def sample_dialogue(self, scene: Scene, rng: random.Random) -> list[Question]:
        """A random dialogue, of which the newest question usually depends on the earlier ones."""

    def answer(self, question: Question, scene: Scene) -> str:
        """The correct answer to the question, in the writer's language."""

    def render_question(self, question: Question, rng: random.Random) -> str:
        """The question's text in the writer's language, in a random wording."""

    def for_language(self, code: str) -> QuestionWriter:
        """A writer of the same class for the language `code`, or for English if the class lacks the language."""


@dataclass(frozen=True)
class GrammarWriter:
    """Writes about flat shapes, in a language that has a grammar: "three blue circles"."""

    code: str

    def sample_question(self, scene: Scene, rng: random.Random, *, length: AnswerLength) -> Question:
        """See `QuestionWriter`."""
        return dialogues.sample_question(scene, rng, length=length)

    def sample_dialogue(self, scene: Scene, rng: random.Random) -> list[Question]:
        """See `QuestionWriter`."""
        return dialogues.sample_dialogue(scene, rng)

    def answer(self, question: Question, scene: Scene) -> str:
        """See `QuestionWriter`."""
        return questions.answer(question, scene, GRAMMARS[self.code])

    def render_question(self, question: Question, rng: random.Random) -> str:
        """See `QuestionWriter`."""
        return questions.render_question(question, GRAMMARS[self.code], rng)

    def for_language(self, code: str) -> QuestionWriter:
        """See `QuestionWriter`."""
        return GrammarWriter(code if code in GRAMMARS else "en")


@dataclass(frozen=True)
class TemplateWriter:
    """Writes about any object in any of the eighty languages, with names, numbers, yes and no."""

    code: str
    lexicons: Lexicons

    def sample_question(self, scene: Scene, rng: random.Random, *, length: AnswerLength) -> Question:
        """See `QuestionWriter`."""
        return templates.sample_question(scene, rng, length=length)

    def sample_dialogue(self, scene: Scene, rng: random.Random) -> list[Question]:
        """See `QuestionWriter`."""
        return templates.sample_dialogue(scene, rng)

    def answer(self, question: Question, scene: Scene) -> str:
        """See `QuestionWriter`."""
        return templates.answer(question, scene, self.lexicons[self.code])

    def render_question(self, question: Question, rng: random.Random) -> str:
        """See `QuestionWriter`."""
        return templates.render_question(question, self.lexicons[self.code], rng)

    def for_language(self, code: str) -> QuestionWriter:
        """See `QuestionWriter`."""
        return TemplateWriter(code, self.lexicons)


@dataclass(frozen=True)
class PlainWriter(TemplateWriter):
    """Asks as people do, with inflected nouns and general names; answers as the other writers do."""

    def sample_question(self, scene: Scene, rng: random.Random, *, length: AnswerLength) -> Question:
        """See `QuestionWriter`."""
        return plain_dialogues.sample_plain_question(scene, rng, length=length)

    def sample_dialogue(self, scene: Scene, rng: random.Random) -> list[Question]:
        """See `QuestionWriter`."""
        return plain_dialogues.sample_plain_dialogue(scene, rng)

    def answer(self, question: Question, scene: Scene) -> str:
        """See `QuestionWriter`."""
        if scene.flat and self.code in GRAMMARS:
            return GrammarWriter(self.code).answer(question, scene)
        return super().answer(question, scene)

    def render_question(self, question: Question, rng: random.Random) -> str:
        """See `QuestionWriter`."""
        if not question.wording.startswith(plain_dialogues.PREFIX):
            return super().render_question(question, rng)
        lexicon = self.lexicons[self.code]
        return plain.render_plain_question(
            question, self.lexicons["en"] if plain.needs_english(question, lexicon) else lexicon, rng
        )

    def for_language(self, code: str) -> QuestionWriter:
        """See `QuestionWriter`."""
        return PlainWriter(code, self.lexicons)
