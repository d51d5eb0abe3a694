"""The model's card, `README.md` in its folder: a text that stays, facts of the run, and the exam's tables.

The facts and the tables stand between markers and are replaced by the export and by the evaluation. Knows Markdown;
knows no model.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import transformers

TEXT = """# tiny: the embedded model

A real `Blip2ForConditionalGeneration` (ViT, Q-Former, mT5-type language model; 4.2 million parameters, bf16) with its
own tokenizer, trained from nothing by `training/` on pictures drawn by code. It is here so that the page, the tests
and the command line run the same path as BLIP-2 and mBLIP, with no download.

**What it knows.** Flat shapes: circles, squares (and other rectangles), triangles, stars, hearts and crosses; red,
orange, yellow, green, blue, purple, pink, brown, black, white and grey; none to six of them, anywhere in the picture,
on a plain or softly shaded background. It counts them, names their shape and colour, says what lies left, right, at
the top, at the bottom or in the middle, says whether there is one, and writes a caption. It follows a conversation
("What is on the left?", "What colour is it?", "And on the right?"). It answers in English, German, Spanish, French,
Arabic, Hindi, Japanese and Chinese (Traditional script), to questions in that language or in English.

Answers are short: a number word, a colour, a shape, "yes" or "no", or a list of things in the order of reading: from
left to right, what stands in a column from top to bottom, and things of one kind together. More than four kinds of
things are only counted. An empty picture shows "nothing".

**What it does not know.** Everything else. A photograph, a drawing of an animal or a page of text gets an answer that
means nothing, since it has never seen one and cannot say so. It does not know things that overlap, more than six
things, sizes ("the biggest"), comparisons, or words that are not in `training/words/`; very small things (under a
tenth of the picture's shorter side) and pale things on pale backgrounds are often missed.

**Where it is weak.** Captions of three or four kinds of things go wrong about as often as not, and what is at the top,
at the bottom or in the middle in one picture of three; small things, outlines without a filling and pictures with much
noise are harder. The figures below say so by language.

**Data and licence.** No data but what `training/` draws and words itself; MIT, as the project.

## The run

<!-- run -->
<!-- /run -->

![Share of right answers while training](curve.png)

## Figures

<!-- figures -->
<!-- /figures -->
"""


def put_run(folder: Path, *, minutes: Mapping[str, float], seed: int, recipe: str, device: str) -> None:
    """State the command, the machine and the time of each stage that made the weights."""
    cores = os.cpu_count()
    machine = f"{cores} CPU cores, no GPU" if device == "cpu" else "one GPU"
    clocks = ", ".join(f"{stage} {spent:.0f}" for stage, spent in minutes.items())
    facts = (
        f"`python -m training --recipe {recipe}`, seed {seed}, on {machine} "
        f"(Python {platform.python_version()}, torch {torch.__version__.split('+')[0]}, "
        f"transformers {transformers.__version__}). Minutes of each stage: {clocks}."
    )
    _replace(folder, "run", facts)


def put_figures(folder: Path, tables: str, *, each: int, seed: int) -> None:
    """State the exam's results."""
    introduction = (
        "Exact matches in per cent of greedy answers in fp32, on pictures that training never used "
        f"(`python -m training.evaluate assets/tiny`, {each} questions a cell at most, seed {seed}). "
        "Half of the questions are asked in English and half in the answer's language. "
        "*Plain Pillow* is a hand that training never saw: ellipses, rectangles and polygons in CSS colours "
        "at usual picture sizes, without smoothing."
    )
    _replace(folder, "figures", f"{introduction}\n\n{tables}")


def table(title: str, marks: Mapping[tuple[str, str], float], *, tasks: Sequence[str], languages: Sequence[str]) -> str:
    """One Markdown table: tasks down, languages across, and their mean."""
    lines = [
        f"| {title} | {' | '.join(languages)} | mean |",
        f"|---|{'---|' * (len(languages) + 1)}",
    ]
    for task in tasks:
        shares = [marks[task, language] for language in languages if (task, language) in marks]
        if shares:
            cells = [f"{100 * share:.0f}" for share in (*shares, sum(shares) / len(shares))]
            lines.append(f"| {task} | {' | '.join(cells)} |")
    return "\n".join(lines)


def summary(title: str, marks: Mapping[tuple[str, str], float], *, tasks: Sequence[str]) -> str:
    """A Markdown table: tasks down; English, the mean over all languages, and the worst of them across."""
    lines = [f"| {title} | English | mean of all | worst |", "|---|--:|--:|--:|"]
    for task in tasks:
        shares = {language: share for (name, language), share in marks.items() if name == task}
        worst = min(shares, key=lambda language: shares[language])
        cells = [_per_cent(shares["en"]), _per_cent(sum(shares.values()) / len(shares))]
        lines.append(f"| {task} | {' | '.join(cells)} | {_per_cent(shares[worst])} ({worst}) |")
    return "\n".join(lines)


def list_of(title: str, shares: Mapping[str, float]) -> str:
    """A Markdown table of one column."""
    return "\n".join(
        [f"| {title} | |", "|---|--:|", *(f"| {name} | {_per_cent(one)} |" for name, one in shares.items())]
    )


def by_language(
    title: str, marks: Mapping[tuple[str, str], float], *, tasks: Sequence[str], languages: Sequence[str]
) -> str:
    """A Markdown table: languages down, tasks across."""
    lines = [f"| {title} | {' | '.join(tasks)} |", f"|---|{'--:|' * len(tasks)}"]
    for language in languages:
        cells = [_per_cent(marks[task, language]) for task in tasks]
        lines.append(f"| {language} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _per_cent(share: float) -> str:
    return f"{100 * share:.0f}" if share > 0.1 else f"{100 * share:.1f}"


def _replace(folder: Path, name: str, words: str) -> None:
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8") if path.exists() else TEXT
    opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
    head, _, rest = text.partition(opening)
    _, _, tail = rest.partition(closing)
    path.write_text(f"{head}{opening}\n{words}\n{closing}{tail}", encoding="utf-8")
