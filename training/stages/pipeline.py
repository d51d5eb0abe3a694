"""Runs the stages in order, in one or more processes, and exports the model at the end."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import Blip2ForConditionalGeneration

from training import card, export
from training.model.extension import restore_unspaced
from training.model.vocabulary import word_meanings
from training.stages import distributed, joint, language_model, qformer, vision_encoder
from training.stages.loop import IMAGE_STAGES, STAGES, TrainingContext, full_curve, is_finished, minutes
from training.stages.tokenizer import load_tokenizer

DISTRIBUTED_STAGES = (*IMAGE_STAGES, "joint")
"""The stages that support data-parallel training."""


def run_all(context: TrainingContext, *, output: Path) -> None:
    """Run every stage and export the model; the language model's stage runs in parallel with the image stages.

    If the run starts from an initial model, only the last stage is run before the export.
    """
    load_tokenizer(context)  # trained here, since both processes need it
    if not context.initial_model:
        _run_in_parallel(context, output)
    for stage in ("joint", "export"):
        run_stage(stage, context, output=output)


def _run_in_parallel(context: TrainingContext, output: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_run_with_threads, args=("language_model", context, output, torch.get_num_threads())
    )
    process.start()
    try:
        for stage in IMAGE_STAGES:
            run_stage(stage, context, output=output)
        process.join()
    finally:
        process.terminate()
    if process.exitcode:
        raise SystemExit("The stage language_model failed: see its output above.")


def _run_with_threads(stage: str, context: TrainingContext, output: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    run_stage(stage, context, output=output)


def _run_distributed(stage: str, context: TrainingContext, output: Path) -> None:
    """Run the stage in several processes, of which this one is the first."""
    single = replace(context, processes=1)
    rendezvous = (context.folder / "team").absolute()
    rendezvous.unlink(missing_ok=True)
    spawn = multiprocessing.get_context("spawn")
    others = [
        spawn.Process(target=_run_rank, args=(stage, single, output, rendezvous, (rank, context.processes)))
        for rank in range(1, context.processes)
    ]
    for other in others:
        other.start()
    try:
        _run_rank(stage, single, output, rendezvous, (0, context.processes))
    finally:
        for other in others:
            other.terminate()


def _run_rank(stage: str, context: TrainingContext, output: Path, rendezvous: Path, shard: distributed.Shard) -> None:
    torch.set_num_threads(1)
    distributed.init_group(rendezvous, shard)
    run_stage(stage, context, output=output)
    distributed.destroy_group()


def run_stage(stage: str, context: TrainingContext, *, output: Path) -> None:
    """Run one stage, unless it is finished already."""
    tokenizer = load_tokenizer(context)
    if stage in STAGES and is_finished(context, stage):
        print(f"{stage}: finished already", flush=True)
    elif stage in DISTRIBUTED_STAGES and context.processes > 1:
        _run_distributed(stage, context, output)
    elif stage == "vision_encoder":
        vision_encoder.train_vision_encoder(context, vocabulary=len(tokenizer))
    elif stage == "qformer":
        qformer.train_qformer(context, vocabulary=len(tokenizer))
    elif stage == "language_model":
        language_model.train_language_model(context, tokenizer=tokenizer)
    elif stage == "joint":
        joint.train_joint(context, tokenizer=tokenizer)
    elif stage == "export":
        export_model(context, tokenizer, output)


def export_model(context: TrainingContext, tokenizer: Any, output: Path) -> None:
    """Export the model of the latest stage to `output`, and add its learning curve and the facts of the run."""
    stage = joint.latest(context)
    model, _ = vision_encoder.restore_modules(context, vocabulary=len(tokenizer), stage=stage)
    if stage == language_model.NAME and context.initial_model:
        _restore_unspaced(model, tokenizer, context.initial_model, context.sources)
    unknown = [lexicon.unknown for lexicon in context.lexicons().values()]
    export.save_model(model.cpu(), tokenizer, output, sizes=context.recipe.sizes, unknown=unknown)
    full_curve(context).draw(output / "curve.png")
    recipe, device = context.recipe, context.device.type
    card.write_run(output, minutes=minutes(context), seed=recipe.seed, recipe=recipe.name, device=device)
    print(f"export: wrote the model of the stage {stage} to {output}", flush=True)


@torch.no_grad()
def _restore_unspaced(model: Any, tokenizer: Any, initial_model: Path, sources: Path) -> None:
    """Give the words of lists the embeddings of the initial model (see `restore_unspaced`)."""
    initial = Blip2ForConditionalGeneration.from_pretrained(initial_model, dtype=torch.float32)
    trained = initial.language_model.get_input_embeddings().weight
    weight = model.language_model.get_input_embeddings().weight
    pieces = tokenizer.convert_ids_to_tokens(range(len(trained)))
    weight[: len(trained)] = restore_unspaced(weight[: len(trained)], trained, pieces, word_meanings(sources))
