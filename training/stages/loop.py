"""The loop that every stage runs: batches in, steps of the optimizer, reports, exams and checkpoints.

Knows how to stop and go on; knows not what is learned (that is the stage's `learn` and `examine`).
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

from training.lexicon import lexicon
from training.lexicon.lexicon import Lexicon
from training.recipe import Recipe, Schedule
from training.scenes import mixture
from training.scenes.mixture import SceneRenderer
from training.stages import checkpoints, distributed
from training.stages.batches import Batch, stream
from training.stages.progress import Curve, Meter

EYE_STAGES = ("vision", "sight")
STAGES = (*EYE_STAGES, "text", "joint")
"""In the order of the run, but that `text` runs beside the stages of the eyes."""

DECAY, LONGEST_GRADIENT = 0.02, 1.0


@dataclass(frozen=True)
class Workshop:
    """What every stage works with: the recipe, where the run's files lie, and the device."""

    recipe: Recipe
    folder: Path
    sources: Path
    device: torch.device
    processes: int = 1
    """How many processes learn together in the stages that look at pictures."""

    begin: Path | None = None
    """The folder of a finished model whose weights and tokenizer the run goes on from, if any."""

    def world(self) -> SceneRenderer:
        """The world as the recipe has it; what it is made from is fetched on the first call."""
        return mixture.load_renderer(self.sources, self.recipe.styles)

    def lexicons(self) -> dict[str, Lexicon]:
        """Every language's plain words; CLDR's part is fetched on the first call."""
        return {code: lexicon.load_lexicon(code, self.sources) for code in lexicon.language_codes()}

    def file(self, name: str) -> Path:
        """The run's file of that name."""
        return self.folder / f"{name}.pt"


@dataclass(frozen=True)
class Stage:
    """What one stage teaches: which modules move, on which batches, by which loss, and how it is examined."""

    name: str
    schedule: Schedule
    modules: Mapping[str, nn.Module]
    groups: Sequence[dict[str, Any]]
    """Parameters for the optimizers; a group's `scale` multiplies the learning rate. Where `hidden` is true, Muon moves
    the group's matrices, which learned faster so; AdamW moves all else."""

    batches: Callable[[int], Batch]
    learn: Callable[[Batch], Tensor]
    examine: Callable[[], Mapping[str, float]]


def finished(shop: Workshop, name: str) -> bool:
    """Whether the stage was run to its end, as the recipe has it now."""
    state = checkpoints.load(shop.file(name))
    return bool(state and state["step"] >= getattr(shop.recipe, name).steps)


def run(stage: Stage, shop: Workshop) -> None:
    """Run the stage from where it was left to its end."""
    optimizers = _optimizers(stage.groups)
    curve, first, before = _resume(stage, shop, optimizers)
    schedule = stage.schedule
    meter = Meter(stage.name, schedule.steps, schedule.batch, first, before)
    parameters = [one for optimizer in optimizers for group in optimizer.param_groups for one in group["params"]]
    saved, smooth = time.monotonic(), 0.0
    ahead = stream(stage.batches, first=first, last=schedule.steps, workers=shop.recipe.workers)
    for step, batch in enumerate(ahead, start=first + 1):
        for optimizer in optimizers:
            _set_rate(optimizer, schedule, step)
            optimizer.zero_grad()
        torch.manual_seed(shop.recipe.seed + step)
        with autocast(shop.device):
            loss = stage.learn({name: tensor.to(shop.device) for name, tensor in batch.items()})
        torch.autograd.backward(loss)
        distributed.average(parameters)
        nn.utils.clip_grad_norm_(parameters, LONGEST_GRADIENT)
        for optimizer in optimizers:
            optimizer.step()
        if not distributed.leads():
            continue
        smooth = loss.item() if not smooth else 0.98 * smooth + 0.02 * loss.item()
        if step % shop.recipe.report_every == 0 or step == schedule.steps:
            marks = stage.examine()
            meter.report(step, smooth, marks)
            curve.add(stage.name, step * schedule.batch, meter.seconds, marks)
        if time.monotonic() - saved > shop.recipe.save_every_seconds:
            _save(stage, shop, optimizers, curve, step=step, seconds=meter.seconds)
            saved = time.monotonic()
    if distributed.leads():
        _save(stage, shop, optimizers, curve, step=schedule.steps, seconds=meter.seconds)


