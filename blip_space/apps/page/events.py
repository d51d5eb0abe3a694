"""Connects the events of the page's components to their handlers.

However an answer ends, the browser then runs `finishAnswer`, so that no late update can come after it. An event that
cancels answers has no other effect, and its `then` does the rest: otherwise it would race with the update of a token.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from blip_space import languages, options
from blip_space.apps.page import comparison_panel, settings_panel, version_events
from blip_space.apps.page.comparison import Comparison
from blip_space.apps.page.conversation import SETTINGS, Conversation
from blip_space.apps.page.kept import CLEARED, IMAGE_CHANGED, connect_kept
from blip_space.apps.page.layout import Components
from blip_space.errors import UserError

FINISH_ANSWER = "(draft, messages) => window.blipSpace.finishAnswer(draft, messages)"
FINISH_FAILED = "(draft, messages) => window.blipSpace.finishAnswer(draft, messages, true)"
MARK_STOPPED = "() => window.blipSpace.markStopped()"
MARK_ASKED = "(...values) => window.blipSpace.markAsked(...values)"
ASK_EXAMPLE = "(example) => window.blipSpace.askExample(example)"
NAME_ASK = "(question) => window.blipSpace.nameAsk(question)"
NOTHING = "() => null"
SAME = "(language) => language"
WANTED_MODEL = "() => window.blipSpace.wantedModel()"
RESET = "() => window.blipSpace.reset()"
PRIVATE: dict[str, Any] = {"api_visibility": "private", "preprocess": False, "show_progress": "hidden"}


def connect_events(demo: Any, page: Components, handlers: Conversation, comparison: Comparison) -> None:
    """Connect every event of the page."""
    budget_inputs = [page.question, page.chat, page.language, page.model, page.decoding[0], page.use_history]

    def update_budget_after(event: Any) -> None:
        event(handlers.update_budget, budget_inputs, page.budget, trigger_mode="always_last", **PRIVATE)

    answers = _connect_asking(page, handlers, update_budget_after)
    _connect_cancelling(page, handlers, answers, update_budget_after)
    update_budget_after(connect_kept(demo, page, answers).then)
    _save_settings(demo, page, handlers)
    page.cards.click(handlers.load_example, None, [page.image, page.example], **PRIVATE)
    page.question.change(None, page.question, page.ask, js=NAME_ASK, **PRIVATE)
    version_events.connect_versions(demo, page, update_budget_after)
    comparison_panel.connect_comparison(page, comparison, update_budget_after)
    choice = [page.language, page.model]
    changes = [component.change for component in choice]
    gr.on(changes, handlers.update_ready_questions, choice, page.ready_questions, **PRIVATE)
    page.language.change(None, page.language, page.batch_language, js=SAME, **PRIVATE)
    page.model.change(handlers.update_model, page.model, [page.language, page.cards, page.description], **PRIVATE)
    status = [page.chip, page.status, page.details, page.timer]
    changes = [demo.load, page.timer.tick, page.model.change, page.refresh_status.click]
    gr.on(changes, handlers.update_status, [page.busy, page.model], status, **PRIVATE)
    settings_panel.connect_settings(page)
    for component in budget_inputs[2:]:
        update_budget_after(component.change)
    update_budget_after(page.count.click)
    update_budget_after(demo.load)


def _connect_asking(page: Components, handlers: Conversation, update_budget_after: Any) -> list[Any]:
    """Connect the events that ask a question; returns the events that generate the answers."""
    outputs = [page.chat, page.busy, page.ask, page.stop, page.timer]
    again = gr.Button(visible="hidden", elem_id="ask-again")
    submissions = [
        gr.on(
            [page.question.submit, page.ask.click],
            handlers.submit,
            [page.question, page.chat, page.image, page.busy],
            [page.question, *outputs],
            js=MARK_ASKED,
            **PRIVATE,
        ),
        page.ready_questions.click(
            handlers.submit_ready_question,
            [page.language, page.model, page.chat, page.image, page.busy],
            outputs,
            js=MARK_ASKED,
            **PRIVATE,
        ),
        page.ask_example.click(
            handlers.submit_example,
            [page.example, page.image, page.busy, page.language],
            outputs,
            js=MARK_ASKED,
            **PRIVATE,
        ),
        page.chat.retry(handlers.retry, [page.chat, page.image, page.busy], outputs, js=MARK_ASKED, **PRIVATE),
        again.click(handlers.ask_again, [page.chat, page.image, page.busy], outputs, js=MARK_ASKED, **PRIVATE),
        page.chat.edit(handlers.edit, [page.chat, page.image, page.busy], outputs, js=MARK_ASKED, **PRIVATE),
    ]
    chosen = page.ask_instead.click(None, None, page.model, js=WANTED_MODEL, **PRIVATE)
    asked_again = [page.chat, page.image, page.busy]
    submissions.append(chosen.then(handlers.ask_again, asked_again, outputs, js=MARK_ASKED, **PRIVATE))
    inputs, limits = [page.chat, page.image, *page.settings], handlers.limits
    answers = [event.success(handlers.answer, inputs, page.chat, **limits, **PRIVATE) for event in submissions]
    for answer in answers:
        update_budget_after(_finish_answer(page, answer.then).then)
        # It runs instead of `then` after an error; after a cancel both run.
        _finish_answer(page, answer.failure, FINISH_FAILED)
    undone = page.chat.undo(handlers.undo, [page.question, page.chat, page.busy], [page.question, page.chat], **PRIVATE)
    update_budget_after(undone.then)
    return answers


def _connect_cancelling(page: Components, handlers: Conversation, answers: list[Any], update_budget_after: Any) -> None:
    """Connect the events that cancel an answer: Stop, a new image, and a cleared conversation."""
    outputs = [page.chat, page.busy, page.ask, page.stop]
    page.stop.click(None, None, None, js=MARK_STOPPED, **PRIVATE)
    page.stop.click(None, None, None, cancels=answers, **PRIVATE)
    page.image.change(None, page.image, None, js=IMAGE_CHANGED, **PRIVATE)
    for event in (page.chat.clear, page.kept.new.click):
        event(None, None, None, js=CLEARED, **PRIVATE)
    for event in (page.image.change, page.chat.clear, page.kept.new.click):
        cancelled = event(None, None, None, cancels=answers, **PRIVATE)
        reset = cancelled.then(None, None, outputs, js=RESET, **PRIVATE)
        update_budget_after(reset.then)
        reset.then(None, page.example, None, js=ASK_EXAMPLE, **PRIVATE)
    page.image.change(handlers.validate_image, page.image, None, **PRIVATE)
    page.remove_image.click(None, None, page.image, js=NOTHING, **PRIVATE)


def _finish_answer(page: Components, event: Any, script: str = FINISH_ANSWER) -> Any:
    outputs = [page.question, page.chat, page.busy, page.ask, page.stop]
    return event(None, [page.question, page.chat], outputs, js=script, **PRIVATE)


def _save_settings(demo: Any, page: Components, handlers: Conversation) -> None:
    """Save language, model and settings in the user's browser, and nothing else; restore them when the page loads.
    Without a saved language it is that of the page or of the browser."""
    changes, settings = [setting.change for setting in page.settings], page.settings

    def save(*values: Any) -> dict[str, Any]:
        return dict(zip(SETTINGS, values, strict=True))

    def restore(saved: Any, request: gr.Request) -> list[Any]:
        first = {"language": handlers.reply_language(request.headers), **(saved if isinstance(saved, dict) else {})}
        return [_restored(name, first, setting) for name, setting in zip(SETTINGS, settings, strict=True)]

    demo.load(restore, page.saved_settings, settings, **PRIVATE)
    gr.on(changes, save, settings, page.saved_settings, trigger_mode="always_last", **PRIVATE)


def _restored(name: str, saved: dict[Any, Any], setting: Any) -> Any:
    """The saved value of a setting if it is valid, else an update that leaves the setting unchanged."""
    value = saved.get(name)
    return value if _is_valid(name, value, setting) else gr.skip()


def _is_valid(name: str, value: Any, setting: Any) -> bool:
    if name == "language":
        return isinstance(value, str) and value in languages.LANGUAGES
    if name == "model":
        return value in [choice[1] for choice in setting.choices]
    if name == "use_history":
        return isinstance(value, bool)
    try:
        options.check(**{name: value})
    except UserError:
        return False
    return True
