"""The page's static files: where they are, and how a template among them is rendered.

Depends on the folder `assets/` only.
"""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

from blip_space import ASSETS

STYLE = ASSETS / "style.css"
EXAMPLES = ASSETS / "examples"


@dataclass(frozen=True)
class ExampleImage:
    """An example image with a question about it."""

    file: Path
    prompt: str
    language: str


def render_template(name: str, **values: object) -> str:
    """A template of `assets/page/` with every value escaped for HTML."""
    return _template(name).substitute({key: html.escape(str(value)) for key, value in values.items()})


def render_script(name: str, **values: object) -> str:
    """A script of `assets/page/` with every value as JSON."""
    return _template(name).substitute({key: json.dumps(value) for key, value in values.items()})


def load_examples() -> list[ExampleImage]:
    """The examples in `examples.json`, in its order; none without that file."""
    listing = EXAMPLES / "examples.json"
    entries = json.loads(listing.read_text("utf-8")) if listing.exists() else []
    return [ExampleImage(EXAMPLES / entry["file"], entry["prompt"], entry["language"]) for entry in entries]


@cache
def _template(name: str) -> Template:
    return Template((ASSETS / "page" / name).read_text("utf-8"))
