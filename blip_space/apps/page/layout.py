"""The page's layout: title and model on top, the image on the left, the conversation and the composer on the right, and
the settings below, folded.

Depends on components and their order. Must not depend on the conversation's handlers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from blip_space.apps.gradio_api.batches import Batches
from blip_space.apps.gradio_api.upload_security import image_input
from blip_space.apps.locales import text
from blip_space.apps.page import batch_tab, comparison_panel, settings_panel, static, status_text
from blip_space.apps.page.kept import KeptComponents, build_bar, build_kept
from blip_space.apps.page.language_menu import language_menu
from blip_space.apps.page.localized import current
from blip_space.serving.protocol import EngineProtocol

FORWARD_CLICKS = "window.blipSpace.forwardClicks(element, trigger)"


@dataclass(frozen=True)
class Components:
    """The components that events take as inputs and outputs. `busy` is true while an answer is being generated,
    `example` is the question of the example that was clicked last, and the page's script presses `count`."""

    chip: Any
    details: Any
    status: Any
    timer: Any
    image: Any
    cards: Any
    example: Any
    ask_example: Any
    language: Any
    model: Any
    chat: Any
    question: Any
    ask: Any
    stop: Any
    ready_questions: Any
    budget: Any
    length: Any
    count: Any
    kept: KeptComponents
    decoding: list[Any]
    quality: Any
    use_history: Any
    reset_settings: Any
    description: Any
    busy: Any
    saved_settings: Any
    batch_language: Any
    ask_instead: Any
    remove_image: Any
    refresh_status: Any
    comparison: comparison_panel.Panel

    @property
    def settings(self) -> list[Any]:
        """The components whose values are saved in the user's browser, in the order of `conversation.SETTINGS`."""
        return [self.language, self.model, *self.decoding, self.quality, self.use_history]


def build_layout(engine: EngineProtocol, batches: Batches) -> Components:
    """Add the components of the page to the current Blocks."""
    parts: dict[str, Any] = {}
    _top_row(parts, engine)
    with gr.Tabs(elem_id="tabs"):
        with gr.Tab(text("chat_tab")):
            with gr.Row(elem_id="columns"):
                with gr.Column(scale=4, min_width=0, elem_id="left"):
                    _image_column(parts)
                with gr.Column(scale=5, min_width=0, elem_id="right"):
                    _conversation_column(parts, engine)
            with gr.Accordion(text("settings_label"), open=False, elem_id="settings"):
                settings_panel.build_settings(parts)
            parts["comparison"] = comparison_panel.build_panel(engine)
        with gr.Tab(text("batch_tab")):
            parts["batch_language"] = batch_tab.build_batch_tab(engine, batches)
    gr.HTML(status_text.privacy(engine.specs.values()), padding=False, elem_id="privacy")
    _hidden_parts(parts)
    return Components(**parts)


def _top_row(parts: dict[str, Any], engine: EngineProtocol) -> None:
    """Title, models, the chip, and the details that it opens."""
    names = list(engine.specs)
    with gr.Row(elem_id="top"):
        gr.HTML(static.render_template("header.html", tagline=text("tagline")), padding=False, elem_id="title")
        build_bar()
        with gr.Row(elem_id="state"):
            parts["model"] = gr.Dropdown(
                names,
                value=names[0],
                label=text("model_label"),
                show_label=False,
                container=False,
                visible=len(names) > 1,
                min_width=140,
                elem_id="model",
            )
            parts["chip"] = gr.Button(
                current("chip"), size="sm", min_width=0, elem_id="chip", elem_classes=[current("state")]
            )
            gr.HTML(language_menu(), padding=False, elem_id="page-menu")
    with gr.Column(elem_id="details", min_width=0):
        parts["details"] = gr.HTML(current("details"), padding=False, elem_id="status-details")
        parts["description"] = gr.HTML(current("description"), padding=False, elem_id="about")


def _hidden_parts(parts: dict[str, Any]) -> None:
    """Components that have a value or an event and nothing to show."""
    parts["timer"] = gr.Timer(1.0)
    parts["busy"] = gr.Checkbox(False, visible=False)
    parts["example"] = gr.JSON(None, visible=False)
    parts["ask_example"] = gr.Button(visible="hidden", elem_id="ask-example")
    parts["saved_settings"] = gr.BrowserState(
        None, storage_key="blip-space", secret="not a secret: languages and numbers"
    )
    for name in ("ask_instead", "remove_image", "refresh_status"):  # which only the page's script presses
        parts[name] = gr.Button(visible="hidden", elem_id=name.replace("_", "-"))


def _image_column(parts: dict[str, Any]) -> None:
    parts["image"] = image_input(
        label=text("image_label"),
        sources=["upload", "webcam", "clipboard"],
        placeholder=text("image_placeholder"),
        show_label=False,
        buttons=["fullscreen"],
        elem_id="picture",
    )


def _conversation_column(parts: dict[str, Any], engine: EngineProtocol) -> None:
    parts["cards"] = gr.HTML(current("cards"), padding=False, js_on_load=FORWARD_CLICKS, elem_id="cards")
    parts["chat"] = gr.Chatbot(
        label=text("conversation_label"),
        show_label=False,
        render_markdown=False,
        latex_delimiters=[],
        allow_tags=False,
        line_breaks=False,
        editable="user",
        feedback_options=None,
        buttons=["copy", "copy_all"],
        placeholder=text("empty_conversation"),
        height="100%",
        elem_id="chat",
    )
    parts["kept"] = build_kept()
    _composer(parts, engine)
    parts["ready_questions"] = gr.HTML(current("ready"), padding=False, js_on_load=FORWARD_CLICKS, elem_id="ready")
    with gr.Column(elem_id="notes"):
        parts["status"] = gr.HTML(current("status"), padding=False, elem_id="status")
        parts["count"] = gr.Button(visible="hidden", elem_id="count")
        parts["budget"] = gr.HTML("", padding=False, elem_id="budget")


def _composer(parts: dict[str, Any], engine: EngineProtocol) -> None:
    """One row: the language of the answer, the question, and the button that sends it."""
    with gr.Row(elem_id="entry"):
        parts["language"] = gr.Dropdown(
            status_text.language_choices(engine.default),
            value="en",
            label=text("language_label"),
            show_label=False,
            container=False,
            scale=0,
            min_width=0,
            elem_id="language",
        )
        parts["question"] = gr.Textbox(
            label=text("question_label"),
            show_label=False,
            container=False,
            placeholder=text("question_placeholder"),
            max_lines=6,
            scale=1,
            min_width=0,
            elem_id="question",
        )
        parts["ask"] = gr.Button(text("describe"), variant="primary", scale=0, min_width=0, elem_id="ask")
        parts["stop"] = gr.Button(text("stop"), visible=False, scale=0, min_width=0, elem_id="stop")
