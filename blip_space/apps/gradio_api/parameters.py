"""A component for each parameter of the API, which gives `view_api` its type, default, description and example.

Depends on the contract's parameters and their limits only; nobody sees these components.
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
    "additional_description": "alternating, oldest first, whole turns; of a content in parts the texts are read",
}


class Parameters:
    """Makes them, for the models of one engine."""

    def __init__(self, engine: EngineProtocol) -> None:
        self._engine = engine

    def image(self) -> Any:
        """One picture."""
        return image_input(label="the picture")

    def files(self) -> Any:
        """Many of them."""
        return files_input(label="pictures, or a zip of them")

    def prompt(self) -> Any:
        """What is asked."""
        return _with_default(gr.Textbox("", label="a question or an instruction; empty asks for a caption"))

    def language(self) -> Any:
        """One of the 96."""
        choices = [(row.english_name, code) for code, row in languages.LANGUAGES.items()]
        return _with_default(gr.Dropdown(choices, value="en", label="the language of the reply"))

    def history(self) -> Any:
        """Earlier turns; their example says something about the picture that is everybody's example."""
        turn = [{"role": "user", "content": "What is this?"}, {"role": "assistant", "content": "an octopus"}]
        return with_example(unvalidated(gr.JSON([], label="earlier turns, oldest first"), HISTORY_SCHEMA), turn)

    def use_history(self) -> Any:
        """Whether the model reads them."""
        return _with_default(gr.Checkbox(True, label="whether the model is told the history"))

    def model(self) -> Any:
        """One of those that the server offers."""
        names = list(self._engine.specs)
        return _with_default(gr.Dropdown(names, value=self._engine.default.name, label="the model"))

    def quality(self, value: str) -> Any:
        """How the reply is looked for."""
        label = "best searches, and then does not stream"
        return _with_default(gr.Radio(["stream", "best"], value=value, label=label))

    def max_new_tokens(self, value: int = GenerationOptions.max_new_tokens) -> Any:
        """The longest reply."""
        return _number("max_new_tokens", value, "how many tokens the reply may have")

    def decoding(self) -> list[Any]:
        """How each token is chosen."""
        return [
            _number("temperature", GenerationOptions.temperature, "0 takes the likeliest token, above it samples"),
            _number("top_p", GenerationOptions.top_p, "sample from the likeliest tokens that hold this much"),
            _number("repetition_penalty", GenerationOptions.repetition_penalty, "above 1 repeats less"),
            _number("seed", GenerationOptions.seed, "the same seed samples the same reply"),
        ]


def _number(name: str, value: float, label: str) -> Any:
    limits = options.RANGES[name]
    precision = 0 if limits.is_integer else None
    return _with_default(gr.Number(value, label=label, minimum=limits.low, maximum=limits.high, precision=precision))


def _with_default(component: Any) -> Any:
    """The component, with its label for a description, which `view_api` shows, and its default for an example: Gradio's
    would be out of range, or of another language."""
    schema = component.api_info() | {"additional_description": component.label}
    component.api_info = lambda: schema
    return with_example(component, component.value)
