"""The web page of one engine, built with Gradio's Blocks. It also registers the API's endpoints.

Depends on apps.gradio_api, jobs and the engine's protocol. Must not import torch.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from blip_space.apps import locales
from blip_space.apps.gradio_api.endpoints import Endpoints, register
from blip_space.apps.gradio_api.upload_security import SecureBlocks
from blip_space.apps.page import events, first_screen, layout, static, status_text
from blip_space.apps.page.comparison import Comparison
from blip_space.apps.page.conversation import Conversation
from blip_space.apps.page.localized import Current
from blip_space.apps.uploads import MAX_AGE_SECONDS
from blip_space.serving.protocol import EngineProtocol

CLEANUP_SECONDS = 3_600
OUTLINE = "#8090a4"
"""The colour of what surrounds a field in the light theme: its contrast with the page is 3.2."""

PUBLIC_FOLDERS = [str(static.EXAMPLES)]
"""The folders of the server that every user of the page may read."""


def build(engine: EngineProtocol) -> Any:
    """Build the Blocks of the page and the API. The engine may still be loading, or not be started."""
    cleanup = (CLEANUP_SECONDS, MAX_AGE_SECONDS)
    with SecureBlocks(title="blip-space", analytics_enabled=False, delete_cache=cleanup) as demo:
        endpoints = Endpoints(engine)
        components = layout.build_layout(engine, endpoints.batches)
        events.connect_events(demo, components, Conversation(engine, endpoints), Comparison(engine, endpoints))
        register(engine, endpoints)
    return demo


def current_parts(engine: EngineProtocol) -> Current:
    """The parts of the page that show the engine's state, for each request of the page."""
    return {
        "chip": lambda: status_text.chip(engine.status()),
        "state": lambda: engine.status().status,
        "status": lambda: status_text.status_line(engine.status()),
        "details": lambda: status_text.status_details(engine.status()),
        "cards": lambda: first_screen.cards(engine.default),
        "ready": lambda: first_screen.ready_questions(engine.default, locales.page_language()),
        "description": lambda: status_text.model_description(engine.default),
    }


def theme_options() -> dict[str, Any]:
    """The arguments of Gradio's `launch` that set the page's theme, style and script."""
    # Only these two weights are used, because the semi-bold file of this font has only three glyphs.
    fonts = [gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)), "system-ui", "sans-serif"]
    theme = gr.themes.Default(primary_hue="teal", neutral_hue="slate", font=fonts).set(
        color_accent="*primary_600",
        slider_color="*primary_600",
        body_text_color_subdued="*neutral_500",
        input_border_color=OUTLINE,
        input_border_color_dark="*neutral_500",
        checkbox_border_color=OUTLINE,
        checkbox_border_color_dark="*neutral_500",
        input_border_color_focus="*primary_600",
        input_border_color_focus_dark="*primary_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
    )
    return {
        "theme": theme,
        "css_paths": static.styles(),
        "head": f"<script>{static.script()}</script>",
        "footer_links": ["api"],
    }
