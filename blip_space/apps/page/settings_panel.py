"""The settings of answers: in words first, their numbers folded below, and a button that resets all of them.

Depends on the decoding options. Must not depend on the conversation's handlers.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from blip_space import options
from blip_space.apps.locales import text
from blip_space.options import GenerationOptions

LENGTHS = {"length_short": 16, "length_medium": GenerationOptions.max_new_tokens, "length_long": 256}
"""The lengths that have a word, in tokens."""

LOCAL: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
NAME_LENGTH = f"(tokens) => [{', '.join(map(str, LENGTHS.values()))}].includes(tokens) ? tokens : null"
TAKE_LENGTH = "(tokens) => tokens"
SAMPLING_ONLY = """(quality) => {
    const update = { __type__: "update", interactive: quality !== "best" };
    return [quality === "best" ? { ...update, value: 0 } : update, update, update];
}"""
"""Beam search does not sample: its temperature is 0."""


def build_settings(parts: dict[str, Any]) -> None:
    """Add the components of the settings to `parts`."""
    parts["quality"] = gr.Radio(
        [(text("quality_stream"), "stream"), (text("quality_best"), "best")],
        value=GenerationOptions.quality,
        label=text("quality_label"),
        info=text("quality_info"),
    )
    parts["length"] = gr.Radio(
        [(text(key), tokens) for key, tokens in LENGTHS.items()],
        value=GenerationOptions.max_new_tokens,
        label=text("length_label"),
        info=text("length_info"),
        elem_id="length",
    )
    parts["use_history"] = gr.Checkbox(True, label=text("use_history_label"), info=text("use_history_info"))
    with gr.Accordion(text("more_settings_label"), open=False, elem_id="more-settings"):
        parts["decoding"] = [_numeric_setting(name) for name in options.RANGES]
    parts["reset_settings"] = gr.Button(text("reset_settings"), size="sm", elem_id="reset-settings")


def _numeric_setting(name: str) -> Any:
    label, info = text(f"{name}_label"), text(f"{name}_info")
    limits, value = options.RANGES[name], getattr(GenerationOptions, name)
    if name == "seed":
        return gr.Number(value, label=label, info=info, minimum=limits.low, maximum=limits.high, precision=0)
    return gr.Slider(
        limits.low, limits.high, value=value, step=1 if limits.is_integer else 0.01, label=label, info=info
    )


def connect_settings(page: Any) -> None:
    """Connect the events between the settings of the page's `Components`; all run in the browser."""
    numbers = dict(zip(options.RANGES, page.decoding, strict=True))
    tokens, sampling = numbers["max_new_tokens"], [numbers[name] for name in ("temperature", "top_p", "seed")]
    page.length.input(None, page.length, tokens, js=TAKE_LENGTH, **LOCAL)
    tokens.change(None, tokens, page.length, js=NAME_LENGTH, **LOCAL)
    page.quality.change(None, page.quality, sampling, js=SAMPLING_ONLY, **LOCAL)
    settings = [*page.decoding, page.quality, page.use_history]
    page.reset_settings.click(None, None, settings, js=f"() => {_defaults()}", **LOCAL)


def _defaults() -> str:
    """The settings' values as a list of JavaScript."""
    numbers = [str(getattr(GenerationOptions, name)) for name in options.RANGES]
    return f"[{', '.join(numbers)}, '{GenerationOptions.quality}', true]"