def autocast(device: torch.device) -> torch.autocast:
    """bf16 where it pays: 2.5 times the speed on a CPU with AVX512-BF16, and on a GPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16)


def _optimizers(groups: Sequence[dict[str, Any]]) -> list[torch.optim.Optimizer]:
    hidden: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for group in groups:
        rest = {name: value for name, value in group.items() if name not in ("params", "hidden")}
        matrices = [one for one in group["params"] if one.ndim == 2 and group.get("hidden")]
        kept = {id(one) for one in matrices}
        hidden.append({"params": matrices, **rest})
        others.append({"params": [one for one in group["params"] if id(one) not in kept], **rest})
    hidden, others = ([group for group in part if group["params"]] for part in (hidden, others))
    built: list[torch.optim.Optimizer] = [torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=DECAY)]
    if hidden:
        built.append(torch.optim.Muon(hidden, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"))
    return built


def _resume(stage: Stage, shop: Workshop, optimizers: Sequence[torch.optim.Optimizer]) -> tuple[Curve, int, float]:
    """The curve so far, the steps done and the seconds that they took; the modules get their weights back."""
    state = checkpoints.load(shop.file(stage.name))
    if not state:
        return Curve(), 0, 0.0
    for name, module in stage.modules.items():
        module.load_state_dict(state["modules"][name])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    print(f"{stage.name}: goes on from step {state['step']}", flush=True)
    return Curve([(s, int(n), float(t), dict(m)) for s, n, t, m in state["curve"]]), state["step"], state["seconds"]


def _save(
    stage: Stage,
    shop: Workshop,
    optimizers: Sequence[torch.optim.Optimizer],
    curve: Curve,
    *,
    step: int,
    seconds: float,
) -> None:
    state = {
        "step": step,
        "seconds": seconds,
        "modules": {name: module.state_dict() for name, module in stage.modules.items()},
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "curve": curve.points,
    }
    checkpoints.save(shop.file(stage.name), state)
    whole_curve(shop).draw(shop.folder / "curve.png")
    parent = multiprocessing.parent_process()
    if parent and not parent.is_alive():
        raise SystemExit(f"{stage.name}: the run that started this stage was stopped")


def whole_curve(shop: Workshop) -> Curve:
    """The marks of all stages so far, on one clock."""
    curve = Curve()
    starts = _starts(shop)
    for name in STAGES:
        state = checkpoints.load(shop.file(name))
        for stage, samples, seconds, marks in state["curve"] if state else ():
            curve.add(stage, samples, starts[name] + seconds, marks)
    return curve


def minutes(shop: Workshop) -> dict[str, float]:
    """How long each stage ran, by the clock; a run whose two processes work at once takes less than their sum."""
    return {name: _seconds(shop, name) / 60 for name in STAGES}


def _starts(shop: Workshop) -> dict[str, float]:
    """When each stage began, in seconds into the run."""
    words = _seconds(shop, "tokenizer")
    seen = words + _seconds(shop, "vision")
    apart = max(seen + _seconds(shop, "sight"), words + _seconds(shop, "text"))
    return {"vision": words, "sight": seen, "text": words, "joint": apart}


def _seconds(shop: Workshop, name: str) -> float:
    state = checkpoints.load(shop.file(name))
    return float(state["seconds"]) if state else 0.0


def _set_rate(optimizer: torch.optim.Optimizer, schedule: Schedule, step: int) -> None:
    """A short rise, then half a cosine down to the least."""
    rise = min(1.0, step / schedule.warm_up)
    fall = schedule.least + (1 - schedule.least) * 0.5 * (1 + math.cos(math.pi * step / schedule.steps))
    for group in optimizer.param_groups:
        group["lr"] = schedule.learning_rate * rise * fall * group.get("scale", 1.0)
