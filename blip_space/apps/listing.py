"""What there is to choose from, told on the terminal: the models and the languages.

Knows the catalogue; loads nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from blip_space import catalogue, languages


def models(given: argparse.Namespace) -> int:
    """The models by name, with their size and how many languages each speaks."""
    specs = [catalogue.find(name) for name in catalogue.NAMES]
    if given.markdown:
        print(_markdown(specs))
        return 0
    for spec in specs:
        if given.json:
            print_json(
                name=spec.name,
                family=spec.family,
                parameters=spec.parameters,
                languages=spec.languages,
                memory_gb=spec.memory_gb,
            )
        else:
            sizes = ", ".join(f"{size:.2f} GB {precision}" for precision, size in spec.memory_gb.items())
            print(f"{spec.name:22} {_rounded(spec.parameters):>7}  {len(spec.languages):2} languages  {sizes}")
    return 0


def all_languages(given: argparse.Namespace) -> int:
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
    rows = [
        f"| `{spec.name}` | {spec.family} | {_rounded(spec.parameters)} | {len(spec.languages)} "
        f"| {spec.memory_gb['fp32']:.3g} GB | {spec.memory_gb['bf16']:.3g} GB |"
        for spec in specs
    ]
    head = "| model | language model | parameters | languages | weights in fp32 | in bf16 |"
    return "\n".join([head, "|---|---|--:|--:|--:|--:|", *rows])


def _rounded(parameters: int) -> str:
    return f"{parameters / 1e9:.3g} B" if parameters >= 1e8 else f"{parameters / 1e6:.2g} M"
