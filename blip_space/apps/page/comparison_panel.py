"""The panel that compares two ways to answer a question: its layout and its events.

Depends on components, and on the comparison's handler.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from blip_space import options
from blip_space.apps.locales import text
from blip_space.apps.page import static, status_text
from blip_space.apps.page.comparison import Comparison
from blip_space.options import GenerationOptions
from blip_space.serving.protocol import EngineProtocol

SIDES = ("first", "second")
PRIVATE: dict[str, Any] = {"api_visibility": "private", "preprocess": False, "show_progress": "hidden"}


@dataclass(frozen=True)
class Panel:
    """The components of the panel. `settings` and `chats` are those of the first way, then those of the second one."""

    accordion: Any
    settings: list[list[Any]]
    chats: list[Any]
    uses: list[Any]
    ask: Any
    stop: Any
    note: Any


def build_panel(engine: EngineProtocol) -> Panel:
    """Add the panel to the current Blocks."""
    with gr.Accordion(text("compare_label"), open=False, elem_id="compare") as accordion:
        gr.HTML(static.render_template("comparison_note.html", sentence=text("compare_info")), padding=False)
        with gr.Row():
            settings = [_build_settings(engine, side) for side in SIDES]
        with gr.Row(elem_id="compare-buttons"):
            ask = gr.Button(text("compare_ask"), variant="primary", scale=0, min_width=160, elem_id="compare-ask")
            stop = gr.Button(text("stop"), visible=False, scale=0, min_width=160, elem_id="compare-stop")
            note = gr.HTML("", padding=False, elem_id="compare-note")
        with gr.Row():
            chats, uses = zip(*(_build_answer(side) for side in SIDES), strict=True)
    return Panel(accordion, settings, list(chats), list(uses), ask, stop, note)


def _build_settings(engine: EngineProtocol, side: str) -> list[Any]:
    """The settings of one way, in the order of `conversation.SETTINGS`, without the last."""
    names = list(engine.specs)
    chosen = names[min(SIDES.index(side), len(names) - 1)]
    with gr.Column(min_width=260, elem_classes="compare-side"):
        gr.HTML(static.render_template("comparison_note.html", sentence=text(f"compare_{side}")), padding=False)
        model = gr.Dropdown(names, value=chosen, label=text("model_label"), visible=len(names) > 1)
        language = gr.Dropdown(status_text.language_choices(engine.default), value="en", label=text("language_label"))
        with gr.Accordion(text("settings_label"), open=False):
            numbers = [_build_number(name) for name in options.RANGES]
            quality = gr.Radio(
                [(text("quality_stream"), "stream"), (text("quality_best"), "best")],
                value=GenerationOptions.quality,
                label=text("quality_label"),
            )
    return [language, model, *numbers, quality]


def _build_answer(side: str) -> tuple[Any, Any]:
    with gr.Column(min_width=260, elem_classes="compare-side"):
        chat = gr.Chatbot(
            label=text(f"compare_{side}"),
            render_markdown=False,
            latex_delimiters=[],
            allow_tags=False,
            line_breaks=False,
            feedback_options=None,
            buttons=["copy"],
            height="auto",
            visible="hidden",
            elem_id=f"compare-{side}",
        )
        use = gr.Button(text("use_answer"), visible=False, size="sm", elem_id=f"use-{side}")
    return chat, use


def _build_number(name: str) -> Any:
    limits = options.RANGES[name]
    return gr.Number(
        getattr(GenerationOptions, name),
        label=text(f"{name}_label"),
        minimum=limits.low,
        maximum=limits.high,
        step=1 if limits.is_integer else 0.01,
        precision=0 if limits.is_integer else None,
    )


def connect_comparison(page: Any, handlers: Comparison, update_budget_after: Any) -> None:
    """Connect the panel's events. `page` has the components of the page."""
    panel: Panel = page.comparison

    def update_languages(model: Any) -> Any:
        return gr.Dropdown(choices=status_text.language_choices(handlers.spec(model)))

    (first, second), buttons = panel.settings, [panel.ask, panel.stop, *panel.uses]
    panel.accordion.expand(None, page.settings[:-1] + second, first + second, js=_call("openComparison"), **PRIVATE)
    for settings in panel.settings:
        settings[1].change(update_languages, settings[1], settings[0], **PRIVATE)
    started = panel.ask.click(None, None, [*panel.chats, panel.note, *buttons], js=_call("startComparison"), **PRIVATE)
    inputs = [page.question, page.chat, page.image, page.use_history, *first, *second]
    answers = started.then(handlers.compare, inputs, [*panel.chats, panel.note], **handlers.limits, **PRIVATE)
    for event in (answers.then, answers.failure):
        event(None, panel.chats, [*panel.chats, *buttons], js=_call("finishComparison"), **PRIVATE)
    panel.stop.click(None, None, None, cancels=[answers], **PRIVATE)
    cancelled = page.image.change(None, None, None, cancels=[answers], **PRIVATE)
    cancelled.then(None, None, [*panel.chats, panel.note, *buttons], js=_call("clearComparison"), **PRIVATE)
    for chat, use, side in zip(panel.chats, panel.uses, SIDES, strict=True):
        show_facts = f"(messages) => window.blipSpace.showFacts('compare-{side}', messages)"
        chat.change(None, chat, None, js=show_facts, **PRIVATE)
        inputs = [page.question, page.chat, page.busy, chat]
        used = use.click(None, inputs, [page.question, page.chat], js=_call("useAnswer"), **PRIVATE)
        update_budget_after(used.then)


def _call(function: str) -> str:
    return f"(...values) => window.blipSpace.{function}(...values)"
