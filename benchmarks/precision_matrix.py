"""`python -m benchmarks.precision_matrix`: every family in every layout and every precision, through the front door.

Small checkpoints with random weights, each written in exactly that layout. In fp32 the tokens must be those of plain
transformers on the same files (the tests show that as well); in every other precision, those that today's layout gives.
Prints a table; the exit code is 1 where any of them differs.
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

SAME, OTHER, REFUSED = "equal", "DIFFERENT", "refused"
OWN_WEIGHTS = ("stored in bf16", "larger images", "2023 with a slow tokenizer")
"""Layouts whose numbers or ids are not those of today's: there, precisions are only loaded and asked."""


def main() -> int:
    """Write, load, compare, tell."""
    argparse.ArgumentParser(prog="python -m benchmarks.precision_matrix", description=__doc__).parse_args()
    print(f"| family | layout | {' | '.join(PRECISIONS)} |\n|---|---|{'---|' * len(PRECISIONS)}")
    differ = False
    with tempfile.TemporaryDirectory() as place:
        today = {family: blip2.write(Path(place) / family, family) for family in blip2.LANGUAGE_MODELS}
        for family, layout in layouts.MATRIX:
            folder = Path(place) / f"{family}-{layout.replace(' ', '-')}"
            layouts.write(folder, today[family], family, layout)
            found = [outcome(folder, today[family], layout, precision) for precision in PRECISIONS]
            differ = differ or OTHER in found
            print(f"| {family} | {layout} | {' | '.join(found)} |", flush=True)
    return int(differ)


def outcome(folder: Path, today: Path, layout: str, precision: str) -> str:
    """What a checkpoint says in that precision."""
    pictures = make_test_images()
    try:
        model = load_model(read_folder(folder), precision)
    except UserError:
        return REFUSED
    said = [tokens(model, picture) for picture in pictures]
    if precision == "fp32":
        return SAME if said == [reference(folder, model, picture) for picture in pictures] else OTHER
    if layout in OWN_WEIGHTS:
        return "answers"
    other = load_model(read_folder(today), precision)
    return SAME if said == [tokens(other, picture) for picture in pictures] else OTHER


if __name__ == "__main__":
    raise SystemExit(main())
