"""`python -m training.fixture`: writes the two hundred questions that the tests ask the embedded model.

The files are generated once, with a seed of their own, so that the tests need no sprites: a sheet of images, and a list
of questions with their earlier turns and correct answers. The tests ask them through the engine.
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
OOD_KINDS = ("photo", "photo", "photo", "noise", "text", "blank")
"""The kinds of the out-of-distribution images; each entry gives four images."""


def main() -> None:
    """Render the sheet of images and write the list of questions."""
    sources = RUNS / "sources"
    lexicons = {code: load_lexicon(code, sources) for code in language_codes()}
    renderer = mixture.load_renderer(sources, STYLES, photos=out_of_distribution.EVALUATION_FILES)
    questions, images = [], []
    for index, (task, scene, dialogue) in enumerate(_sample_tasks()):
        lexicon = lexicons[language_codes()[index * 7 % len(language_codes())] if index % 4 else "en"]
        images.append(Image.fromarray(renderer.render(scene, side=SIDE, seed=f"fixture/{index}", clean=True)[0]))
        questions.append({"task": task, "image": index, **_texts(lexicon, scene, dialogue, index)})
    FOLDER.mkdir(parents=True, exist_ok=True)
    _contact_sheet(images).save(FOLDER / "images.webp", quality=90)
    lines = ",\n".join(json.dumps(question, ensure_ascii=False) for question in questions)
    (FOLDER / "questions.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def _sample_tasks() -> Iterator[tuple[str, Scene, Dialogue]]:
    rng = random.Random(SEED)
    for task, eval_task in TASKS.items():
        count = 0
        for scene in everyday_objects.everyday_scenes(eval_task.numbers, 10 * EACH, seed=SEED):
            dialogue = eval_task.dialogue(scene, rng)
            if dialogue and count < EACH:
                count += 1
                yield task, scene, dialogue
    for kind in OOD_KINDS * 4:
        yield UNKNOWN + kind, mixture.ood_scene(kind), [templates.WHAT]


def _texts(lexicon: Lexicon, scene: Scene, dialogue: Dialogue, index: int) -> dict[str, Any]:
    rng = random.Random(f"{SEED}/{index}")
    texts = ["" if one.wording == "caption" else templates.render_question(one, lexicon, rng) for one in dialogue]
    answers = [templates.answer(one, scene, lexicon) for one in dialogue]
    *turns, (prompt, answer) = zip(texts, answers, strict=True)
    return {"language": lexicon.code, "turns": turns, "prompt": prompt, "answer": answer}


def _contact_sheet(images: list[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (COLUMNS * SIDE, -(-len(images) // COLUMNS) * SIDE))
    for index, image in enumerate(images):
        sheet.paste(image, (index % COLUMNS * SIDE, index // COLUMNS * SIDE))
    return sheet


if __name__ == "__main__":
    main()
