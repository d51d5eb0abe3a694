"""Pictures of the concepts with nothing around them: every hand's drawing of each, as pixels.

Knows icon sets and their renderer; knows no scene. Rendering takes a minute and is kept.
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
from training.scenes.sources import STYLES, fetched

SIDE = 96
"""Sprites are squares of so many pixels; things in the world are never drawn larger."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Sprites:
    """All the drawings: straight-alpha RGBA (sprites, SIDE, SIDE, 4); of what and in whose style each is, by name."""

    pixels: Pixels
    concept: NDArray[np.str_]
    style: NDArray[np.str_]

    def rows(self) -> dict[str, tuple[int, ...]]:
        """The rows of each concept's drawings."""
        found: dict[str, list[int]] = {}
        for row, name in enumerate(self.concept.tolist()):
            found.setdefault(name, []).append(row)
        return {name: tuple(rows) for name, rows in found.items()}

    def of(self, concept: str, style: str) -> tuple[int, ...]:
        """The rows of a concept's drawings in that style."""
        return tuple(int(row) for row in np.flatnonzero((self.concept == concept) & (self.style == style)))


def load(folder: Path, things: tuple[Concept, ...], characters: Mapping[str, str], styles: tuple[str, ...]) -> Sprites:
    """The drawings of the things in these styles, each style rendered once and kept in the folder."""
    parts = [_style(style, folder, things, characters) for style in styles]
    pixels, concept = (np.concatenate([part[name] for part in parts]) for name in ("pixels", "concept"))
    style = np.concatenate([np.full(len(part["concept"]), name) for name, part in zip(styles, parts, strict=True)])
    return Sprites(pixels, concept, style)


def drawing(name: str, style: str, folder: Path, characters: Mapping[str, str], *, side: int) -> Image.Image:
    """One drawing alone, `side` pixels square, by the name of its picture. Raises `KeyError` where there is none."""
    svg = _Icons(fetched(STYLES[style], folder)).svg(name, characters[name])
    if not svg:
        raise KeyError(f"{style} has no {name}.")
    return _rendered(svg, side)


def _style(
    style: str, folder: Path, things: tuple[Concept, ...], characters: Mapping[str, str]
) -> Mapping[str, NDArray[Any]]:
    path = folder / f"sprites-{style}.npz"
    if not path.exists():
        pixels, concept = zip(*_drawn(style, folder, things, characters), strict=True)
        draft = path.with_suffix(".draft.npz")
        np.savez_compressed(draft, pixels=np.stack(pixels), concept=np.array(concept))
        draft.replace(path)
    saved: Mapping[str, NDArray[Any]] = np.load(path)
    return saved


def _drawn(
    style: str, folder: Path, things: tuple[Concept, ...], characters: Mapping[str, str]
) -> Iterator[tuple[Pixels, str]]:
    icons = _Icons(fetched(STYLES[style], folder))
    for thing in things:
        for picture in thing.pictures:
            drawn = icons.svg(picture, characters[picture])
            if drawn:
                yield np.asarray(_rendered(drawn, SIDE)), thing.name


class _Icons:
    """One icon set as iconify packs it."""

    def __init__(self, folder: Path) -> None:
        self.set: dict[str, Any] = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
        chars = folder / "chars.json"
        self.by_points: dict[str, str] = json.loads(chars.read_text(encoding="utf-8")) if chars.exists() else {}

    def svg(self, name: str, character: str) -> str | None:
        """The drawing of that name or character, or None where the set has none."""
        points = "-".join(f"{ord(one):x}" for one in character if one != "\ufe0f")
        icon = self.by_points.get(points) or re.sub(r"[^a-z0-9]+", "-", name.lower().replace("’", "")).strip("-")
        icon = self.set.get("aliases", {}).get(icon, {}).get("parent", icon)
        drawing = self.set["icons"].get(icon)
        if not drawing:
            return None
        width, height = (drawing.get(side, self.set.get(side, 16)) for side in ("width", "height"))
        body = drawing["body"]
        return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{body}</svg>'


def _rendered(svg: str, side: int) -> Image.Image:
    import resvg_py  # only the first run of training needs it

    drawn = resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side)
    return Image.open(io.BytesIO(drawn)).convert("RGBA").resize((side, side))
