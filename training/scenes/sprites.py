"""Sprites: the emoji of each concept in every drawing style. They take a minute to render, so they are stored.

Reads icon sets and renders SVG. Must not import `scene`.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.scenes.concepts import Concept
from training.scenes.sources import STYLES, fetch

SIDE = 96
"""The side of a sprite in pixels; objects are never drawn larger."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Sprites:
    """All sprites, straight-alpha RGBA (sprites, SIDE, SIDE, 4), with the concept and the drawing style of each."""

    pixels: Pixels
    concept: NDArray[np.str_]
    style: NDArray[np.str_]

    def rows(self) -> dict[str, tuple[int, ...]]:
        """The indices of each concept's sprites, by the concept's name."""
        rows_by_concept: dict[str, list[int]] = {}
        for row, name in enumerate(self.concept.tolist()):
            rows_by_concept.setdefault(name, []).append(row)
        return {name: tuple(rows) for name, rows in rows_by_concept.items()}

    def rows_of(self, concept: str, style: str) -> tuple[int, ...]:
        """The indices of the sprites of `concept` in the drawing style `style`."""
        return tuple(int(row) for row in np.flatnonzero((self.concept == concept) & (self.style == style)))


def load_sprites(
    folder: Path, concepts: tuple[Concept, ...], characters: Mapping[str, str], styles: tuple[str, ...]
) -> Sprites:
    """The sprites of `concepts` in `styles`; each style is rendered once and stored in `folder`."""
    parts = [_load_style(style, folder, concepts, characters) for style in styles]
    pixels, concept = (np.concatenate([part[name] for part in parts]) for name in ("pixels", "concept"))
    style = np.concatenate([np.full(len(part["concept"]), name) for name, part in zip(styles, parts, strict=True)])
    return Sprites(pixels, concept, style)


def render_emoji(name: str, style: str, folder: Path, characters: Mapping[str, str], *, side: int) -> Image.Image:
    """The emoji with the English CLDR name `name`, `side` pixels square. Raises `KeyError` if the style lacks it."""
    svg = _IconSet(fetch(STYLES[style], folder)).svg(name, characters[name])
    if not svg:
        raise KeyError(f"{style} has no {name}.")
    return _render_svg(svg, side)


def _load_style(
    style: str, folder: Path, concepts: tuple[Concept, ...], characters: Mapping[str, str]
) -> Mapping[str, NDArray[Any]]:
    path = folder / f"sprites-{style}.npz"
    if not path.exists():
        pixels, concept = zip(*_render_style(style, folder, concepts, characters), strict=True)
        temporary = path.with_suffix(".draft.npz")
        np.savez_compressed(temporary, pixels=np.stack(pixels), concept=np.array(concept))
        temporary.replace(path)
    arrays: Mapping[str, NDArray[Any]] = np.load(path)
    return arrays


def _render_style(
    style: str, folder: Path, concepts: tuple[Concept, ...], characters: Mapping[str, str]
) -> Iterator[tuple[Pixels, str]]:
    icons = _IconSet(fetch(STYLES[style], folder))
    for concept in concepts:
        for emoji_name in concept.emoji:
            svg = icons.svg(emoji_name, characters[emoji_name])
            if svg:
                yield np.asarray(_render_svg(svg, SIDE)), concept.name


class _IconSet:
    """One icon set in iconify's format."""

    def __init__(self, folder: Path) -> None:
        self.set: dict[str, Any] = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
        chars = folder / "chars.json"
        self.by_points: dict[str, str] = json.loads(chars.read_text(encoding="utf-8")) if chars.exists() else {}

    def svg(self, name: str, character: str) -> str | None:
        """The SVG of the emoji with this character or name, or None if the set has none."""
        points = "-".join(f"{ord(char):x}" for char in character if char != "\ufe0f")
        icon = self.by_points.get(points) or re.sub(r"[^a-z0-9]+", "-", name.lower().replace("’", "")).strip("-")
        icon = self.set.get("aliases", {}).get(icon, {}).get("parent", icon)
        entry = self.set["icons"].get(icon)
        if not entry:
            return None
        width, height = (entry.get(side, self.set.get(side, 16)) for side in ("width", "height"))
        return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{entry["body"]}</svg>'


def _render_svg(svg: str, side: int) -> Image.Image:
    import resvg_py  # only the first run of training needs it

    png = resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side)
    return Image.open(io.BytesIO(png)).convert("RGBA").resize((side, side))
