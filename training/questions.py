"""`python -m training.questions assets/tiny`: writes `questions.json`, the ready questions that page and API offer.

For each language it has a wording of "what", of "how many" and of "on the left", and a line of what the model knows. A
wording is the training data's first that the model answers correctly about every one of the page's examples that suit.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import blip_space
from blip_space.catalogue.parsing import read_json
from training.__main__ import RUNS
from training.examples import FOLDER
from training.lexicon.lexicon import Lexicon, language_codes, load_lexicon
from training.scenes.concepts import concepts

Expected = Callable[[Lexicon], str]
Ask = Callable[[Path, str, str], str]
"""The model's answer about an image file to a question, in the language of a code."""

PICTURES = Path(__file__).parent / "lexicon" / "pictures.txt"
DRAWN = ("dog", "red apple", "automobile", "guitar")
PHOTOGRAPHED = ("dog", "cat", "banana", "guitar")
"""Kinds that the line of what the model knows names, for drawings and for photographs."""

AT_ONCE = 32


def _number(count: int) -> Expected:
    return lambda lexicon: lexicon.numbers[count]


def _name(kind: str) -> Expected:
    return lambda lexicon: lexicon.name_of(kind)


ASKED: dict[str, tuple[str, dict[str, Expected]]] = {
    "what": ("what", {"octopus.png": _name("octopus")}),
    "how_many": (
        "count",
        {
            "dog-and-two-cats.png": _number(3),
            "whale-and-sailboat.png": _number(2),
            "octopus.png": _number(1),
            "four-bananas.png": _number(4),
            "three-blue-circles.png": _number(3),
        },
    ),
    "left": ("left", {"dog-and-two-cats.png": _name("dog"), "whale-and-sailboat.png": _name("whale")}),
}
"""For each ready question: the key of its wordings, and the correct answers about the examples that suit."""


def choose_wording(ask: Ask, question: str, lexicon: Lexicon) -> tuple[str, list[str]]:
    """The first wording with correct answers about all examples that suit. If no wording has, the best, and the
    wrong answers that it gets."""
    key, expected = ASKED[question]
    best: tuple[str, list[str]] | None = None
    for wording in lexicon.questions[key]:
        answers = {file: ask(FOLDER / file, wording, lexicon.code) for file in expected}
        wrong = [f"{file}: {answers[file]}" for file, right in expected.items() if answers[file] != right(lexicon)]
        if best is None or len(wrong) < len(best[1]):
            best = wording, wrong
        if not wrong:
            break
    assert best
    return best


def knowledge_lines(lexicons: Mapping[str, Lexicon], *, photographed: int) -> dict[str, str]:
    """For each language a line of what the model knows: how many kinds of drawings, and of photographs if any."""
    lines = {}
    for row in PICTURES.read_text(encoding="utf-8").splitlines()[1:]:
        code, drawings, photographs = row.split("|")
        if code in lexicons:
            parts = [_knowledge(drawings, len(concepts()), DRAWN, lexicons[code])]
            parts += [_knowledge(photographs, photographed, PHOTOGRAPHED, lexicons[code])] if photographed else []
            lines[code] = " · ".join(parts)
    return lines


def _knowledge(pictures: str, count: int, kinds: tuple[str, ...], lexicon: Lexicon) -> str:
    """ "Drawings (287): dog, red apple, …" in the words of the lexicon."""
    names = "…"
    for kind in reversed(kinds):
        names = lexicon.names.patterns["middle"].format(lexicon.name_of(kind), names)
    return f"{pictures} ({count}): {names}"


def ready_questions(ask: Ask, lexicons: Mapping[str, Lexicon], *, photographed: int) -> dict[str, dict[str, str]]:
    """The content of `questions.json`. Prints each wording that gets a wrong answer."""
    lines = knowledge_lines(lexicons, photographed=photographed)
    ready = {code: {"knows": lines[code]} for code in lexicons}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for question in ASKED:
            choices = pool.map(partial(choose_wording, ask, question), lexicons.values())
            for code, (wording, wrong) in zip(lexicons, choices, strict=True):
                ready[code][question] = wording
                if wrong:
                    print(f"{code}, {wording}: wrong about {', '.join(wrong)}")
    return ready


def photographed_concepts(folder: Path) -> int:
    """The number of concepts that the photo encoder in the model's folder recognizes; 0 if there is none."""
    return len(read_json(folder / "photo_encoder.json", name=folder.name).get("concepts", ()))


def main(arguments: list[str] | None = None) -> None:
    """Write the ready questions of the model folder that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m training.questions", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sources", type=Path, default=RUNS / "sources", help="downloaded packages")
    args = parser.parse_args(arguments)
    lexicons = {code: load_lexicon(code, args.sources) for code in language_codes()}
    with blip_space.load(str(args.folder)) as engine:
        ready = ready_questions(
            lambda file, prompt, code: engine.ask(file, prompt, language=code),
            lexicons,
            photographed=photographed_concepts(args.folder),
        )
    content = json.dumps(ready, indent=1, ensure_ascii=False)
    (args.folder / "questions.json").write_text(f"{content}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
