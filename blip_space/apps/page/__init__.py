"""The page and the API in front of one engine, built with Gradio's Blocks.

guard         what a visitor may never do
endpoints     /chat, /caption, /batch, /budget, /models
parameters    what each of their arguments is
conversation  what the page's buttons do
history       between the page's messages and a request's turns
layout        what stands where        events   which event does what
batch_tab     the second tab           batches  what runs of it now
lines         status and budget        choices  languages by model
wording       what the page says       files    templates, scripts and examples from assets/
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from blip_space.apps.gradio_api import endpoints
from blip_space.apps.gradio_api.endpoints import Endpoints
from blip_space.apps.gradio_api.upload_security import SecureBlocks
from blip_space.apps.page import events, layout, static, strings
from blip_space.apps.page.conversation import Conversation
from blip_space.serving.protocol import EngineProtocol

SWEEP_SECONDS = 3_600
MAX_UPLOAD_AGE_SECONDS = 82_800
"""A picture goes at the first sweep after this: within a day, as the page promises."""

PUBLIC_FOLDERS = [str(static.EXAMPLES)]
"""What of the server's files the page shows to everybody."""


def build(engine: EngineProtocol) -> Any:
    """The Blocks of the page and its API. Of the engine only its status is asked before the first event."""
    sweep = (SWEEP_SECONDS, MAX_UPLOAD_AGE_SECONDS)
    with SecureBlocks(title=strings.TITLE, analytics_enabled=False, delete_cache=sweep) as demo:
        calls = Endpoints(engine)
        at = layout.build_layout(engine, calls.batches)
        events.connect(demo, at, Conversation(engine, calls))
        endpoints.register(engine, calls)
    return demo


def theme_options() -> dict[str, Any]:
    """What the page looks like, as arguments of Gradio's `launch`."""
    # Its half-bold has three glyphs, so only these two weights are used.
    fonts = [gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)), "system-ui", "sans-serif"]
    theme = gr.themes.Default(primary_hue="teal", neutral_hue="slate", font=fonts).set(
        body_text_color_subdued="*neutral_500",
        input_border_color_focus="*primary_400",
        input_border_color_focus_dark="*primary_600",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
    )
    code = static.render_script("page.js", waiting=strings.WAITING, caption_asked=strings.CAPTION_REQUEST)
    return {
        "theme": theme,
        "css_paths": static.STYLE,
        "head": f"<script>{code}</script>",
        "footer_links": ["api"],
    }
