"""The training loop that all stages use: batches, optimizer steps, log lines, evaluations and checkpoints.

It resumes a stopped stage. `Stage` has what differs between the stages. Must not import a stage's module.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.lexicon.lexicon import Lexicon, language_codes, load_lexicon
from training.recipe import Recipe, Schedule
from training.scenes.mixture import SceneRenderer, load_renderer
from training.stages import checkpoints, distributed
from training.stages.batches import Batch, prefetch
from training.stages.progress import Curve, Meter

IMAGE_STAGES = ("vision_encoder", "qformer")
STAGES = (*IMAGE_STAGES, "language_model", "joint")
"""All stages in the order of the run, except that `language_model` runs in parallel with the image stages."""

STORED_NAMES = {"vision_encoder": "vision", "qformer": "sight", "language_model": "text", "joint": "joint"}
"""Each stage's name in checkpoint files and in seeds of samples; if it changed, an old run could not be resumed."""

WEIGHT_DECAY, MAX_GRADIENT_NORM = 0.02, 1.0
Optimizers = Sequence[torch.optim.Optimizer]


@dataclass(frozen=True)
class TrainingContext:
    """What all stages share: the recipe, the run's folders, and the device."""

    recipe: Recipe
    folder: Path
    sources: Path
    device: torch.device
    processes: int = 1
    """The number of data-parallel processes in the stages that train on images."""

    initial_model: Path | None = None
    """The folder of a trained model whose weights and tokenizer the run starts from, if any."""

    def renderer(self) -> SceneRenderer:
        """A renderer of the recipe's drawing styles; packages are downloaded on the first call."""
        return load_renderer(self.sources, self.recipe.styles)

    def lexicons(self) -> dict[str, Lexicon]:
        """Every language's lexicon; CLDR's part is downloaded on the first call."""
        return {code: load_lexicon(code, self.sources) for code in language_codes()}

    def checkpoint_path(self, name: str) -> Path:
        """The path of the checkpoint of the stage `name`, or of the tokenizer."""
        return self.folder / f"{STORED_NAMES.get(name, name)}.pt"


@dataclass(frozen=True)
class Stage:
    """One stage: the modules to train, the batches, the loss, and the evaluation."""

    name: str
    schedule: Schedule
    modules: Mapping[str, nn.Module]
    """The modules by their names in checkpoints; if a name changed, an old run could not be resumed."""

    parameter_groups: Sequence[dict[str, Any]]
    """The optimizers' parameter groups. A group's `scale` multiplies the learning rate. Muon updates the matrices of a
    group that is `hidden`, since they converged faster with it; AdamW updates all other parameters."""

    batches: Callable[[int], Batch]
    loss: Callable[[Batch], Tensor]
    evaluate: Callable[[], Mapping[str, float]]


def is_finished(context: TrainingContext, name: str) -> bool:
    """Whether the stage has run all steps of the current recipe."""
    state = checkpoints.load_checkpoint(context.checkpoint_path(name))
    return bool(state and state["step"] >= getattr(context.recipe, name).steps)


def train(stage: Stage, context: TrainingContext) -> None:
    """Run the stage to its end, from its checkpoint if it has one."""
    optimizers = _optimizers(stage.parameter_groups)
    curve, first, earlier_seconds = _resume(stage, context, optimizers)
    schedule = stage.schedule
    meter = Meter(stage.name, schedule.steps, schedule.batch, first, earlier_seconds)
    parameters = [one for optimizer in optimizers for group in optimizer.param_groups for one in group["params"]]
    last_save, smoothed_loss, has_new_scores = time.monotonic(), 0.0, False
    batches = prefetch(stage.batches, first=first, last=schedule.steps, workers=context.recipe.workers)
    for step, batch in enumerate(batches, start=first + 1):
        for optimizer in optimizers:
            _set_learning_rate(optimizer, schedule, step)
            optimizer.zero_grad()
        torch.manual_seed(context.recipe.seed + step)
        with autocast(context.device):
            loss = stage.loss({name: tensor.to(context.device) for name, tensor in batch.items()})
        torch.autograd.backward(loss)
        distributed.average_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
        for optimizer in optimizers:
            optimizer.step()
        if not distributed.is_main_process():
            continue
        smoothed_loss = loss.item() if not smoothed_loss else 0.98 * smoothed_loss + 0.02 * loss.item()
        if step % context.recipe.report_every == 0 or step == schedule.steps:
            scores = stage.evaluate()
            meter.report(step, smoothed_loss, scores)
            curve.add(stage.name, step * schedule.batch, meter.seconds, scores)
            has_new_scores = True
        if time.monotonic() - last_save > context.recipe.save_every_seconds:
            _save(stage, context, optimizers, curve, step=step, seconds=meter.seconds)
            if has_new_scores:  # drawing takes longer than a small model's step
                full_curve(context).draw(context.folder / "curve.png")
            last_save, has_new_scores = time.monotonic(), False
    if distributed.is_main_process():
        _save(stage, context, optimizers, curve, step=schedule.steps, seconds=meter.seconds)
        full_curve(context).draw(context.folder / "curve.png")


