"""`python -m training`: the whole run, or one stage of it, going on from wherever it was stopped."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from training import card, checkpoints, export, joint, sight, text, tokenizer, vision
from training.recipe import RECIPES
from training.stages import EYE_STAGES, STAGES, Workshop, finished, minutes, whole_curve

RUNS = Path(__file__).parent / "runs"
ASSETS = Path(__file__).parent.parent / "assets" / "tiny"


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run what it names."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("stage", nargs="?", choices=("tokenizer", *STAGES, "export", "all"), default="all")
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="full")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where checkpoints lie (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=ASSETS, help="where the model goes (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="threads for the model (default: the cores that no worker takes)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    recipe = RECIPES[options.recipe]
    # Threads that outnumber free cores wait for each other: two beside a busy worker on two cores ran at a sixth.
    torch.set_num_threads(options.threads or max(1, (os.cpu_count() or 1) - recipe.workers))
    shop = Workshop(recipe, options.runs / recipe.name, torch.device(options.device))
    if options.stage == "all":
        run_all(shop, output=options.output)
    else:
        run(options.stage, shop, output=options.output)


def run_all(shop: Workshop, *, output: Path) -> None:
    """Run every stage and export: the language model learns to read beside the eyes, which learn to write."""
    own_tokenizer(shop)  # made here, since both processes want it
    reader = multiprocessing.get_context("spawn").Process(
        target=_run_beside, args=("text", shop, output, torch.get_num_threads())
    )
    reader.start()
    try:
        for stage in EYE_STAGES:
            run(stage, shop, output=output)
        reader.join()
    finally:
        reader.terminate()
    if reader.exitcode:
        raise SystemExit("The text stage failed: what it printed above says why.")
    for stage in ("joint", "export"):
        run(stage, shop, output=output)


def _run_beside(stage: str, shop: Workshop, output: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    run(stage, shop, output=output)


def run(stage: str, shop: Workshop, *, output: Path) -> None:
    """Run one stage, unless it is finished already."""
    words = own_tokenizer(shop)
    if stage in STAGES and finished(shop, stage):
        print(f"{stage}: finished already", flush=True)
    elif stage == "vision":
        vision.teach(shop, vocabulary=len(words))
    elif stage == "sight":
        sight.teach(shop, vocabulary=len(words))
    elif stage == "text":
        text.teach(shop, tokenizer=words)
    elif stage == "joint":
        joint.teach(shop, tokenizer=words)
    elif stage == "export":
        write(shop, words, output)


def own_tokenizer(shop: Workshop) -> Any:
    """The run's tokenizer, trained on the first call."""
    state = checkpoints.load(shop.file("tokenizer"))
    if not state:
        started = time.monotonic()
        trained = tokenizer.train(shop.recipe).backend_tokenizer.to_str()
        state = {"json": trained, "seconds": time.monotonic() - started}
        checkpoints.save(shop.file("tokenizer"), state)
    return tokenizer.wrapped(Tokenizer.from_str(state["json"]))


def write(shop: Workshop, words: Any, output: Path) -> None:
    """Export what the furthest stage has learned so far."""
    stage = joint.latest(shop)
    model, _ = vision.restored(shop, vocabulary=len(words), stage=stage)
    export.save(model.cpu(), words, output, sizes=shop.recipe.sizes)
    whole_curve(shop).draw(output / "curve.png")
    card.put_run(output, minutes=minutes(shop), seed=shop.recipe.seed, recipe=shop.recipe.name, device=shop.device.type)
    print(f"export: {output} holds the model as the {stage} stage left it", flush=True)


if __name__ == "__main__":
    main()
