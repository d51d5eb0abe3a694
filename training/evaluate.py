"""`python -m training.evaluate assets/tiny`: evaluates a model folder and writes the tables of its card.

A score is the share of greedy answers that are exactly correct; answers in the requested language are a separate score.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoTokenizer, Blip2ForConditionalGeneration

import blip_space
from blip_space.errors import EmptyAnswerError
from training import card
from training.__main__ import RUNS
from training.evaluation import gate, photographs, tables
from training.evaluation.flat_shapes import DRAWING_STYLES, SEED, TASKS, flat_questions, make_image_set
from training.evaluation.scoring import ANSWERED_IN_LANGUAGE, Scores, score
from training.evaluation.tables import EvaluatedModel
from training.lexicon import GRAMMARS
from training.lexicon.lexicon import language_codes, load_lexicon


def load_model(folder: Path, sources: Path) -> EvaluatedModel:
    """Load the model of `folder` in fp32 with its tokenizer, and the lexicon of every language."""
    model = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    lexicons = {code: load_lexicon(code, sources) for code in language_codes()}
    return EvaluatedModel(model.eval(), tokenizer, lexicons, sources, folder)


def evaluate_flat_shapes(model: EvaluatedModel, style: str, *, each: int, seed: int = SEED) -> Scores:
    """The scores of all tasks on flat shapes in the drawing style `style`."""
    image_set = make_image_set(style, count=each * 12, side=model.side, seed=seed)
    questions = flat_questions(image_set, each=each, seed=seed)
    return score(questions, model.answers(image_set.images, questions), model.sources)


def everyday_parts(model: EvaluatedModel, each: int) -> Iterator[str]:
    """The tables of everyday objects and out-of-distribution images."""
    yield from tables.card_tables(model, each=each)


def flat_parts(model: EvaluatedModel, each: int) -> Iterator[str]:
    """The tables of flat shapes, one for each drawing style."""
    for style in DRAWING_STYLES:
        scores = evaluate_flat_shapes(model, style, each=each)
        title = f"flat shapes, {style}"
        yield card.task_table(title, scores, tasks=(*TASKS, ANSWERED_IN_LANGUAGE), languages=tuple(GRAMMARS))


def plain_parts(model: EvaluatedModel, each: int) -> Iterator[str]:
    """The table of plain questions: an even number for each of ten wordings, so at least `each` per cell."""
    yield tables.plain_table(model, each=2 * max(1, -(-each // 20)))


def photograph_parts(model: EvaluatedModel, each: int) -> Iterator[str]:
    """The tables of photographs, which are asked about through the engine, as users ask."""
    with blip_space.load(str(model.folder)) as engine:
        answers = photographs.photograph_answers(partial(_answer_or_nothing, engine), model.sources)
    counts = photographs.photograph_counts(answers, model.lexicons["en"].unknown)
    yield photographs.photograph_table(counts)
    encoder = gate.load_gate(model)
    if encoder:
        shares = gate.taken_for_photographs(model, encoder, count=8 * each)
        yield card.share_table("taken for photographs", shares)


PARTS: dict[str, Callable[[EvaluatedModel, int], Iterator[str]]] = {
    "everyday": everyday_parts,
    "plain": plain_parts,
    "photographs": photograph_parts,
    "flat": flat_parts,
}
"""The parts of the evaluation, in the card's order."""


def _answer_or_nothing(engine: blip_space.Engine, image: Image.Image, prompt: str) -> str:
    """The engine's answer; "" if the model says nothing, as one does that is not trained yet."""
    try:
        return engine.ask(image, prompt)
    except EmptyAnswerError:
        return ""


def main(arguments: list[str] | None = None) -> None:
    """Evaluate the model folder that the command line names, print the tables, and write them into its card."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--each", type=int, default=50, help="questions per task and language (default: %(default)s)")
    parser.add_argument("--sources", type=Path, default=RUNS / "sources", help="downloaded packages")
    parser.add_argument("--only", choices=tuple(PARTS), help="print one part only, and do not write the card")
    args = parser.parse_args(arguments)
    model = load_model(args.folder, args.sources)
    parts = []
    for name, part in PARTS.items():
        for table in part(model, args.each) if args.only in (None, name) else ():
            parts.append(table)
            print(table, end="\n\n", flush=True)
    if args.only:
        return
    tables.render_examples(model).save(args.folder / "answers.png", optimize=True)
    factor = tables.ENGLISH_FACTOR
    card.write_figures(args.folder, "\n\n".join(parts), each=args.each, english_factor=factor, seed=SEED)


if __name__ == "__main__":
    main()
