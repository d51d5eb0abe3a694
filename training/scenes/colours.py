"""The colours of flat shapes: their names, the RGB values of each name, and the names visible on a background.

Depends on nothing else in training; the names are keys, not words of a language.
"""

from __future__ import annotations

import random

RGB = tuple[int, int, int]

ANCHORS: dict[str, tuple[RGB, ...]] = {
    "red": ((255, 0, 0), (220, 20, 60), (205, 10, 10), (230, 50, 40), (240, 30, 50)),
    "orange": ((255, 165, 0), (255, 140, 0), (245, 130, 20), (255, 150, 40)),
    "yellow": ((255, 255, 0), (255, 215, 0), (240, 225, 40), (255, 235, 60), (250, 230, 90)),
    "green": ((0, 128, 0), (0, 255, 0), (34, 139, 34), (50, 205, 50), (0, 100, 0), (60, 170, 80), (46, 139, 87)),
    "blue": ((0, 0, 255), (0, 0, 205), (30, 90, 230), (65, 105, 225), (0, 0, 128), (30, 144, 255), (50, 120, 200)),
    "purple": ((128, 0, 128), (148, 0, 211), (138, 43, 226), (160, 32, 240), (110, 30, 150), (140, 60, 180)),
    "pink": ((255, 192, 203), (255, 105, 180), (255, 182, 193), (255, 20, 147), (255, 150, 190)),
    "brown": ((165, 42, 42), (139, 69, 19), (160, 82, 45), (120, 72, 32), (101, 67, 33)),
    "black": ((0, 0, 0), (0, 0, 0), (18, 18, 18), (30, 30, 34)),
    "white": ((255, 255, 255), (255, 255, 255), (246, 246, 246)),
    "grey": ((128, 128, 128), (105, 105, 105), (150, 150, 150), (169, 169, 169), (112, 122, 132)),
}
"""The RGB values that people call by each name: first that of the CSS colour, then similar values."""

COLOURS = tuple(ANCHORS)

WHITE: RGB = (255, 255, 255)

MIN_CONTRAST = 105.0
"""The minimum colour distance (see `distance`) between an object and its background."""


def distance(first: RGB, second: RGB) -> float:
    """The perceptual distance of two colours (the "redmean" approximation), 0 to 765."""
    mean_red = (first[0] + second[0]) / 2
    red, green, blue = (float(a - b) for a, b in zip(first, second, strict=True))
    weights = (2 + mean_red / 256, 4.0, 2 + (255 - mean_red) / 256)
    return float((weights[0] * red * red + weights[1] * green * green + weights[2] * blue * blue) ** 0.5)


def shade(name: str, rng: random.Random) -> RGB:
    """A random RGB value of the colour `name`: with probability 0.4 the CSS colour, else a jittered anchor."""
    if rng.random() < 0.4:
        return ANCHORS[name][0]
    return jittered(rng.choice(ANCHORS[name]), rng, amount=4 if name in ("black", "white") else 8)


def jittered(colour: RGB, rng: random.Random, *, amount: int) -> RGB:
    """The colour, changed at random by at most `amount` in each channel."""
    red, green, blue = (min(255, max(0, value + rng.randint(-amount, amount))) for value in colour)
    return red, green, blue


def names_visible_on(background: RGB) -> tuple[str, ...]:
    """The names of the colours whose anchors all contrast with `background`."""
    return tuple(
        name for name, anchors in ANCHORS.items() if all(distance(rgb, background) > MIN_CONTRAST for rgb in anchors)
    )
