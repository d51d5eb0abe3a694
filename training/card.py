"""Writes the model card, the folder's `README.md`: a fixed text, facts of the run, and the evaluation's tables.

Export writes the facts and evaluation the tables, each between two markers. Must not import `model` or `stages`.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import transformers

from training.evaluation.photograph_packages import PACKAGES
from training.scenes import sources
from training.scenes.out_of_distribution import EVALUATION_FILES, TRAINING_FILES

TEXT = """# tiny: the embedded model

A real `Blip2ForConditionalGeneration` (ViT, Q-Former, mT5-type language model; 10.7 million parameters, bf16) with its
own tokenizer, trained from random weights by `training/` on drawings. With it the page, the tests and the command line
run the same code path as with BLIP-2 and mBLIP, without a download.

**What it recognizes.**

- 287 everyday objects in emoji-like drawings: animals, food, plants, vehicles, buildings, tools, clothes, instruments,
  weather (`training/scenes/concepts.txt`). One to six of them, anywhere in the image.
- Flat shapes: circles, squares (and other rectangles), triangles, stars, hearts and crosses, in red, orange, yellow,
  green, blue, purple, pink, brown, black, white and grey.

It names and captions objects, counts all of them or those of one kind, and answers whether there is one, what is on the
left, on the right or in the middle (also at the top or bottom, if the question is in English), what else there is, and
which colour or shape a flat shape has. It follows a conversation ("What is on the left?", "What colour is it?", "And on
the right?"). It answers in 80 languages, to questions in that language or in English. About photographs, noise, text
and blank images it usually answers that it does not know the image.

Answers are short: the object's name in Unicode's CLDR, a number word, a colour, "yes" or "no", or a list in reading
order: from left to right, a column from top to bottom. Several objects of a kind are "cat × 2", which needs no plural;
only flat shapes have a grammar, in English, German, Spanish, French, Arabic, Hindi, Japanese and Chinese ("three blue
circles"). Chinese is Traditional.

**What it does not recognize.** Everything else: other photographs, and drawings of other objects, to which it gives
the name of something similar or answers that it does not know. Nor does it know colours of everyday objects,
overlapping objects, more than six objects, sizes, comparisons or actions.

**Weaknesses.** Objects below a quarter of the image's shorter side, drawing styles that are not in the training data,
and long lists; see the figures below. Plain questions about several kinds at once ("How many animals are there?" of a
dog and two cats), and about something that looks like what is there ("Is there a horse?" of the same dog). The words of
the 80 languages beyond CLDR's (numbers, colours, yes, no, questions) were written without native speakers; the least
certain are Igbo, Yoruba, Zulu, Somali, Hausa, Pashto, Sindhi, Khmer and Lao.

**Method.** Every word of the lexicon is one piece of the vocabulary, and its initial embedding is the sum of its
meaning and its language. The Q-Former learns to output fixed codes, which these meanings share. So the language model,
which trains in parallel on encoded targets instead of image features, only has to learn when to answer what.

## Data and licences

The weights and the code have the project's licence, MIT. Training images were rendered from these packages, downloaded
from npm and pinned in `training/scenes/sources.py`. The photographs of `@stdlib` train only the gate of the
second image encoder. None of them is in the repository except the four drawings of `assets/examples/` (Noto Emoji) and
the small images of `tests/training/fixture/` and of this card (all drawing styles):

| package | content and author | licence |
|---|---|---|
{credits}
| photographs (out of distribution) | scikit-image 0.26, scikit-learn 1.9: {training_files} of their files | their own |

{evaluation_files} more photographs ({evaluation_names}) are used for evaluation only. So are those of the packages
below (`training/evaluation/photographs.txt`), none of which is in the repository:

| package | content and author | licence |
|---|---|---|
{photograph_credits}

## The run

<!-- run -->
<!-- /run -->

![Share of correct answers during training](curve.png)

## Figures

![Images with correct answers, and below them with wrong ones](answers.png)

<!-- figures -->
<!-- /figures -->
"""


def write_run(folder: Path, *, minutes: Mapping[str, float], seed: int, recipe: str, device: str) -> None:
    """Replace the card's facts of the run: the command, the machine, the versions and the minutes of each stage."""
    cores = os.cpu_count()
    machine = f"{cores} CPU cores, no GPU" if device == "cpu" else "one GPU"
    stage_minutes = ", ".join(f"{stage} {spent:.0f}" for stage, spent in minutes.items() if spent)
    facts = (
        f"`python -m training --recipe {recipe}`, seed {seed}, on {machine} "
        f"(Python {platform.python_version()}, torch {torch.__version__.split('+')[0]}, "
        f"transformers {transformers.__version__}). Minutes of each stage: {stage_minutes}."
    )
    _replace_section(folder, "run", facts)


def write_figures(folder: Path, tables: str, *, each: int, english_factor: int, seed: int) -> None:
    """Replace the card's figures by `tables`, below a paragraph that explains how they were measured."""
    introduction = (
        "Exact matches in per cent of greedy answers in fp32, on images that are not in the training data "
        f"(`python -m training.evaluate assets/tiny --each {each}`: at most that number of questions per cell, in "
        f"English {english_factor} times as many, seed {seed}). Objects are in the training data's drawing styles, "
        "undistorted, at any position and size, unless the table says otherwise. "
        "Half of the questions are in English and half in the answer's language. "
        "*Plain questions* are sentences that training never uses, forty for each language "
        "(`training/evaluation/plain_wordings.json`). "
        "Photographs are asked about in English through the engine, with the second image encoder if there is one. "
        "*Plain Pillow* is a drawing style that is not in the training data: ellipses, rectangles and polygons in CSS "
        "colours at usual image sizes, without smoothing."
    )
    _replace_section(folder, "figures", f"{introduction}\n\n{tables}")


def task_table(
    title: str, scores: Mapping[tuple[str, str], float], *, tasks: Sequence[str], languages: Sequence[str]
) -> str:
    """A Markdown table of percentages: a row for each task, a column for each language, and one for the mean."""
    lines = [
        f"| {title} | {' | '.join(languages)} | mean |",
        f"|---|{'---|' * (len(languages) + 1)}",
    ]
    for task in tasks:
        shares = [scores[task, language] for language in languages if (task, language) in scores]
        if shares:
            cells = [f"{100 * share:.0f}" for share in (*shares, sum(shares) / len(shares))]
            lines.append(f"| {task} | {' | '.join(cells)} |")
    return "\n".join(lines)


def summary_table(title: str, scores: Mapping[tuple[str, str], float], *, tasks: Sequence[str]) -> str:
    """A Markdown table of percentages: a row for each task; columns for English, the mean, and the worst language."""
    lines = [f"| {title} | English | mean of all | worst |", "|---|--:|--:|--:|"]
    for task in tasks:
        shares = {language: share for (name, language), share in scores.items() if name == task}
        worst = min(shares, key=lambda language: shares[language])
        cells = [_per_cent(shares["en"]), _per_cent(sum(shares.values()) / len(shares))]
        lines.append(f"| {task} | {' | '.join(cells)} | {_per_cent(shares[worst])} ({worst}) |")
    return "\n".join(lines)


def share_table(title: str, shares: Mapping[str, float]) -> str:
    """A Markdown table of percentages: a row for each name in `shares`, and a single column."""
    return "\n".join(
        [f"| {title} | |", "|---|--:|", *(f"| {name} | {_per_cent(source)} |" for name, source in shares.items())]
    )


def language_table(
    title: str, scores: Mapping[tuple[str, str], float], *, tasks: Sequence[str], languages: Sequence[str]
) -> str:
    """A Markdown table of percentages: a row for each language, a column for each task."""
    lines = [f"| {title} | {' | '.join(tasks)} |", f"|---|{'--:|' * len(tasks)}"]
    for language in languages:
        cells = [_per_cent(scores[task, language]) for task in tasks]
        lines.append(f"| {language} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _per_cent(share: float) -> str:
    return f"{100 * share:.0f}" if share > 0.1 else f"{100 * share:.1f}"


def new_card() -> str:
    styles = sources.STYLES.values()  # Twemoji is used in evaluation
    credited = (sources.ANNOTATIONS, sources.LISTS, *styles, *sources.PHOTOGRAPHS)
    return TEXT.format(
        credits="\n".join(
            f"| `{source.package}` {source.version} | {source.credit} | {source.licence} |" for source in credited
        ),
        training_files=len(TRAINING_FILES),
        photograph_credits="\n".join(
            f"| {package.title} | {package.credit} | {package.licence} |" for package in PACKAGES.values()
        ),
        evaluation_files=len(EVALUATION_FILES),
        evaluation_names=", ".join(EVALUATION_FILES),
    )


def _replace_section(folder: Path, name: str, section: str) -> None:
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8") if path.exists() else new_card()
    opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
    head, _, rest = text.partition(opening)
    _, _, tail = rest.partition(closing)
    path.write_text(f"{head}{opening}\n{section}\n{closing}{tail}", encoding="utf-8")
