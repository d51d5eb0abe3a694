"""The page's layout: image on the left, conversation on the right, settings folded, the model's description below.

Depends on components and their order. Must not depend on the conversation's handlers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from blip_space import options
from blip_space.apps.gradio_api.batches import Batches
from blip_space.apps.gradio_api.upload_security import image_input
from blip_space.apps.locales import text
from blip_space.apps.page import batch_tab, comparison_panel, static, status_text
from blip_space.apps.page.kept import KeptComponents, build_bar, build_kept
from blip_space.options import GenerationOptions
from blip_space.serving.protocol import EngineProtocol


@dataclass(frozen=True)
class Components:
    """The components that events take as inputs and outputs. `busy` is true while an answer is being generated, and the
    page's script presses `count`."""

    status: Any
    timer: Any
    image: Any
    examples: Any
    language: Any
    model: Any
    chat: Any
    question: Any
    ask: Any
    stop: Any
    ready_questions: Any
    budget: Any
    count: Any
    kept: KeptComponents
    decoding: list[Any]
    quality: Any
    use_history: Any
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
    with gr.Row(elem_id="top"):
        gr.HTML(static.render_template("header.html", tagline=text("tagline")), padding=False)
        parts["status"] = gr.HTML(status_text.status_line(engine.status()), padding=False, elem_id="status")
    with gr.Tabs(elem_id="tabs"):
        with gr.Tab(text("chat_tab")):
            with gr.Row(elem_id="columns"):
                with gr.Column(scale=4, min_width=300, elem_id="left"):
                    _image_column(parts)
                with gr.Column(scale=5, min_width=320, elem_id="right"):
                    _conversation_column(parts, engine)
            parts["comparison"] = comparison_panel.build_panel(engine)
        with gr.Tab(text("batch_tab")):
            parts["batch_language"] = batch_tab.build_batch_tab(engine, batches)
    description = status_text.model_description(engine.default, offered=engine.specs.values())
    parts["description"] = gr.HTML(description, padding=False, elem_id="about")
    parts["timer"] = gr.Timer(1.0)
    parts["busy"] = gr.Checkbox(False, visible=False)
    parts["saved_settings"] = gr.BrowserState(
        None, storage_key="blip-space", secret="not a secret: languages and numbers"
    )
    for name in ("ask_instead", "remove_image", "refresh_status"):  # which only the page's script presses
        parts[name] = gr.Button(visible="hidden", elem_id=name.replace("_", "-"))
    return Components(**parts)


def _image_column(parts: dict[str, Any]) -> None:
    parts["image"] = image_input(
        label=text("image_label"),
        sources=["upload", "webcam", "clipboard"],
        placeholder=text("image_placeholder"),
        show_label=False,
        buttons=["fullscreen"],
        height="clamp(18rem, 52vh, 34rem)",
        elem_id="picture",
    )
    examples = static.load_examples()
    parts["examples"] = gr.Dataset(
        label=text("examples_label"),
        components=[gr.Image(visible=False, label=text("image_label"))],
        samples=[[str(example.file)] for example in examples],
        type="index",
        visible=bool(examples),
        elem_id="examples",
    )


def _conversation_column(parts: dict[str, Any], engine: EngineProtocol) -> None:
    names = list(engine.specs)
    with gr.Row(elem_id="choices"):
        parts["language"] = gr.Dropdown(
            status_text.language_choices(engine.default),
            value="en",
            label=text("language_label"),
            info=text("language_info"),
            min_width=180,
            elem_id="language",
        )
        parts["model"] = gr.Dropdown(
            names, value=names[0], label=text("model_label"), visible=len(names) > 1, min_width=140, elem_id="model"
        )
    build_bar()
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
        height="clamp(17rem, 46vh, 32rem)",
        elem_id="chat",
    )
    parts["kept"] = build_kept()
    with gr.Row(elem_id="entry"):
        parts["question"] = gr.Textbox(
            label=text("question_label"),
            show_label=False,
            container=False,
            placeholder=text("question_placeholder"),
            max_lines=6,
            scale=1,
            elem_id="question",
        )
        parts["ask"] = gr.Button(text("ask"), variant="primary", scale=0, min_width=88, elem_id="ask")
        parts["stop"] = gr.Button(text("stop"), visible=False, scale=0, min_width=88, elem_id="stop")
    parts["ready_questions"] = gr.Dataset(
        components=[gr.Textbox(visible=False, label=text("question_label"))],
        type="index",
        elem_id="ready",
        **status_text.ready_questions(engine.default, "en"),
    )
    parts["count"] = gr.Button(visible="hidden", elem_id="count")
    parts["budget"] = gr.HTML("", padding=False, elem_id="budget")
    with gr.Accordion(text("settings_label"), open=False, elem_id="settings"):
        _settings_panel(parts)


def _settings_panel(parts: dict[str, Any]) -> None:
    parts["quality"] = gr.Radio(
        [(text("quality_stream"), "stream"), (text("quality_best"), "best")],
        value=GenerationOptions.quality,
        label=text("quality_label"),
        info=text("quality_info"),
    )
    parts["decoding"] = [_numeric_setting(name) for name in options.RANGES]
    parts["use_history"] = gr.Checkbox(True, label=text("use_history_label"), info=text("use_history_info"))


def _numeric_setting(name: str) -> Any:
    label, info = text(f"{name}_label"), text(f"{name}_info")
    limits, value = options.RANGES[name], getattr(GenerationOptions, name)
    if name == "seed":
        return gr.Number(value, label=label, info=info, minimum=limits.low, maximum=limits.high, precision=0)
    return gr.Slider(
        limits.low, limits.high, value=value, step=1 if limits.is_integer else 0.01, label=label, info=info
    )
