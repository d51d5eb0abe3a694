"""What the page shows before the first question: example images with questions, what the model knows, and the questions
that it answers well.

Depends on the examples, the models' own data and the table of languages. Must not import Gradio.
"""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import Path

from blip_space import images
from blip_space.apps import locales
from blip_space.apps.locales import text
from blip_space.apps.page import static
from blip_space.apps.page.static import ExampleImage, Html
from blip_space.catalogue import ModelSpec
from blip_space.languages import LANGUAGES

THUMBNAIL = 192, 144
"""The largest width and height of a thumbnail in pixels: twice those at which it is shown."""

SMALL_PARAMETERS = 100_000_000
"""A model with fewer parameters is a test model."""


def cards(spec: ModelSpec) -> Html:
    """The examples in the languages of the model, each a button with its image and its question, and below them what
    the model knows. An example's `data-index` is its place among all examples."""
    spoken = [(index, example) for index, example in enumerate(static.load_examples()) if _speaks(spec, example)]
    shown = Html("".join(_card(index, example) for index, example in spoken))
    return static.render_template("cards.html", label=text("examples_label"), cards=shown, knows=knowledge(spec))


def _speaks(spec: ModelSpec, example: ExampleImage) -> bool:
    return example.language in spec.languages


def _card(index: int, example: ExampleImage) -> Html:
    language = LANGUAGES[example.language]
    return static.render_template(
        "card.html",
        index=index,
        image=_thumbnail(example.file),
        question=example.prompt,
        own_name=language.own_name,
        language=language.code,
        direction=language.direction,
    )


@cache
def _thumbnail(file: Path) -> str:
    """A small WebP of an image as a data URL, so that the page needs no further request for it."""
    pixels, buffer = images.decode(file).pixels, io.BytesIO()
    pixels.thumbnail(THUMBNAIL)
    pixels.save(buffer, "WEBP", quality=70)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def knowledge(spec: ModelSpec) -> str:
    """What the model knows, as a line in the language of the page: of a checkpoint with such lines its own, of others
    in how many languages it answers."""
    if ready := spec.ready_questions.get(locales.page_language()) or spec.ready_questions.get(locales.DEFAULT):
        return text(
            "knows_small" if spec.parameters < SMALL_PARAMETERS else "knows", model=spec.name, kinds=ready.knows
        )
    if len(spec.languages) == 1:
        language = LANGUAGES[spec.languages[0]]
        return text("knows_photographs_in_one", model=spec.name, language=language.own_name)
    return text("knows_photographs", model=spec.name, n=len(spec.languages))


def ready_questions(spec: ModelSpec, language: str) -> Html:
    """The questions that the model answers well in the language, each a button; empty if it has none."""
    if language not in spec.ready_questions:
        return Html()
    questions = spec.ready_questions[language].questions
    buttons = [
        static.render_template("ready_question.html", index=index, question=question)
        for index, question in enumerate(questions)
    ]
    return static.render_template(
        "ready_questions.html",
        label=text("ready_questions_label"),
        language=language,
        direction=LANGUAGES[language].direction,
        questions=Html("".join(buttons)),
    )
