"""`python -m benchmarks.precision_matrix`: every family in every layout and every precision, through the public API.

Small checkpoints with random weights, each saved in exactly that layout. In fp32 the tokens must be those of plain
transformers on the same files (the tests check that too); in every other precision, those of the current layout. Prints
a table; the exit code is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from blip_space.catalogue import PRECISIONS, read_folder
from blip_space.errors import UserError
from blip_space.loading.loader import load_model
from blip_space.loading.selftest import make_test_images
from tests.checkpoints import blip2, layouts
from tests.loading.test_layouts import reference, tokens

EQUAL, DIFFERENT, REJECTED = "equal", "DIFFERENT", "rejected"
OTHER_WEIGHTS = ("stored in bf16", "larger images", "2023 with a slow tokenizer")
"""Layouts with other weights or ids than the current one: their answers are not compared below fp32."""


def main() -> int:
    """Save, load, compare, print."""
    argparse.ArgumentParser(prog="python -m benchmarks.precision_matrix", description=__doc__).parse_args()
    print(f"| family | layout | {' | '.join(PRECISIONS)} |\n|---|---|{'---|' * len(PRECISIONS)}")
    differs = False
    with tempfile.TemporaryDirectory() as temporary:
        current = {family: blip2.write(Path(temporary) / family, family) for family in blip2.LANGUAGE_MODELS}
        for family, layout in layouts.MATRIX:
            folder = Path(temporary) / f"{family}-{layout.replace(' ', '-')}"
            layouts.write(folder, current[family], family, layout)
            outcomes = [compare(folder, current[family], layout, precision) for precision in PRECISIONS]
            differs = differs or DIFFERENT in outcomes
            print(f"| {family} | {layout} | {' | '.join(outcomes)} |", flush=True)
    return int(differs)


def compare(folder: Path, current: Path, layout: str, precision: str) -> str:
    """The outcome of a checkpoint in that precision."""
    images = make_test_images()
    try:
        model = load_model(read_folder(folder), precision)
    except UserError:
        return REJECTED
    answers = [tokens(model, image) for image in images]
    if precision == "fp32":
        return EQUAL if answers == [reference(folder, model, image) for image in images] else DIFFERENT
    if layout in OTHER_WEIGHTS:
        return "answers"
    expected = load_model(read_folder(current), precision)
    return EQUAL if answers == [tokens(expected, image) for image in images] else DIFFERENT


if __name__ == "__main__":
    raise SystemExit(main())
