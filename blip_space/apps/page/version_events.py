"""Connects what the script shows of each message, and the steps from one version of a turn to another.

Both run in the browser only. Depends on the page's components.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from blip_space.apps.page.layout import Components

SHOW_FACTS = "(messages) => window.blipSpace.showFacts('chat', messages)"
STEP = "(messages, busy) => [window.blipSpace.step(messages, busy)]"


def connect(page: Components, update_budget_after: Any) -> None:
    """Connect the events of versions. The script clicks a hidden button to take a step."""
    step = gr.Button(visible="hidden", elem_id="step")
    page.chat.change(None, page.chat, None, js=SHOW_FACTS, api_visibility="private", show_progress="hidden")
    taken = step.click(
        None, [page.chat, page.busy], page.chat, js=STEP, api_visibility="private", show_progress="hidden"
    )
    update_budget_after(taken.then)
