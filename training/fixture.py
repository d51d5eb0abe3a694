"""`python -m training.fixture`: the two hundred questions that the tests ask the shipped model through the engine.

Written once, with a seed of their own, so that a test needs no drawings: a sheet of pictures, and a list of questions
with the turns before them and the right answers.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from training.__main__ import RUNS
from training.evaluation import everyday_objects
from training.evaluation.everyday_objects import TASKS, UNKNOWN, Dialogue
from training.lexicon.lexicon import Lexicon, language_codes, load_lexicon
from training.recipe import STYLES
from training.scenes import mixture, out_of_distribution
from training.scenes.scene import Scene
from training.tasks import templates

FOLDER = Path(__file__).parent.parent / "tests" / "training" / "fixture"
SEED, EACH, SIDE, COLUMNS = 2_000, 22, 128, 20
STRANGE = ("photo", "photo", "photo", "noise", "text", "blank")
"""The sorts of strange pictures, four of each."""


def main() -> None:
    """Draw the sheet and write the questions."""
    sources = RUNS / "sources"
    lexicons = {code: load_lexicon(code, sources) for code in language_codes()}
    of = mixture.load_renderer(sources, STYLES, photographs=out_of_distribution.EVALUATION_FILES)
    questions, pictures = [], []
    for number, (task, scene, dialogue) in enumerate(_asked()):
        lexicon = lexicons[language_codes()[number * 7 % len(language_codes())] if number % 4 else "en"]
        pictures.append(Image.fromarray(of.render(scene, side=SIDE, seed=f"fixture/{number}", clean=True)[0]))
        questions.append({"task": task, "picture": number, **_worded(lexicon, scene, dialogue, number)})
    FOLDER.mkdir(parents=True, exist_ok=True)
    _sheet(pictures).save(FOLDER / "pictures.webp", quality=90)
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in questions)
    (FOLDER / "questions.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def _asked() -> Iterator[tuple[str, Scene, Dialogue]]:
    rng = random.Random(SEED)
    for task, wanted in TASKS.items():
        found = 0
        for scene in everyday_objects.scenes(wanted.numbers, 10 * EACH, seed=SEED):
            dialogue = wanted.dialogue(scene, rng)
            if dialogue and found < EACH:
                found += 1
                yield task, scene, dialogue
    for sort in STRANGE * 4:
        yield UNKNOWN + sort, mixture.ood_scene(sort), [templates.WHAT]


def _worded(lexicon: Lexicon, scene: Scene, dialogue: Dialogue, number: int) -> dict[str, Any]:
    rng = random.Random(f"{SEED}/{number}")
    *turns, (prompt, answer) = [
        (
            "" if question.wording == "caption" else templates.render_question(question, lexicon, rng),
            templates.answer(question, scene, lexicon),
        )
        for question in dialogue
    ]
    return {"language": lexicon.code, "turns": turns, "prompt": prompt, "answer": answer}


def _sheet(pictures: list[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (COLUMNS * SIDE, -(-len(pictures) // COLUMNS) * SIDE))
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % COLUMNS * SIDE, number // COLUMNS * SIDE))
    return sheet


if __name__ == "__main__":
    main()
