"""What there is to choose from, told on the terminal: the models and the languages.

Knows the catalogue; loads nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from blip_space import catalogue, languages


def list_models(given: argparse.Namespace) -> int:
    """The models by name: size, languages, memory by precision, and in which of them each fits this machine now."""
    specs = [catalogue.find_model(name) for name in catalogue.NAMES]
    if given.markdown:
        print(_markdown(specs))
        return 0
    from blip_space.loading.memory import fitting_precisions

    for spec in specs:
        fits = fitting_precisions(spec)
        if given.json:
            print_json(
                name=spec.name,
                family=spec.language_model_type,
                architecture=spec.family,
                parameters=spec.parameters,
                languages=spec.languages,
                memory_gb=spec.memory_gb,
                download_gb=spec.download_gb,
                fits=fits,
            )
        else:
            sizes = ", ".join(f"{precision} {size:g} GB" for precision, size in spec.memory_gb.items())
            here = f"fits this machine in {', '.join(fits)}" if fits else "does not fit this machine"
            print(f"{spec.name:22} {_rounded(spec.parameters):>7}  {len(spec.languages):2} languages  {sizes}; {here}")
    return 0


def list_languages(given: argparse.Namespace) -> int:
    """The 96 languages: code, own name, English name, how much mBLIP saw of each."""
    for row in languages.LANGUAGES.values():
        if given.json:
            print_json(
                code=row.code, name=row.english_name, own_name=row.own_name, tier=row.tier, direction=row.direction
            )
        else:
            print(f"{row.code:4} {row.tier:7} {row.english_name} – {row.own_name}")
    return 0


def print_json(**values: Any) -> None:
    """One JSON object on a line of its own."""
    print(json.dumps(values, ensure_ascii=False), flush=True)


def _markdown(specs: Sequence[catalogue.ModelSpec]) -> str:
    """The README's table."""

    def row(spec: catalogue.ModelSpec) -> str:
        sizes = [f"{spec.memory_gb[name]:g} GB" if name in spec.memory_gb else "–" for name in catalogue.PRECISIONS]
        first = [f"`{spec.name}`", spec.language_model_type, _rounded(spec.parameters), str(len(spec.languages))]
        return f"| {' | '.join([*first, *sizes])} |"

    named = ["model", "language model", "parameters", "languages", *(f"in {name}" for name in catalogue.PRECISIONS)]
    head = f"| {' | '.join(named)} |\n|---|---|{'--:|' * (len(named) - 2)}"
    return "\n".join([head, *map(row, specs)])


def _rounded(parameters: int) -> str:
    return f"{parameters / 1e9:.3g} B" if parameters >= 1e8 else f"{parameters / 1e6:.2g} M"
