"""`python -m training`: runs all stages or one of them, and resumes a stage that was stopped."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from training.recipe import RECIPES
from training.stages.loop import STAGES, TrainingContext
from training.stages.pipeline import run_all, run_stage

RUNS = Path(__file__).parent / "runs"
ASSETS = Path(__file__).parent.parent / "assets" / "tiny"


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, and run the stage that it names or all stages."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("stage", nargs="?", choices=("tokenizer", *STAGES, "export", "all"), default="all")
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="full")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of checkpoints (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=ASSETS, help="folder of the exported model (default: %(default)s)"
    )
    parser.add_argument(
        "--from", dest="initial_model", type=Path, help="start from this model's weights and run the last stage only"
    )
    parser.add_argument("--threads", type=int, help="threads for the model (default: cores minus data workers)")
    parser.add_argument("--processes", type=int, default=1, help="data-parallel processes (default: %(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(arguments)
    recipe = RECIPES[args.recipe]
    # Threads that outnumber the free cores wait: on two cores with a busy worker, two threads had a sixth of the speed.
    torch.set_num_threads(args.threads or max(1, (os.cpu_count() or 1) - recipe.workers))
    folder, sources, device = args.runs / recipe.name, args.runs / "sources", torch.device(args.device)
    context = TrainingContext(recipe, folder, sources, device, args.processes, args.initial_model)
    if args.stage == "all":
        run_all(context, output=args.output)
    else:
        run_stage(args.stage, context, output=args.output)


if __name__ == "__main__":
    main()
