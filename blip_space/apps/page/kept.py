"""The components and events by which the page's script keeps conversations in the user's browser.

The script sets components by events that the server has no part in: nothing that is kept is sent anywhere before the
user asks about it again. Must not depend on the conversation's handlers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from blip_space.apps.locales import text
from blip_space.apps.page import static

SCRIPT = "window.blipSpace"
CLEARED = f"() => {SCRIPT}.cleared()"
IMAGE_CHANGED = f"image => {SCRIPT}.imageChanged(image)"
MESSAGES_CHANGED = f"messages => {SCRIPT}.messagesChanged(messages)"
RESTORE = f"() => {SCRIPT}.currentConversation.restore()"
LEAVE = f"() => {SCRIPT}.currentConversation.leave()"
OPENED = f"() => {SCRIPT}.opened()"
EVENT: dict[str, Any] = {"api_visibility": "private", "preprocess": False, "show_progress": "hidden"}


@dataclass(frozen=True)
class KeptComponents:
    """The buttons, hidden from users, that the script presses: to open a conversation, and to start a new one."""

    open: Any
    new: Any


def build_bar() -> None:
    """Add the buttons above the conversation, and the list of kept conversations that one of them opens."""
    names = ("close", "privacy", "empty", "keep", "import", "forget")
    texts = {name: text(f"kept_{name}") for name in names}
    bar = static.render_template("kept_bar.html", conversations=text("kept_title"), new=text("kept_new"), **texts)
    gr.HTML(bar, padding=False, elem_id="kept")


def build_kept() -> KeptComponents:
    """Add the line about kept conversations, and the hidden buttons."""
    gr.HTML(static.render_template("kept_note.html"), padding=False, elem_id="kept-note")
    return KeptComponents(*(gr.Button(visible="hidden", elem_id=f"kept-{name}-event") for name in ("open", "new")))


def connect_kept(demo: Any, page: Any, answers: list[Any]) -> Any:
    """Connect what follows the conversation and what brings one back; returns the event after which one is shown."""
    demo.load(None, None, [page.chat, page.image, page.question], js=RESTORE, **EVENT)
    page.chat.change(None, page.chat, None, js=MESSAGES_CHANGED, trigger_mode="multiple", **EVENT)
    page.kept.open.click(None, None, None, js=LEAVE, **EVENT)
    cancelled = page.kept.open.click(None, None, None, cancels=answers, **EVENT)
    shown = [page.chat, page.image, page.question, page.busy, page.ask, page.stop]
    return cancelled.then(None, None, shown, js=OPENED, **EVENT)
