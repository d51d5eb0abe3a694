"""`python -m training.evaluate assets/tiny`: puts a model folder through the exam and writes its card's tables.

Marks are exact matches of the greedy answer; answers in the right language are counted apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, Blip2ForConditionalGeneration

from blip_space.languages import LANGUAGES, UNSPACED_SCRIPTS
from training import card
from training.answers import greedy
from training.exam import HANDS, SEED, TASKS, Question, drawn, sheet
from training.scenes import MOST
from training.words import TONGUES

ANSWERED_IN_LANGUAGE = "answer in the language asked"


def in_language(words: str, code: str) -> bool:
    """Whether an answer, right or wrong, uses that language's own words alone."""
    known = _lexicon(code)
    if LANGUAGES[code].script in UNSPACED_SCRIPTS:
        return set(words) <= known
    spare = "و" if code == "ar" else ""  # "and", which Arabic writes onto the next word
    return all(word in known or word.removeprefix(spare) in known for word in words.replace(",", "").split())


@cache
def _lexicon(code: str) -> frozenset[str]:
    """Every word of a language that an answer may hold; every character, where words are not spaced."""
    tongue = TONGUES[code]
    kinds = [(shape, colour) for shape in (None, *tongue.shapes) for colour in (None, *tongue.colours)]
    lines = [tongue.counted(count, *kind) for count in range(1, MOST + 1) for kind in kinds]
    lines += [word for pair in tongue.shapes.values() for word in pair]
    lines += [tongue.yes, tongue.no, tongue.nothing, *tongue.numbers, *tongue.colours.values()]
    lines.append(tongue.join(lines[:3]))  # for the words that join a list
    if LANGUAGES[code].script in UNSPACED_SCRIPTS:
        return frozenset("".join(lines))
    return frozenset(word for line in lines for word in line.replace(",", "").split())


Marks = dict[tuple[str, str], float]
"""(task, language) to the share of exact answers."""


def mark(questions: Sequence[Question], said: Sequence[str]) -> Marks:
    """The shares of exact answers, and of answers in the right language."""
    right: dict[tuple[str, str], list[bool]] = {}
    for question, words in zip(questions, said, strict=True):
        right.setdefault((question.task, question.language), []).append(words == question.truth)
        fits = words == question.truth or in_language(words, question.language)
        right.setdefault((ANSWERED_IN_LANGUAGE, question.language), []).append(fits)
    return {key: sum(marks) / len(marks) for key, marks in right.items()}


def load(folder: Path) -> tuple[Any, Any]:
    """The folder's model in fp32, and its tokenizer."""
    model = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def examine(model: Any, tokenizer: Any, hand: str, *, each: int) -> Marks:
    """The whole exam in one hand."""
    side = model.config.vision_config.image_size
    pictures = drawn(hand, count=each * 12, side=side)
    questions = sheet(pictures, each=each)
    chosen = torch.tensor([question.picture for question in questions])
    said = greedy(model, tokenizer, pictures.pictures[chosen], [question.prompt for question in questions])
    return mark(questions, said)


def main(arguments: list[str] | None = None) -> None:
    """Examine a folder, print the tables and put them into its card."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--each", type=int, default=60, help="questions a task and language (default: %(default)s)")
    options = parser.parse_args(arguments)
    model, tokenizer = load(options.folder)
    parts = []
    for hand in HANDS:
        marks = examine(model, tokenizer, hand, each=options.each)
        parts.append(card.table(hand, marks, tasks=(*TASKS, ANSWERED_IN_LANGUAGE), languages=tuple(TONGUES)))
        print(parts[-1], flush=True)
    card.put_figures(options.folder, "\n\n".join(parts), each=options.each, seed=SEED)


if __name__ == "__main__":
    main()
