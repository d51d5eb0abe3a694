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

from training.scenes import sources
from training.scenes.out_of_distribution import EVALUATION_FILES, TRAINING_FILES

TEXT = """# tiny: the embedded model

A real `Blip2ForConditionalGeneration` (ViT, Q-Former, mT5-type language model; 10.4 million parameters, bf16) with its
own tokenizer, trained from nothing by `training/` on drawings. It is here so that the page, the tests and the command
line run the same path as BLIP-2 and mBLIP, with no download.

**What it knows.**

- 287 everyday things as emoji-like drawings show them: animals, food, plants, vehicles, buildings, tools, clothes,
  instruments, weather (`training/scenes/concepts.txt`). One to six of them, anywhere in the picture.
- Flat shapes: circles, squares (and other rectangles), triangles, stars, hearts and crosses, in red, orange, yellow,
  green, blue, purple, pink, brown, black, white and grey.

It names and captions them, counts them and those of one kind, says whether there is one, what lies left, right or in
the middle (at the top or bottom too, where the question is in English), what else there is, and what colour or shape a
flat shape has. It follows a conversation ("What is on the left?", "What colour is it?", "And on the right?"). It
answers in 80 languages, to questions in that language or in English. Of a photograph, noise, a text or a blank page it
mostly says that it does not know this picture.

Answers are short: the name that Unicode's CLDR has for the thing, a number word, a colour, "yes" or "no", or a list in
the order of reading: from left to right, what stands in a column from top to bottom. Several of a kind are "cat × 2",
which needs no plural; flat shapes alone have a grammar in English, German, Spanish, French, Arabic, Hindi, Japanese and
Chinese ("three blue circles"). Chinese is Traditional.

**What it does not know.** Everything else: photographs above all, and drawings of other things, to which it gives the
name of something similar or says that it does not know. Colours of everyday things, things that overlap, more than six
things, sizes, comparisons, actions.

**Where it is weak.** Things below a quarter of the picture's shorter side, hands that it has never seen draw, and long
lists. The figures below say how weak. The words of the 80 languages beyond CLDR's (numbers, colours, yes, no,
questions) were written without native speakers; the least sure are Igbo, Yoruba, Zulu, Somali, Hausa, Pashto, Sindhi,
Khmer and Lao.

**How it was made.** Every word of the world is one piece of the vocabulary, and its embedding begins as what it means
plus the language it is in; the eyes report in a code that is agreed beforehand and that these meanings share. So the
language model, which learns beside the eyes from reports that no eyes gave, has only to learn when to say what.

## Data and licences

The weights and the code are MIT, as the project. Training drew its pictures from these, fetched from npm and pinned in
`training/scenes/sources.py`; none of them is in the repository but the four drawings of `assets/examples/` (Noto Emoji)
and the small pictures of `tests/training/fixture/` and of this card (all hands):

| what | whose | licence |
|---|---|---|
{credits}
| photographs to be unknown | scikit-image 0.26, scikit-learn 1.9: {learned} of their files were learned | their own |

{examined} photographs ({examined_names}) are kept for the exam.

## The run

<!-- run -->
<!-- /run -->

![Share of right answers while training](curve.png)

## Figures

![Pictures with right answers, and below them with wrong ones](answers.png)

<!-- figures -->
<!-- /figures -->
"""


def put_run(folder: Path, *, minutes: Mapping[str, float], seed: int, recipe: str, device: str) -> None:
    """State the command, the machine and the time of each stage that made the weights."""
    cores = os.cpu_count()
    machine = f"{cores} CPU cores, no GPU" if device == "cpu" else "one GPU"
    clocks = ", ".join(f"{stage} {spent:.0f}" for stage, spent in minutes.items() if spent)
    facts = (
        f"`python -m training --recipe {recipe}`, seed {seed}, on {machine} "
        f"(Python {platform.python_version()}, torch {torch.__version__.split('+')[0]}, "
        f"transformers {transformers.__version__}). Minutes of each stage: {clocks}."
    )
    _replace(folder, "run", facts)


def put_figures(folder: Path, tables: str, *, each: int, heavy: int, seed: int) -> None:
    """State the exam's results."""
    introduction = (
        "Exact matches in per cent of greedy answers in fp32, on pictures that training never used "
        f"(`python -m training.evaluate assets/tiny --each {each}`: so many questions a cell at most, in English "
        f"{heavy} times as many, seed {seed}). Things are of the styles that training knew, as drawn, at any place and "
        "size, unless the table says otherwise. "
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


def _fresh() -> str:
    credited = (sources.ANNOTATIONS, sources.LISTS, *sources.STYLES.values())  # Twemoji for the exam alone
    return TEXT.format(
        credits="\n".join(f"| `{one.package}` {one.version} | {one.credit} | {one.licence} |" for one in credited),
        learned=len(TRAINING_FILES),
        examined=len(EVALUATION_FILES),
        examined_names=", ".join(EVALUATION_FILES),
    )


def _replace(folder: Path, name: str, words: str) -> None:
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8") if path.exists() else _fresh()
    opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
    head, _, rest = text.partition(opening)
    _, _, tail = rest.partition(closing)
    path.write_text(f"{head}{opening}\n{words}\n{closing}{tail}", encoding="utf-8")
