"""The last stage: eyes and language together, on fresh pictures, with the teacher still looking on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from training.model.architecture import look, parts, prefix, report
from training.stages import checkpoints, distributed, language_model
from training.stages.batches import Batch, Pictures, Words
from training.stages.language_model import LanguageExam, language_groups, spoken_loss
from training.stages.loop import Stage, Workshop, run
from training.stages.vision_encoder import eye_groups, restored

NAME = "joint"
TEACHER_SHARE = 0.3


def teach(shop: Workshop, *, tokenizer: Any) -> None:
    """Run the stage to its end, or go on with it."""
    recipe = shop.recipe
    model, teacher = restored(shop, vocabulary=len(tokenizer), stage="sight")
    reader, _ = restored(shop, vocabulary=len(tokenizer), stage="text")
    model.language_model.load_state_dict(reader.language_model.state_dict())
    grasp = language_model.restored_grasp(shop)
    world, words = shop.world(), Words(tokenizer, shop.lexicons())
    exam = LanguageExam(recipe, words)
    pictures = Pictures(recipe, world, "exam", len(exam.scenes)).drawn(exam.scenes, 0)[0].to(shop.device)
    mirror = torch.no_grad()(lambda: exam(model, prefix(model, pictures)))
    groups = [*language_groups(model), *eye_groups(model, teacher), *parts(grasp)]

    def learn(batch: Batch) -> Tensor:
        seen = look(model, batch["pixels"])
        said = report(model, seen)
        return spoken_loss(model, grasp, said, batch) + TEACHER_SHARE * teacher.loss(seen, said, batch)

    run(
        Stage(
            name=NAME,
            schedule=recipe.joint,
            modules={"model": model, "teacher": teacher, "grasp": grasp},
            groups=groups,
            batches=Pictures(recipe, world, NAME, recipe.joint.batch, words=words, part=distributed.part()),
            learn=learn,
            examine=mirror,
        ),
        shop,
    )


def latest(shop: Workshop) -> str:
    """The furthest stage that has a checkpoint."""
    return next((name for name in (NAME, "sight") if checkpoints.load(shop.file(name))), "vision")
