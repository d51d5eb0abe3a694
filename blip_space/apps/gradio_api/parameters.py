"""The Gradio component of each API parameter: its type, default, description and example in `view_api`.

Depends on the decoding options, the languages and the engine's protocol only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import gradio as gr
from gradio.utils import get_function_params

from blip_space import languages, options
from blip_space.apps.gradio_api.upload_security import files_input, image_input, unvalidated, with_example
from blip_space.serving.protocol import EngineProtocol

TEXT_PART = {
    "type": "object",
    "properties": {"type": {"type": "string", "enum": ["text"]}, "text": {"type": "string"}},
}
HISTORY_SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "role": {"type": "string", "enum": ["user", "assistant"]},
            "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": TEXT_PART}]},
        },
    },
    "additional_description": "complete turns, oldest first, roles alternating; of content in parts, only text is used",
}
EXAMPLE_HISTORY = [{"role": "user", "content": "What is this?"}, {"role": "assistant", "content": "an octopus"}]
"""A turn about the example image, which is the same for all endpoints."""

SAMPLING = {
    "temperature": "0 always picks the most likely token, higher values sample",
    "top_p": "sample only from the most likely tokens that add up to this probability",
    "repetition_penalty": "values above 1 reduce repetition",
    "seed": "sampling with the same seed gives the same reply",
}
NUMBERS = {"max_new_tokens": "the maximum length of the reply, in tokens", **SAMPLING}


def make_inputs(handler: Callable[..., Any], engine: EngineProtocol, *, later: Collection[str] = ()) -> list[Any]:
    """A component for each parameter of `handler`, with its default. `later` names parameters that an older client does
    not know: its shorter list of values is valid, and the missing values get their defaults."""
    inputs = []
    for name, _, default, _ in get_function_params(handler):
        component = _make_input(name, default, engine)
        component.added_later = name in later
        inputs.append(component)
    return inputs


def _make_input(name: str, default: Any, engine: EngineProtocol) -> Any:
    if name == "image":
        return image_input(label="the image")
    if name == "files":
        return files_input(label="images, or a zip of them")
    if name == "history":
        history = unvalidated(gr.JSON([], label="earlier turns, oldest first"), HISTORY_SCHEMA)
        return with_example(history, EXAMPLE_HISTORY)
    if name == "prompt":
        component = gr.Textbox(default, label="a question or an instruction; empty asks for a caption")
    elif name == "language":
        choices = [(language.english_name, code) for code, language in languages.LANGUAGES.items()]
        component = gr.Dropdown(choices, value=default, label="the language of the reply")
    elif name == "model":
        component = gr.Dropdown(list(engine.specs), value=engine.default.name, label="the model")
    elif name == "quality":
        label = "best uses beam search, which does not stream"
        component = gr.Radio(["stream", "best"], value=default, label=label)
    elif name == "use_history":
        component = gr.Checkbox(default, label="whether the prompt contains the history")
    else:
        limits = options.RANGES[name]
        precision = 0 if limits.is_integer else None
        component = gr.Number(
            default, label=NUMBERS[name], minimum=limits.low, maximum=limits.high, precision=precision
        )
    return _with_default(component)


def _with_default(component: Any) -> Any:
    """Use the component's label as description and its default as example; Gradio's example may be out of range."""
    schema = component.api_info() | {"additional_description": component.label}
    component.api_info = lambda: schema
    return with_example(component, component.value)
