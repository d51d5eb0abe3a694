"""The page's static files: where they lie and how a template among them is filled.

Knows `assets/`; knows nothing of what the texts say.
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
class Example:
    """A picture of ours with something to ask about it."""

    file: Path
    prompt: str
    language: str


def render_template(name: str, **values: object) -> str:
    """A template of `assets/page/` with every value escaped for HTML."""
    return _template(name).substitute({key: html.escape(str(value)) for key, value in values.items()})


def render_script(name: str, **values: object) -> str:
    """A script of `assets/page/` with every value as JSON."""
    return _template(name).substitute({key: json.dumps(value) for key, value in values.items()})


def load_examples() -> list[Example]:
    """The examples that `examples.json` names, in its order; none where there is no such file."""
    listing = EXAMPLES / "examples.json"
    rows = json.loads(listing.read_text("utf-8")) if listing.exists() else []
    return [Example(EXAMPLES / row["file"], row["prompt"], row["language"]) for row in rows]


@cache
def _template(name: str) -> Template:
    return Template((ASSETS / "page" / name).read_text("utf-8"))
