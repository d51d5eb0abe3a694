"""The page's texts about engine and models: status, token budget, model description, language labels.

Depends on the engine's protocol and the tables of models and languages. Must not import Gradio.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from blip_space.apps import error_texts, locales
from blip_space.apps.locales import LANGUAGE_NAME, text
from blip_space.apps.page import static
from blip_space.catalogue import ModelSpec, most_multilingual_model
from blip_space.errors import UserError
from blip_space.languages import LANGUAGES, Language
from blip_space.reasons import Reason
from blip_space.serving.load_progress import LoadEstimate
from blip_space.serving.protocol import EngineStatus

LARGE_PARAMETERS = 100_000_000
"""Models with fewer parameters fit any machine, so the memory that they need is not shown."""

SHOWN_SHARE = 0.6
"""From which share of the context the page says how full it is."""


def chip(status: EngineStatus, model: str = "") -> str:
    """The model, its precision and its state in one line. `model` is the one that the user has chosen, if any; while
    another one is loaded, the line says when it will be."""
    values = {"model": status.model, "precision": status.precision}
    if status.status == "ready" and model and model not in (status.model, *status.loaded):
        return text("chip_next", model=model)
    if status.status == "ready":
        return text("chip_ready", **values | {"model": model or status.model})
    if status.status == "loading" and status.load_progress:
        return text("chip_progress", model=status.model, n=int(100 * status.load_progress.share))
    return text("chip_loading" if status.status == "loading" else "chip_failed", **values)


def status_line(status: EngineStatus) -> str:
    """The line below the question while the model loads, or if it cannot be loaded, as HTML; empty once it is ready."""
    if status.status == "ready":
        return ""
    if status.load_progress and status.status == "loading":
        share = f"{status.load_progress.share:.3f}"
        sentence = text("status_progress", sentence=_load_progress(status.load_progress))
        return static.render_template("progress.html", model=status.model, share=share, sentence=sentence)
    if status.status == "loading":
        return static.render_template("loading.html", model=status.model, sentence=text("status_loading"))
    error = status.error if locales.reads_english() else text("error_model_unavailable")
    return static.render_template("failed.html", model=status.model, error=error)


def _load_progress(progress: LoadEstimate) -> str:
    """What is done of a download or of a load, and how long the rest takes if that is known."""
    if locales.reads_english():
        return progress.sentence
    if progress.phase == "download":
        done, total = (round(count / 1e9, 2) for count in (progress.done, progress.total))
        sentence = text("progress_download", done=done, total=total)
    else:
        sentence = text("progress_load", percent=round(100 * progress.share))
    parts = [sentence]
    if progress.seconds_left is not None and progress.share < 1:
        parts.append(time_left(progress.seconds_left))
    return text("list_separator").join(parts)


def time_left(seconds: float) -> str:
    """How long something still takes, in seconds or in minutes."""
    return text("seconds_left", n=round(seconds)) if seconds < 90 else text("minutes_left", n=round(seconds / 60))


def status_details(status: EngineStatus) -> str:
    """Where the loaded model runs and in which precision, the reason for it, and how busy the server is, as HTML. On a
    GPU it also says why decode steps are not CUDA graphs. Empty until a model is loaded."""
    if status.status != "ready":
        return ""
    reasons = [status.reason]
    if status.device.startswith("cuda") and status.decode == "eager":
        reasons.append(Reason(f"CUDA graphs are {status.decode_reason}", "graphs_off"))
    return static.render_template(
        "ready.html",
        model=status.model,
        device=text("status_device", precision=status.precision, device=status.device),
        reason=error_texts.explain(Reason.joined(reasons)),
        throughput=throughput(status.metrics.tokens_per_second, status.running, status.waiting),
    )


def throughput(tokens_per_second: float, running: int, waiting: int) -> str:
    """How busy the server is; empty while it is idle."""
    if not running:
        return ""
    sentence = text("throughput", rate=round(tokens_per_second), n=running)
    return f"{sentence}, {text('throughput_waiting', n=waiting)}" if waiting else sentence


def budget_line(count: Callable[[], dict[str, Any]]) -> str:
    """What a user should know about the context that `count` counts, as HTML: hidden below `SHOWN_SHARE` of it. If
    `count` raises a `UserError` that its user can change, its message instead."""
    try:
        budget = count()
    except UserError as error:
        if error.code == "model_unavailable":  # it is loaded for the next question
            return static.render_template("budget.html", sentence="", state="free", title="")
        return static.render_template("message.html", sentence=error_texts.describe(error))
    sentence = _budget_sentence(budget)
    state = "full" if budget["dropped_turns"] else "nearly" if sentence else "free"
    return static.render_template("budget.html", sentence=sentence, state=state, title=_tokens_used(budget))


def _budget_sentence(budget: dict[str, Any]) -> str:
    """How full the context is, in words; empty below `SHOWN_SHARE`."""
    if budget["dropped_turns"]:
        return text("turns_left_out", n=budget["dropped_turns"])
    if budget["used_tokens"] < SHOWN_SHARE * budget["context_tokens"]:
        return ""
    return text("context_nearly_full" if budget["kept_turns"] else "context_question_long")


def _tokens_used(budget: dict[str, Any]) -> str:
    """How many tokens of the context are used, and where the numbers come from."""
    note = budget.get("note", "")
    key = "about_tokens_used" if note else "tokens_used"
    sentence = text(key, used=budget["used_tokens"], context=budget["context_tokens"])
    return f"{sentence}. {note}" if note else sentence


def model_description(spec: ModelSpec, fits: tuple[str, ...] | None = None) -> str:
    """The HTML about the model's purpose and memory, and about other models. `fits` are the precisions in which the
    model fits this machine, or None if unknown."""
    is_large, is_complete = spec.parameters >= LARGE_PARAMETERS, len(spec.languages) == len(LANGUAGES)
    parts = [
        static.render_template(
            "model.html",
            about=text("about_model", model=spec.name),
            description=_purpose(spec),
            memory=memory_needs(spec.memory_gb, fits) if is_large else "",
        )
    ]
    if not is_complete:
        model = most_multilingual_model()
        parts.append(static.render_template("other_models.html", sentence=text("other_models"), model=model))
    return "".join(parts)


def _purpose(spec: ModelSpec) -> str:
    """What the model is for. The description of a checkpoint is in English; its line of what it knows is not."""
    if spec.server and not locales.reads_english():
        return text("answers_from", host=spec.server_host)
    if not locales.reads_english() and (ready := spec.ready_questions.get(locales.page_language())):
        return ready.knows
    return spec.description or _answers_in(spec.languages)


def _answers_in(languages: Collection[str]) -> str:
    if len(languages) == 1:
        return text("answers_in_one", language=LANGUAGES[next(iter(languages))].own_name)
    return text("answers_in_many", n=len(languages))


def memory_needs(sizes: Mapping[str, float], fits: tuple[str, ...] | None) -> str:
    """The memory that a model needs by precision, and the precisions in which it fits (`fits`, None if unknown)."""
    needs = ", ".join(text("memory_size", size=size, precision=precision) for precision, size in sizes.items())
    if fits is None:
        return text("memory_needs", sizes=needs)
    return text("memory_fits" if fits else "memory_fits_not", sizes=needs, precisions=", ".join(fits))


def privacy(offered: Collection[ModelSpec]) -> str:
    """What becomes of users' images and conversations, as HTML. The images stay here, unless a remote one of the
    `offered` models is asked, and the conversations in the browser."""
    remote = [model for model in offered if model.server]
    hosts = ", ".join(dict.fromkeys(model.server_host for model in remote))
    models = " / ".join(model.name for model in remote)
    elsewhere = [text("privacy"), text("privacy_remote", hosts=hosts, models=models)]
    sentences = [*(elsewhere if remote else [text("privacy_here")]), text("kept_privacy")]
    return "".join(static.render_template("privacy.html", sentence=sentence) for sentence in sentences)


def model_for_any_image(specs: list[ModelSpec]) -> str:
    """The first of the server's models that answers about every image; empty if there is none."""
    return next((spec.name for spec in specs if not spec.unknown_image_replies), "")


def language_choices(spec: ModelSpec) -> list[tuple[str, str]]:
    """All languages as (label, code), sorted by English name. Unsupported languages are marked and come last."""
    languages = sorted(LANGUAGES.values(), key=lambda row: (row.code not in spec.languages, row.english_name))
    return [(_language_label(language, spec), language.code) for language in languages]


def _language_label(language: Language, spec: ModelSpec) -> str:
    label = f"{text(LANGUAGE_NAME, code=language.code)} · {text(f'tier_{language.tier}')}"
    return label if language.code in spec.languages else f"{label} {text('not_supported', model=spec.name)}"
