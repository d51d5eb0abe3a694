"""A scene and a conversation become a prompt and the answer to learn, in one language or several.

The prompt is what `blip_space.prompts.compose` would send, so learning and serving cannot drift; a share of the prompts
takes mBLIP's other templates and BLIP-2's. Knows no pixels and no tokens.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from blip_space.history import Turn
from blip_space.languages import LANGUAGES, Language
from blip_space.prompts import STYLES, compose, is_question
from training.lexicon import TONGUES
from training.lexicon.lexicon import Plain
from training.scenes.scene import Scene
from training.tasks import templates
from training.tasks.questions import Ask
from training.tasks.writers import Grammar, PlainWords, Speech

STYLE = STYLES["mblip"]

Kind = Literal["talk", "any", "short", "long"]

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

UNMARKED, OTHER_TEMPLATE, ENGLISH_QUESTION, THIRD_LANGUAGE, WRONG_EARLIER = 0.14, 0.12, 0.3, 0.05, 0.08
"""How often a question lacks its mark, a prompt takes another template, ..., and an earlier answer is not true."""


WITH_GRAMMAR = 0.7
"""How often flat shapes are spoken of in a language that has a grammar here: what it alone can say is most to learn."""

STRAY = 0.08
"""How often flat shapes are asked about as if an everyday thing might be among them."""


@dataclass(frozen=True)
class Lesson:
    """What is put to the model beside the picture, and what it should say."""

    prompt: str
    answer: str
    newest: Ask
    """What the prompt's last question means, whatever its words leave out."""


def lesson(
    scene: Scene, rng: random.Random, *, kind: Kind, plains: Mapping[str, Plain], codes: Sequence[str], other: Scene
) -> Lesson:
    """A lesson on the scene: a conversation ("talk") or one question of that manner, to be answered in one of `codes`.

    `plains` are the plain words of every language; `other` is a scene that lends wrong answers to earlier questions.
    """
    if scene.flat and rng.random() < WITH_GRAMMAR:
        codes = [code for code in ("en", *TONGUES) if code in codes]
    code = rng.choice(codes)
    grammatical = scene.flat and code in TONGUES
    speak: Speech = Grammar(code) if grammatical else PlainWords(code, plains)
    asks = speak.conversation(scene, rng) if kind == "talk" else [speak.single(scene, rng, manner=kind)]
    if grammatical and kind == "short" and rng.random() < STRAY:
        speak, asks = PlainWords(code, plains), [templates.stray(rng)]
    *earlier, newest = asks
    turns: list[Turn] = []
    spoken = speak
    for ask in earlier:
        if rng.random() < 0.15:
            spoken = speak.in_another(rng.choice(codes))
        lent = other.flat == scene.flat and bool(other.out_of_distribution) == bool(scene.out_of_distribution)
        seen = other if lent and rng.random() < WRONG_EARLIER else scene
        turns.append((_worded(ask, spoken, rng), spoken.answer(ask, seen)))
    words = _prompt(turns, _worded(newest, speak, rng), LANGUAGES[code], rng)
    return Lesson(words, speak.answer(newest, scene), newest)


def prompt(turns: Sequence[Turn], question: str, language: Language) -> str:
    """What serving would send."""
    whole = compose(turns, question, style=STYLE, language=language, budget_tokens=10_000, tokenize=str.encode)
    return whole.text


def _prompt(turns: list[Turn], question: str, language: Language, rng: random.Random) -> str:
    if rng.random() >= OTHER_TEMPLATE or (question and not is_question(question)):
        return prompt(turns, question, language)
    if language.code == "en" and question and rng.random() < 0.5:
        newest = BLIP2_QUESTION
    else:
        newest = rng.choice(OTHER_QUESTIONS if question else OTHER_CAPTIONS)
    newest = newest.replace("{L}", language.prompt_name).replace("{q}", question)
    past = prompt(turns, "?", language).removesuffix(prompt([], "?", language))
    return past + newest


def _worded(ask: Ask, answering: Speech, rng: random.Random) -> str:
    """The question in the answer's language, or English, or now and then a third; "" for half of the captions."""
    if ask.wording == "caption" and rng.random() < 0.6:
        return ""
    chance = rng.random()
    asking = answering
    if chance < ENGLISH_QUESTION or templates.needs_english(ask):
        asking = answering.in_another("en")
    elif chance < ENGLISH_QUESTION + THIRD_LANGUAGE:
        asking = answering.in_another(rng.choice(tuple(TONGUES)))
    return _scribbled(asking.phrase(ask, rng), asking.code, rng)


def _scribbled(question: str, code: str, rng: random.Random) -> str:
    """The question as people type: sometimes without its mark, without capitals, or with a courtesy."""
    if code == "en" and rng.random() < 0.05:
        question = rng.choice(("Please: ", "Hello! ", "Hi, ", "Tell me: ", "Now, ")) + question
    if rng.random() < UNMARKED:
        question = question.rstrip(" ?？؟.。।")
    manner = rng.random()
    if manner < 0.15:
        return question.lower()
    return question.upper() if manner < 0.17 and code == "en" else question
