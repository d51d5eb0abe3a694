"""Reads the ready questions of a checkpoint's folder: wordings that its model answers well, and what it knows.

Depends on the folder's `questions.json`; folders without one have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from blip_space.catalogue.parsing import describe_type, read_json
from blip_space.errors import ModelError
from blip_space.languages import LANGUAGES

FILE = "questions.json"


@dataclass(frozen=True)
class ReadyQuestions:
    """Questions in one language: what an image shows, how many things, and what is on the left; and a line of what the
    model knows."""

    what: str
    how_many: str
    left: str
    knows: str

    @property
    def questions(self) -> tuple[str, str, str]:
        """The questions, in the order in which a page offers them."""
        return self.what, self.how_many, self.left

    def to_json(self) -> dict[str, str]:
        """The fields by name."""
        return asdict(self)


def read_questions(folder: Path, *, name: str) -> Mapping[str, ReadyQuestions]:
    """The ready questions of the model `name` by the language's code; empty if its folder has no `questions.json`.

    Raises `ModelError` if the file is no object of languages, each with the four texts.
    """
    return {code: _entry(code, value, name) for code, value in read_json(folder / FILE, name=name).items()}


def _entry(code: str, value: Any, name: str) -> ReadyQuestions:
    keys = [field.name for field in fields(ReadyQuestions)]
    texts = {key: value[key] for key in keys if _is_text(value.get(key))} if isinstance(value, dict) else {}
    if code not in LANGUAGES or len(texts) < len(keys):
        raise ModelError(
            f"{FILE} of {name} must have an object with the texts {', '.join(keys)} for each language's code; "
            f"its {code[:20]!r} ({describe_type(value)}) is invalid. Correct it, or delete the file."
        )
    return ReadyQuestions(**texts)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
