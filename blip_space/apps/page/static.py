"""The paths of the page's static files, and the functions that render its templates.

Depends on the folder `assets/` only.
"""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from string import Template

from blip_space import ASSETS

SCRIPTS = (
    "storage.js",
    "texts.js",
    "language.js",
    "language_search.js",
    "messages.js",
    "announcements.js",
    "gradio_names.js",
    "facts.js",
    "versions.js",
    "store.js",
    "kept_pictures.js",
    "kept.js",
    "records.js",
    "conversations.js",
    "exports.js",
    "kept_list.js",
    "answers.js",
    "screen.js",
    "comparison.js",
    "lists.js",
    "batch.js",
    "budget.js",
    "focus.js",
    "notes.js",
    "errors.js",
    "picture.js",
    "connection.js",
    "hints.js",
)
STYLES = (
    "page.css",
    "language.css",
    "top.css",
    "screen.css",
    "cards.css",
    "entry.css",
    "conversation.css",
    "versions.css",
    "comparison.css",
    "kept.css",
    "batch.css",
    "notes.css",
    "right_to_left.css",
    "narrow.css",
    "targets.css",
    "access.css",
)
EXAMPLES = ASSETS / "examples"

GRADIO_SCRIPTS = ASSETS / "page" / "gradio_scripts.json"
"""The scripts that Gradio's page loads one after another, as `python -m scripts.page_scripts` finds them."""


@dataclass(frozen=True)
class ExampleImage:
    """An example image with a question about it."""

    file: Path
    prompt: str
    language: str


class Html(str):
    """A rendered template, which another template takes as it is."""

    __slots__ = ()


def render_template(name: str, **values: object) -> Html:
    """The template `name` of `assets/page/`, filled with `values`, each escaped for HTML unless it is `Html`."""
    return Html(_template(name).substitute({key: _escape(value) for key, value in values.items()}))


def _escape(value: object) -> str:
    """`value` for HTML. The text that replaces a marker is escaped then."""
    return value if isinstance(value, Html) else html.escape(str(value)).replace("⟦", "⟦&")


def first_script() -> str:
    """The script that runs before all others of the page."""
    return _script("gradio_language.js")


@cache
def gradio_scripts() -> tuple[str, ...]:
    """The paths of Gradio's scripts that the page needs; none if another version of Gradio is installed than that of
    the list."""
    listing = json.loads(GRADIO_SCRIPTS.read_text("utf-8"))
    return tuple(listing["scripts"]) if listing["gradio"] == version("gradio") else ()


def script() -> str:
    """The page's script: every file of `assets/page/script/`, in the order of `SCRIPTS`."""
    return "\n".join(map(_script, SCRIPTS))


def styles() -> list[Path]:
    """The page's style sheets, in the order in which they apply."""
    return [ASSETS / "page" / "style" / name for name in STYLES]


def load_examples() -> list[ExampleImage]:
    """The examples that `examples.json` lists, or none if this file is missing."""
    listing = EXAMPLES / "examples.json"
    entries = json.loads(listing.read_text("utf-8")) if listing.exists() else []
    return [ExampleImage(EXAMPLES / entry["file"], entry["prompt"], entry["language"]) for entry in entries]


def _script(name: str) -> str:
    return (ASSETS / "page" / "script" / name).read_text("utf-8")


@cache
def _template(name: str) -> Template:
    return Template((ASSETS / "page" / name).read_text("utf-8"))
