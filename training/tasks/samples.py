"""Training samples: the prompt and the label of a question or a dialogue about a scene, in one or more languages.

Prompts are composed by `blip_space.prompts.compose`, as in serving, except that a share of them uses mBLIP's other
templates or BLIP-2's. Must not import torch.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from blip_space.history import Turn
from blip_space.languages import LANGUAGES, Language
from blip_space.prompts import STYLES, compose, is_question
from training.lexicon import GRAMMARS
from training.lexicon.lexicon import Lexicons
from training.scenes.scene import Scene
from training.tasks import templates
from training.tasks.held_out import is_held_out
from training.tasks.questions import Question
from training.tasks.writers import GrammarWriter, PlainWriter, QuestionWriter, TemplateWriter

STYLE = STYLES["mblip"]

SampleKind = Literal["dialogue", "any", "short", "long"]

OTHER_QUESTIONS = (
    "Question: {q} Brief answer (in {L}):",
    "Question: {q} Brief answer in {L}:",
    "Give a short answer in {L} to the following question. {q}",
    "Briefly answer in {L}. {q}",
)
OTHER_CAPTIONS = (
    "Caption the image in {L}.",
    "Briefly describe the image in {L}.",
    "Image caption (in {L}): ",
    "What is in the image? Answer briefly in {L}.",
    "Describe the image in {L} with as much detail as possible.",
)
BLIP2_QUESTION = "Question: {q} Answer:"

NO_QUESTION_MARK, OTHER_TEMPLATE, ENGLISH_QUESTION, THIRD_LANGUAGE, WRONG_HISTORY = 0.14, 0.12, 0.3, 0.05, 0.08
"""The probabilities that a question lacks its question mark, that another template is used, that a question is in
English or in a third language, and that the answer of an earlier turn is wrong."""

GRAMMAR_SHARE = 0.7
"""How often samples of flat shapes must use a language with a grammar, since its phrases are the hardest to learn."""

PLAIN_SHARE, PLAIN_FLAT_SHARE = 0.6, 0.25
"""How often questions are plain, about everyday objects and about flat shapes."""

MAX_WORDINGS = 40
"""How often a wording is drawn again because the evaluation asks it."""

OFF_TOPIC_SHARE = 0.08
"""How often a short question about an image of flat shapes is about an everyday object."""


@dataclass(frozen=True)
class Sample:
    """One training sample: the text that the model gets with the image, and the label."""

    prompt: str
    answer: str
    newest: Question
    """The meaning of the prompt's last question, including what only the earlier turns state."""


def make_sample(
    scene: Scene, rng: random.Random, *, kind: SampleKind, lexicons: Lexicons, codes: Sequence[str], distractor: Scene
) -> Sample:
    """A sample about the scene, answered in one of `codes`: a dialogue, or a question with an answer of length `kind`.

    Some earlier turns of a dialogue have wrong answers, which are the correct ones for the scene `distractor`.
    """
    if scene.flat and rng.random() < GRAMMAR_SHARE:
        codes = [code for code in ("en", *GRAMMARS) if code in codes]
    code = rng.choice(codes)
    is_plain = rng.random() < (PLAIN_FLAT_SHARE if scene.flat else PLAIN_SHARE)
    grammatical = scene.flat and code in GRAMMARS and not is_plain
    writer: QuestionWriter = GrammarWriter(code) if grammatical else TemplateWriter(code, lexicons)
    if is_plain:
        writer = PlainWriter(code, lexicons)
    if kind == "dialogue":
        questions = writer.sample_dialogue(scene, rng)
    else:
        questions = [writer.sample_question(scene, rng, length=kind)]
    if grammatical and kind == "short" and rng.random() < OFF_TOPIC_SHARE:
        writer, questions = TemplateWriter(code, lexicons), [templates.off_topic(rng)]
    *earlier, newest = questions
    turns: list[Turn] = []
    turn_writer = writer
    for question in earlier:
        if rng.random() < 0.15:
            turn_writer = writer.for_language(rng.choice(codes))
        comparable = _kind_of_scene(distractor) == _kind_of_scene(scene)
        answered_scene = distractor if comparable and rng.random() < WRONG_HISTORY else scene
        turns.append((_sample_wording(question, turn_writer, rng), turn_writer.answer(question, answered_scene)))
    text = _sample_prompt(turns, _sample_wording(newest, writer, rng), LANGUAGES[code], rng)
    return Sample(text, writer.answer(newest, scene), newest)


def _kind_of_scene(scene: Scene) -> tuple[bool, bool, bool]:
    return scene.flat, bool(scene.ood_kind), scene.photograph


def build_prompt(turns: Sequence[Turn], question: str, language: Language) -> str:
    """The prompt that serving builds for `question` after `turns` with mBLIP's template."""
    return compose(turns, question, style=STYLE, language=language, budget_tokens=10_000, tokenize=str.encode).text


def _sample_prompt(turns: list[Turn], question: str, language: Language, rng: random.Random) -> str:
    if rng.random() >= OTHER_TEMPLATE or (question and not is_question(question)):
        return build_prompt(turns, question, language)
    if language.code == "en" and question and rng.random() < 0.5:
        newest = BLIP2_QUESTION
    else:
        newest = rng.choice(OTHER_QUESTIONS if question else OTHER_CAPTIONS)
    newest = newest.replace("{L}", language.prompt_name).replace("{q}", question)
    history = build_prompt(turns, "?", language).removesuffix(build_prompt([], "?", language))
    return history + newest


def _sample_wording(question: Question, writer: QuestionWriter, rng: random.Random) -> str:
    """The question in the answer's language, in English or sometimes in a third language; "" for most captions."""
    if question.wording == "caption" and rng.random() < 0.6:
        return ""
    share = rng.random()
    if share < ENGLISH_QUESTION or templates.needs_english(question):
        writer = writer.for_language("en")
    elif share < ENGLISH_QUESTION + THIRD_LANGUAGE:
        writer = writer.for_language(rng.choice(tuple(GRAMMARS)))
    return _as_typed(_render(question, writer, rng), writer.code, rng)


def _render(question: Question, writer: QuestionWriter, rng: random.Random) -> str:
    """The question in a wording that the evaluation does not ask; in English if the language has no other wording."""
    for attempt in range(MAX_WORDINGS):
        text = (writer if attempt < MAX_WORDINGS // 2 else writer.for_language("en")).render_question(question, rng)
        if not is_held_out(text):
            return text
    return ""


def _as_typed(question: str, code: str, rng: random.Random) -> str:
    """The question as people type it: sometimes without question mark or capitals, or after a greeting."""
    if code == "en" and rng.random() < 0.05:
        question = rng.choice(("Please: ", "Hello! ", "Hi, ", "Tell me: ", "Now, ")) + question
    if rng.random() < 0.4:
        question = question.replace("’", "'")
    if code == "fr" and rng.random() < 0.3:
        question = question.replace(" ?", rng.choice(("?", "\u00a0?", "\u202f?")))
    if code == "es" and rng.random() < 0.2:
        question = question.replace("¿", "")
    if rng.random() < NO_QUESTION_MARK:
        question = question.rstrip(" ?？؟.。।")
    case = rng.random()
    if case < 0.15:
        return question.lower()
    return question.upper() if case < 0.17 and code == "en" else question
