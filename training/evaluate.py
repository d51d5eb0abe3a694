"""`python -m training.evaluate assets/tiny`: puts a model folder through the exam and writes its card's tables.

Marks are exact matches of the greedy answer; answers in the right language are counted apart.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, Blip2ForConditionalGeneration

from training import card
from training.__main__ import RUNS
from training.evaluation import tables
from training.evaluation.flat_shapes import HANDS, SEED, TASKS, drawn, sheet
from training.evaluation.scoring import ANSWERED_IN_LANGUAGE, Marks, mark
from training.evaluation.tables import Candidate
from training.lexicon import GRAMMARS
from training.lexicon.lexicon import language_codes, load_lexicon


def load(folder: Path, sources: Path) -> Candidate:
    """The folder's model in fp32 with its tokenizer, and all the words."""
    model = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    return Candidate(model.eval(), tokenizer, {code: load_lexicon(code, sources) for code in language_codes()}, sources)


def examine(candidate: Candidate, hand: str, *, each: int, seed: int = SEED) -> Marks:
    """The whole exam on flat shapes in one hand."""
    shown = drawn(hand, count=each * 12, side=candidate.side, seed=seed)
    questions = sheet(shown, each=each, seed=seed)
    return mark(questions, candidate.answers(shown.pictures, questions), candidate.sources)


def main(arguments: list[str] | None = None) -> None:
    """Examine a folder, print the tables and put them into its card."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--each", type=int, default=50, help="questions a task and language (default: %(default)s)")
    parser.add_argument("--sources", type=Path, default=RUNS / "sources", help="where fetched packages lie")
    options = parser.parse_args(arguments)
    candidate = load(options.folder, options.sources)
    parts = []
    for table in tables.tables(candidate, each=options.each):
        parts.append(table)
        print(table, end="\n\n", flush=True)
    for hand in HANDS:
        marks = examine(candidate, hand, each=options.each)
        title = f"flat shapes, {hand}"
        parts.append(card.table(title, marks, tasks=(*TASKS, ANSWERED_IN_LANGUAGE), languages=tuple(GRAMMARS)))
        print(parts[-1], end="\n\n", flush=True)
    tables.answered(candidate).save(options.folder / "answers.png", optimize=True)
    card.put_figures(options.folder, "\n\n".join(parts), each=options.each, heavy=tables.HEAVY, seed=SEED)


if __name__ == "__main__":
    main()
