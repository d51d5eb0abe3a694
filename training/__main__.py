"""`python -m training`: the whole run, or one stage of it, going on from wherever it was stopped."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from training.recipe import RECIPES
from training.stages.loop import STAGES, Workshop
from training.stages.pipeline import run, run_all

RUNS = Path(__file__).parent / "runs"
ASSETS = Path(__file__).parent.parent / "assets" / "tiny"


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run what it names."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("stage", nargs="?", choices=("tokenizer", *STAGES, "export", "all"), default="all")
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="full")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where checkpoints lie (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=ASSETS, help="where the model goes (default: %(default)s)")
    parser.add_argument("--from", dest="begin", type=Path, help="go on from this model's weights, with the last stage")
    parser.add_argument("--threads", type=int, help="threads for the model (default: the cores that no worker takes)")
    parser.add_argument("--processes", type=int, default=1, help="that look together (default: %(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    recipe = RECIPES[options.recipe]
    # Threads that outnumber free cores wait for each other: two beside a busy worker on two cores ran at a sixth.
    torch.set_num_threads(options.threads or max(1, (os.cpu_count() or 1) - recipe.workers))
    shop = Workshop(
        recipe,
        options.runs / recipe.name,
        options.runs / "sources",
        torch.device(options.device),
        processes=options.processes,
        begin=options.begin,
    )
    if options.stage == "all":
        run_all(shop, output=options.output)
    else:
        run(options.stage, shop, output=options.output)


if __name__ == "__main__":
    main()
