"""The page's texts about engine and models: status, token budget, model description, language labels.

Depends on the engine's protocol and the tables of models and languages. Must not import Gradio.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from blip_space.apps.page import static, strings
from blip_space.catalogue import ModelSpec, most_multilingual_model
from blip_space.errors import UserError
from blip_space.languages import LANGUAGES, Language
from blip_space.serving.protocol import EngineStatus

LARGE_PARAMETERS = 100_000_000
"""Models with fewer parameters fit any machine, so the memory that they need is not shown."""


def status_line(status: EngineStatus) -> str:
    """The status as HTML: the model, its precision and the reason for it, or the progress of loading, or the error.
    On a GPU it also says why decode steps are not CUDA graphs."""
    if status.status == "ready":
        is_slow = status.device.startswith("cuda") and status.decode == "eager"
        return static.render_template(
            "ready.html",
            model=status.model,
            precision=status.precision,
            device=status.device,
            reason=strings.eager_decoding(status.reason, status.decode_reason) if is_slow else status.reason,
            throughput=strings.throughput(status.metrics.tokens_per_second, status.running, status.waiting),
        )
    if status.load_progress and status.status == "loading":
        share = f"{status.load_progress.share:.3f}"
        sentence = status.load_progress.sentence
        return static.render_template("progress.html", model=status.model, share=share, sentence=sentence)
    return static.render_template(f"{status.status}.html", model=status.model, error=status.error)


def budget_line(count: Callable[[], dict[str, Any]]) -> str:
    """The token budget that `count` returns, as HTML. If `count` raises a `UserError`, its message instead."""
    try:
        budget = count()
    except UserError as error:
        return static.render_template("message.html", sentence=error)
    context = budget["context_tokens"]
    shares = {name: f"{100 * budget[f'{name}_tokens'] / context:.1f}" for name in ("image", "prompt", "reply")}
    state = "full" if budget["dropped_turns"] else "free"
    sentence = strings.budget(budget["used_tokens"], context, budget["dropped_turns"], note=budget.get("note", ""))
    return static.render_template("budget.html", sentence=sentence, state=state, **shares)


def model_description(spec: ModelSpec, fits: tuple[str, ...] | None = None, offered: Collection[ModelSpec] = ()) -> str:
    """The HTML about the model's purpose and memory, other models, and privacy. `fits` are the precisions in which the
    model fits this machine, or None if unknown; `offered` are all models of the server."""
    names = [LANGUAGES[code].english_name for code in spec.languages]
    languages = names[0] if len(names) == 1 else f"{len(names)} languages"
    description = spec.description or f"Answers questions about photographs, in {languages}."
    memory = strings.memory_needs(spec.memory_gb, fits) if spec.parameters >= LARGE_PARAMETERS else ""
    return (
        static.render_template("model.html", model=spec.name, description=description, memory=memory)
        + ("" if len(spec.languages) == len(LANGUAGES) else static.render_template("other_models.html"))
        + _privacy([model for model in offered or [spec] if model.server])
    )


def _privacy(remote: list[ModelSpec]) -> str:
    """What becomes of users' images: they stay here, unless one of the `remote` models is asked."""
    if not remote:
        return static.render_template("privacy.html", leaves=strings.STAYS_HERE)
    hosts = ", ".join(dict.fromkeys(model.server_host for model in remote))
    names = " or ".join(model.name for model in remote)
    return static.render_template("privacy.html", leaves="") + static.render_template(
        "privacy_remote.html", hosts=hosts, models=names
    )


def ready_questions(spec: ModelSpec, language: str) -> dict[str, Any]:
    """The questions that the model answers well in the language, a row for each, below the line of what it knows. They
    are hidden if the model has none."""
    ready = spec.ready_questions.get(language)
    samples = [[question] for question in ready.questions] if ready else []
    return {"samples": samples, "label": ready.knows if ready else "", "visible": bool(samples)}


def unknown_image_hint(spec: ModelSpec, specs: list[ModelSpec]) -> str:
    """The hint for a user whose image the model `spec` does not know: which other of the server's `specs` to choose, or
    else which model the operator can start."""
    listed = next((other.name for other in specs if not other.unknown_image_replies), None)
    return strings.unknown_image(spec.name, listed=listed, operator=most_multilingual_model())


def language_choices(spec: ModelSpec) -> list[tuple[str, str]]:
    """All languages as (label, code), sorted by English name. Unsupported languages are marked and come last."""
    languages = sorted(LANGUAGES.values(), key=lambda row: (row.code not in spec.languages, row.english_name))
    return [(_language_label(language, spec), language.code) for language in languages]


def _language_label(language: Language, spec: ModelSpec) -> str:
    english, own = language.english_name, language.own_name
    label = f"{own if own == english else f'{own} – {english}'} · {language.tier}"
    return label if language.code in spec.languages else f"{label} {strings.not_supported(spec.name)}"
