"""The commands `models` and `languages`.

Depends on the catalogue; must not load models.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from blip_space import catalogue, languages
from blip_space.apps.cli.terminal import print_json


def list_models(args: argparse.Namespace) -> int:
    """List the models: size, languages, memory by precision, and the precisions that fit this machine now."""
    specs = [catalogue.find_model(name) for name in catalogue.NAMES]
    if args.markdown:
        print(_models_table(specs))
        return 0
    from blip_space.loading.memory import fitting_precisions

    for spec in specs:
        fits = fitting_precisions(spec)
        if args.json:
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
            fit = f"fits this machine in {', '.join(fits)}" if fits else "does not fit this machine"
            print(f"{spec.name:22} {_rounded(spec.parameters):>7}  {len(spec.languages):2} languages  {sizes}; {fit}")
    return 0


def list_languages(args: argparse.Namespace) -> int:
    """List the languages: code, tier (how much mBLIP was trained on the language), English name and own name."""
    for row in languages.LANGUAGES.values():
        if args.json:
            print_json(
                code=row.code, name=row.english_name, own_name=row.own_name, tier=row.tier, direction=row.direction
            )
        else:
            print(f"{row.code:4} {row.tier:7} {row.english_name} – {row.own_name}")
    return 0


def _models_table(specs: Sequence[catalogue.ModelSpec]) -> str:
    """The table of models in Markdown."""

    def row(spec: catalogue.ModelSpec) -> str:
        sizes = [f"{spec.memory_gb[name]:g} GB" if name in spec.memory_gb else "–" for name in catalogue.PRECISIONS]
        columns = [f"`{spec.name}`", spec.language_model_type, _rounded(spec.parameters), str(len(spec.languages))]
        return f"| {' | '.join([*columns, *sizes])} |"

    titles = ["model", "language model", "parameters", "languages", *(f"in {name}" for name in catalogue.PRECISIONS)]
    head = f"| {' | '.join(titles)} |\n|---|---|{'--:|' * (len(titles) - 2)}"
    return "\n".join([head, *map(row, specs)])


def _rounded(parameters: int) -> str:
    return f"{parameters / 1e9:.3g} B" if parameters >= 1e8 else f"{parameters / 1e6:.2g} M"
