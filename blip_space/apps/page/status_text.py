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
from blip_space.serving.protocol import Status


def status_line(status: Status) -> str:
    """The model, its precision and why; or that it loads, and how far that is; or why it did not."""
    if status.status == "ready":
        return static.fill(
            "ready.html",
            model=status.model,
            precision=status.precision,
            device=status.device,
            reason=status.reason,
            pace=strings.pace(status.metrics.tokens_per_second, status.running, status.waiting),
        )
    if status.load_progress and status.status == "loading":
        share = f"{status.load_progress.share:.3f}"
        return static.fill("progress.html", model=status.model, share=share, sentence=status.load_progress.sentence)
    return static.fill(f"{status.status}.html", model=status.model, error=status.error)


def budget_line(measure: Callable[[], dict[str, Any]]) -> str:
    """The bar and its sentence, or the sentence that says why there is no bar."""
    try:
        counted = measure()
    except UserError as error:
        return static.fill("note.html", sentence=error)
    window = counted["context_tokens"]
    shares = {name: f"{100 * counted[f'{name}_tokens'] / window:.1f}" for name in ("image", "prompt", "reply")}
    state = "full" if counted["dropped_turns"] else "roomy"
    sentence = strings.budget(counted["used_tokens"], window, counted["dropped_turns"])
    return static.fill("budget.html", sentence=sentence, state=state, **shares)


def about(spec: ModelSpec, fits: tuple[str, ...] | None = None) -> str:
    """What the model knows and needs, how to get another, and what happens to pictures. `fits` are the precisions in
    which it fits this machine, where that is known."""
    knows = spec.knows or f"Photographs, in {len(spec.languages)} language{'s' * (len(spec.languages) > 1)}."
    switch = "" if len(spec.languages) == len(LANGUAGES) else static.fill("switch.html")
    return (
        static.fill("knows.html", model=spec.name, knows=knows, needs=strings.needs(spec, fits))
        + switch
        + static.fill("privacy.html")
    )
