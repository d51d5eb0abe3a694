"""An invisible component for each parameter of the API: its type, default, description and example in `view_api`.

Depends on the contract's parameters and their limits only.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from blip_space import languages, options
from blip_space.apps.gradio_api.upload_security import files_input, image_input, unvalidated, with_example
from blip_space.options import GenerationOptions
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
    "additional_description": "alternating, oldest first, complete turns; of content in parts, the text parts are used",
}
SAMPLING = {
    "temperature": "0 always picks the most likely token, higher values sample",
    "top_p": "sample only from the most likely tokens that add up to this probability",
    "repetition_penalty": "values above 1 reduce repetition",
    "seed": "sampling with the same seed gives the same reply",
}


class Parameters:
    """Makes the components, for the models of one engine."""

    def __init__(self, engine: EngineProtocol) -> None:
        self._engine = engine

    def image(self) -> Any:
        """One image."""
        return image_input(label="the image")

    def files(self) -> Any:
        """Many images."""
        return files_input(label="images, or a zip of them")

    def prompt(self) -> Any:
        """A question or an instruction."""
        return _with_default(gr.Textbox("", label="a question or an instruction; empty asks for a caption"))

    def language(self) -> Any:
        """One of the 96 languages."""
        choices = [(language.english_name, code) for code, language in languages.LANGUAGES.items()]
        return _with_default(gr.Dropdown(choices, value="en", label="the language of the reply"))

    def history(self) -> Any:
        """Earlier turns; their example is about the image that is the example of all endpoints."""
        turn = [{"role": "user", "content": "What is this?"}, {"role": "assistant", "content": "an octopus"}]
        return with_example(unvalidated(gr.JSON([], label="earlier turns, oldest first"), HISTORY_SCHEMA), turn)

    def use_history(self) -> Any:
        """Whether the prompt contains the earlier turns."""
        return _with_default(gr.Checkbox(True, label="whether the prompt contains the history"))

    def model(self) -> Any:
        """One of the server's models."""
        names = list(self._engine.specs)
        return _with_default(gr.Dropdown(names, value=self._engine.default.name, label="the model"))

    def quality(self, value: str) -> Any:
        """Streaming or beam search."""
        label = "best uses beam search, which does not stream"
        return _with_default(gr.Radio(["stream", "best"], value=value, label=label))

    def max_new_tokens(self, value: int = GenerationOptions.max_new_tokens) -> Any:
        """The maximum length of the reply, in tokens."""
        return _numeric_parameter("max_new_tokens", value, "the maximum length of the reply, in tokens")

    def decoding(self) -> list[Any]:
        """The sampling parameters."""
        return [_numeric_parameter(name, getattr(GenerationOptions, name), label) for name, label in SAMPLING.items()]


def _numeric_parameter(name: str, value: float, label: str) -> Any:
    limits = options.RANGES[name]
    precision = 0 if limits.is_integer else None
    return _with_default(gr.Number(value, label=label, minimum=limits.low, maximum=limits.high, precision=precision))


def _with_default(component: Any) -> Any:
    """Make the label the description that `view_api` shows, and the default the example: Gradio's own would be out of
    range or in another language."""
    schema = component.api_info() | {"additional_description": component.label}
    component.api_info = lambda: schema
    return with_example(component, component.value)
