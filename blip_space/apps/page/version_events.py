"""Connects what the script shows of each message, and the steps from one version of a turn to another.

All of it runs in the browser only. Depends on the page's components.
"""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from blip_space.apps.page.conversation import DEFAULTS, SETTINGS
from blip_space.apps.page.layout import Components

PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
SHOW_FACTS = "(messages) => window.blipSpace.showFacts('chat', messages)"
STEP = "(messages, busy) => [window.blipSpace.step(messages, busy)]"
SETTINGS_CHANGED = (
    f"(...values) => window.blipSpace.settingsChanged({json.dumps(SETTINGS)}, {json.dumps(DEFAULTS)}, values)"
)


def connect_versions(demo: Any, page: Components, update_budget_after: Any) -> None:
    """Connect the events of versions. The script clicks a hidden button to take a step."""
    step = gr.Button(visible="hidden", elem_id="step")
    page.chat.change(None, page.chat, None, js=SHOW_FACTS, **PRIVATE)
    taken = step.click(None, [page.chat, page.busy], page.chat, js=STEP, **PRIVATE)
    update_budget_after(taken.then)
    changes = [setting.change for setting in page.settings]
    gr.on([demo.load, *changes], None, page.settings, None, js=SETTINGS_CHANGED, **PRIVATE)