def autocast(device: torch.device) -> torch.autocast:
    """A context with matrix products in bf16: 2.5 times as fast on a CPU with AVX512-BF16, and faster on a GPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16)


def _optimizers(parameter_groups: Sequence[dict[str, Any]]) -> list[torch.optim.Optimizer]:
    hidden: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for group in parameter_groups:
        rest = {name: value for name, value in group.items() if name not in ("params", "hidden")}
        matrices = [one for one in group["params"] if one.ndim == 2 and group.get("hidden")]
        matrix_ids = {id(one) for one in matrices}
        hidden.append({"params": matrices, **rest})
        others.append({"params": [one for one in group["params"] if id(one) not in matrix_ids], **rest})
    hidden, others = ([group for group in part if group["params"]] for part in (hidden, others))
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)]
    if hidden:
        optimizers.append(torch.optim.Muon(hidden, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"))
    return optimizers


def _resume(stage: Stage, context: TrainingContext, optimizers: Optimizers) -> tuple[Curve, int, float]:
    """Restore modules and optimizers; returns the curve so far, the number of steps done, and the seconds they took."""
    state = checkpoints.load_checkpoint(context.checkpoint_path(stage.name))
    if not state:
        return Curve(), 0, 0.0
    for name, module in stage.modules.items():
        module.load_state_dict(state["modules"][name])
    for optimizer, optimizer_state in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(optimizer_state)
    print(f"{stage.name}: resuming at step {state['step']}", flush=True)
    return Curve([(s, int(n), float(t), dict(m)) for s, n, t, m in state["curve"]]), state["step"], state["seconds"]


def _save(
    stage: Stage, context: TrainingContext, optimizers: Optimizers, curve: Curve, *, step: int, seconds: float
) -> None:
    state = {
        "step": step,
        "seconds": seconds,
        "modules": {name: module.state_dict() for name, module in stage.modules.items()},
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "curve": curve.points,
    }
    checkpoints.save_checkpoint(context.checkpoint_path(stage.name), state)
    parent = multiprocessing.parent_process()
    if parent and not parent.is_alive():
        raise SystemExit(f"{stage.name}: stopped, since the run that started this stage has ended")


def full_curve(context: TrainingContext) -> Curve:
    """The scores of all stages so far, on one time axis."""
    curve = Curve()
    starts = _start_times(context)
    for name in STAGES:
        state = checkpoints.load_checkpoint(context.checkpoint_path(name))
        for _, samples, seconds, scores in state["curve"] if state else ():
            curve.add(name, samples, starts[name] + seconds, scores)
    return curve


def minutes(context: TrainingContext) -> dict[str, float]:
    """The wall-clock minutes of each stage; a run takes less than their sum, since stages run in parallel."""
    return {name: _seconds_spent(context, name) / 60 for name in STAGES}


def _start_times(context: TrainingContext) -> dict[str, float]:
    """The time at which each stage starts, in seconds after the start of the run."""
    tokenizer, *spent = (_seconds_spent(context, name) for name in ("tokenizer", *STAGES))
    joint = tokenizer + max(spent[0] + spent[1], spent[2])
    return dict(zip(STAGES, (tokenizer, tokenizer + spent[0], tokenizer, joint), strict=True))


def _seconds_spent(context: TrainingContext, name: str) -> float:
    state = checkpoints.load_checkpoint(context.checkpoint_path(name))
    return float(state["seconds"]) if state else 0.0


def _set_learning_rate(optimizer: torch.optim.Optimizer, schedule: Schedule, step: int) -> None:
    """Set the learning rate of `step`: linear warm-up and cosine decay to the final share."""
    warmup = min(1.0, step / schedule.warmup_steps)
    decay = schedule.final_share + (1 - schedule.final_share) * 0.5 * (1 + math.cos(math.pi * step / schedule.steps))
    for group in optimizer.param_groups:
        group["lr"] = schedule.learning_rate * warmup * decay * group.get("scale", 1.0)
