"""The order of the school: which stage runs when, and what is written at the end."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from training import card, export
from training.model import tokenizer
from training.model.vocabulary import senses
from training.stages import checkpoints, distributed, joint, language_model, qformer, vision_encoder
from training.stages.loop import EYE_STAGES, STAGES, Workshop, finished, minutes, whole_curve

TEAMED = (*EYE_STAGES, "joint")
"""The stages that several processes may learn together."""


def run_all(shop: Workshop, *, output: Path) -> None:
    """Run every stage and export: the language model learns to read beside the eyes, which learn to write.

    A run that goes on from weights has learned that: it runs the last stage alone.
    """
    own_tokenizer(shop)  # made here, since both processes want it
    if not shop.begin:
        _run_apart(shop, output)
    for stage in ("joint", "export"):
        run(stage, shop, output=output)


def _run_apart(shop: Workshop, output: Path) -> None:
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


def _run_beside(stage: str, shop: Workshop, output: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    run(stage, shop, output=output)


def _run_together(stage: str, shop: Workshop, output: Path) -> None:
    """The stage by several processes, of which this is the first."""
    alone = replace(shop, processes=1)
    meeting = shop.folder / "team"
    meeting.unlink(missing_ok=True)
    spawn = multiprocessing.get_context("spawn")
    others = [
        spawn.Process(target=_run_in_team, args=(stage, alone, output, meeting.absolute(), (rank, shop.processes)))
        for rank in range(1, shop.processes)
    ]
    for other in others:
        other.start()
    try:
        _run_in_team(stage, alone, output, meeting.absolute(), (0, shop.processes))
    finally:
        for other in others:
            other.terminate()


def _run_in_team(stage: str, shop: Workshop, output: Path, meeting: Path, part: distributed.Part) -> None:
    torch.set_num_threads(1)
    distributed.gather(meeting, part)
    run(stage, shop, output=output)
    distributed.part_way()


def run(stage: str, shop: Workshop, *, output: Path) -> None:
    """Run one stage, unless it is finished already."""
    words = own_tokenizer(shop)
    if stage in STAGES and finished(shop, stage):
        print(f"{stage}: finished already", flush=True)
    elif stage in TEAMED and shop.processes > 1:
        _run_together(stage, shop, output)
    elif stage == "vision":
        vision_encoder.teach(shop, vocabulary=len(words))
    elif stage == "sight":
        qformer.teach(shop, vocabulary=len(words))
    elif stage == "text":
        language_model.teach(shop, tokenizer=words)
    elif stage == "joint":
        joint.teach(shop, tokenizer=words)
    elif stage == "export":
        write(shop, words, output)


def own_tokenizer(shop: Workshop) -> Any:
    """The run's tokenizer, trained on the first call."""
    state = checkpoints.load(shop.file("tokenizer"))
    if not state:
        started = time.monotonic()
        trained = _trained(shop)
        state = {"json": trained, "seconds": time.monotonic() - started}
        checkpoints.save(shop.file("tokenizer"), state)
    return tokenizer.wrapped(Tokenizer.from_str(state["json"]))


def _trained(shop: Workshop) -> str:
    if shop.begin:
        return (shop.begin / "tokenizer.json").read_text(encoding="utf-8")
    made: str = tokenizer.train(shop.recipe, shop.lexicons(), senses(shop.sources)).backend_tokenizer.to_str()
    return made


def write(shop: Workshop, words: Any, output: Path) -> None:
    """Export what the furthest stage has learned so far."""
    stage = joint.latest(shop)
    model, _ = vision_encoder.restored(shop, vocabulary=len(words), stage=stage)
    unknown = [lexicon.unknown for lexicon in shop.lexicons().values()]
    export.save(model.cpu(), words, output, sizes=shop.recipe.sizes, unknown=unknown)
    whole_curve(shop).draw(output / "curve.png")
    card.put_run(output, minutes=minutes(shop), seed=shop.recipe.seed, recipe=shop.recipe.name, device=shop.device.type)
    print(f"export: {output} holds the model as the {stage} stage left it", flush=True)
