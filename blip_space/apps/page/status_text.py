"""The lines that change while one reads: how the model is, how full its window is, what it knows.

Knows what an engine reports; knows nothing of events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from blip_space.apps.page import static, strings
from blip_space.catalogue import ModelSpec
from blip_space.errors import UserError
from blip_space.languages import LANGUAGES
from blip_space.serving.protocol import EngineStatus


def status_line(status: EngineStatus) -> str:
    """The model, its precision and why; or that it loads, and how far that is; or why it did not."""
    if status.status == "ready":
        return static.render_template(
            "ready.html",
            model=status.model,
            precision=status.precision,
            device=status.device,
            reason=status.reason,
            pace=strings.throughput(status.metrics.tokens_per_second, status.running, status.waiting),
        )
    if status.load_progress and status.status == "loading":
        share = f"{status.load_progress.share:.3f}"
        return static.render_template(
            "progress.html", model=status.model, share=share, sentence=status.load_progress.sentence
        )
    return static.render_template(f"{status.status}.html", model=status.model, error=status.error)


def budget_line(measure: Callable[[], dict[str, Any]]) -> str:
    """The bar and its sentence, or the sentence that says why there is no bar."""
    try:
        counted = measure()
    except UserError as error:
        return static.render_template("note.html", sentence=error)
    window = counted["context_tokens"]
    shares = {name: f"{100 * counted[f'{name}_tokens'] / window:.1f}" for name in ("image", "prompt", "reply")}
    state = "full" if counted["dropped_turns"] else "roomy"
    sentence = strings.budget(counted["used_tokens"], window, counted["dropped_turns"])
    return static.render_template("budget.html", sentence=sentence, state=state, **shares)


def model_description(spec: ModelSpec, fits: tuple[str, ...] | None = None) -> str:
    """What the model knows and needs, how to get another, and what happens to pictures. `fits` are the precisions in
    which it fits this machine, where that is known."""
    knows = spec.description or f"Photographs, in {len(spec.languages)} language{'s' * (len(spec.languages) > 1)}."
    switch = "" if len(spec.languages) == len(LANGUAGES) else static.render_template("switch.html")
    return (
        static.render_template("knows.html", model=spec.name, knows=knows, needs=strings.memory_needs(spec, fits))
        + switch
        + static.render_template("privacy.html")
    )
