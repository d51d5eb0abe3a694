"""What the page lets a visitor choose: languages by the model that is to speak them, and which model.

Knows the tables; knows nothing of Gradio.
"""

from __future__ import annotations

from blip_space.apps.page import strings
from blip_space.catalogue import ModelSpec
from blip_space.languages import LANGUAGES, Language


def language_choices(spec: ModelSpec) -> list[tuple[str, str]]:
    """All languages as (label, code) by their English names, those that the model does not speak marked and last."""
    rows = sorted(LANGUAGES.values(), key=lambda row: (row.code not in spec.languages, row.english_name))
    return [(_label(row, spec), row.code) for row in rows]


def _label(row: Language, spec: ModelSpec) -> str:
    names = row.own_name if row.own_name == row.english_name else f"{row.own_name} – {row.english_name}"
    label = f"{names} · {row.tier}"
    return label if row.code in spec.languages else f"{label} {strings.not_supported(spec.name)}"
