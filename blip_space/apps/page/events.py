"""Which event does what: the page's components and its handlers, introduced to each other.

An answer ends in one place, however it ends: `settle`, in the browser, so that nothing late can overtake it. Whatever
cancels answers does only that, and goes on `then`: an event that cancels and also computes would race with a token.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from blip_space import languages, options
from blip_space.apps.page.conversation import Conversation
from blip_space.apps.page.layout import Components
from blip_space.errors import UserError

SETTLE = "(words, messages) => window.blipSpace.settle(words, messages)"
LEAVE = "() => window.blipSpace.leave()"
ASKED = "(...values) => window.blipSpace.asked(...values)"
FRESH = "() => window.blipSpace.fresh()"
QUIET: dict[str, Any] = {"api_visibility": "private", "preprocess": False, "show_progress": "hidden"}


def connect(demo: Any, at: Components, does: Conversation) -> None:
    """Wire every event of the page."""
    measured = [at.question, at.chat, at.language, at.model, at.decoding[0], at.use_history]

    def measure(after: Any) -> None:
        after(does.update_budget, measured, at.budget, trigger_mode="always_last", **QUIET)

    answers = _asking(at, does, measure)
    _interrupting(at, does, answers, measure)
    _keeping(demo, at)
    at.examples.click(does.load_example, at.examples, [at.picture, at.question, at.language], **QUIET)
    at.model.change(does.update_model, at.model, [at.language, at.about], **QUIET)
    gr.on([demo.load, at.clock.tick], does.update_status, at.busy, [at.status, at.clock], **QUIET)
    for changed in measured[:1] + measured[2:]:
        measure(changed.change)
    measure(at.status.change)
    measure(demo.load)


def _asking(at: Components, does: Conversation, measure: Any) -> list[Any]:
    """The events that write an answer, and what leads to them."""
    writing = [at.chat, at.busy, at.ask, at.stop, at.clock]
    begun = [
        gr.on(
            [at.question.submit, at.ask.click],
            does.submit,
            [at.question, at.chat, at.picture, at.busy],
            [at.question, *writing],
            js=ASKED,
            **QUIET,
        ),
        at.chat.retry(does.retry, [at.chat, at.picture, at.busy], writing, js=ASKED, **QUIET),
        at.chat.edit(does.edit, [at.chat, at.picture, at.busy], writing, js=ASKED, **QUIET),
    ]
    answers = [
        first.success(
            does.answer,
            [at.chat, at.picture, *at.settings],
            at.chat,
            **does.limits,
            **QUIET,
        )
        for first in begun
    ]
    for answer in answers:
        measure(_settle(at, answer.then).then)
        _settle(at, answer.failure)  # after an error this comes instead of `then`, after a cancel both do
    measure(at.chat.undo(does.undo, [at.question, at.chat, at.busy], [at.question, at.chat], **QUIET).then)
    return answers


def _interrupting(at: Components, does: Conversation, answers: list[Any], measure: Any) -> None:
    """What ends an answer before its end."""
    fresh = [at.chat, at.busy, at.ask, at.stop]
    at.stop.click(None, None, None, cancels=answers, **QUIET)
    for changed in (at.picture.change, at.chat.clear):
        changed(None, None, None, js=LEAVE, **QUIET)
        cleared = changed(None, None, None, cancels=answers, **QUIET)
        measure(cleared.then(None, None, fresh, js=FRESH, **QUIET).then)
    at.picture.change(does.validate_image, at.picture, None, **QUIET)


def _settle(at: Components, after: Any) -> Any:
    outputs = [at.question, at.chat, at.busy, at.ask, at.stop]
    return after(None, [at.question, at.chat], outputs, js=SETTLE, **QUIET)


def _keeping(demo: Any, at: Components) -> None:
    """Language and settings stay in the visitor's browser; nothing else does."""

    def keep(*values: Any) -> dict[str, Any]:
        return dict(zip(_names(), values, strict=True))

    def restore(kept: Any) -> list[Any]:
        return [_restored(name, kept, known) for name, known in zip(_names(), at.settings, strict=True)]

    demo.load(restore, at.kept, at.settings, **QUIET)
    gr.on([setting.change for setting in at.settings], keep, at.settings, at.kept, trigger_mode="always_last", **QUIET)


def _names() -> list[str]:
    return ["language", "model", *options.RANGES, "quality", "use_history"]


def _restored(name: str, kept: Any, setting: Any) -> Any:
    """What was kept, where it still makes sense; otherwise the setting stays as it is."""
    value = kept.get(name) if isinstance(kept, dict) else None
    if name == "language":
        known = isinstance(value, str) and value in languages.LANGUAGES
    elif name == "model":
        known = value in [choice[1] for choice in setting.choices]
    else:
        known = _is_allowed(name, value)
    return value if known else gr.skip()


def _is_allowed(name: str, value: Any) -> bool:
    if name == "use_history":
        return isinstance(value, bool)
    try:
        options.check(**{name: value})
    except UserError:
        return False
    return True
