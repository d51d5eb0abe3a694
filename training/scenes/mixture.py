"""The training distribution: a mixture of flat shapes, everyday objects and out-of-distribution images.

A scene depends only on its seed, index and split; its image on the scene, another seed and the renderer's files.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.scenes import everyday, names, out_of_distribution, rendering, sources, sprites
from training.scenes.colours import WHITE, jittered
from training.scenes.concepts import concepts
from training.scenes.out_of_distribution import LETTERS, TRAINING_FILES
from training.scenes.rendering import Pixels
from training.scenes.scene import Scene, sample_flat_scene
from training.scenes.sprite_cache import SpriteCache

FLAT, EVERYDAY, OUT_OF_DISTRIBUTION = 30, 62, 8
"""The weights of the three kinds of scenes."""

NOISY, FRAMED, HARD = 0.12, 0.06, 0.15
"""The probabilities that an everyday scene has a noisy background, is framed by a window, and is made harder."""


def sample_scene(seed: int, index: int, *, split: str, numbers: Sequence[int] = ()) -> Scene:
    """The scene number `index` of `split`; `numbers`, if given, are the possible numbers of objects."""
    rng = random.Random(f"{split}/{seed}/{index}/world")
    kind = rng.choices(("flat", "everyday", "ood"), (FLAT, EVERYDAY, OUT_OF_DISTRIBUTION))[0]
    if kind == "flat":
        return sample_flat_scene(seed, index, split=split, numbers=numbers)
    if kind == "everyday":
        scene = everyday.sample_everyday_scene(rng, numbers=numbers)
        return everyday.harden(scene, rng) if rng.random() < HARD else scene
    return ood_scene(out_of_distribution.sample_kind(rng))


def ood_scene(kind: str) -> Scene:
    """A scene without objects, whose image is out of distribution; `kind` is one of `out_of_distribution.KINDS`."""
    return Scene(96, 96, (WHITE, WHITE), (), ood_kind=kind)


@dataclass(frozen=True)
class SceneRenderer:
    """Renders scenes with sprites and photographs."""

    cache: SpriteCache
    photos: tuple[str, ...] = TRAINING_FILES

    def render(self, scene: Scene, *, side: int, seed: str, clean: bool = False) -> tuple[Pixels, Pixels]:
        """Render a scene: its image (side, side, 3), and how much of each pixel objects cover (side, side), as bytes.

        If `clean`, everyday objects have no noise, no window and no distortion, and the tones are not shifted.
        """
        rng = random.Random(seed)
        if scene.ood_kind:
            image = out_of_distribution.sample_image(scene.ood_kind, rng, files=self.photos, side=side)
            coverage = Image.new("L", (side, side))
        elif scene.flat:
            return rendering.render_pixels(scene, side=side, seed=seed), rendering.coverage_mask(scene, side)
        elif clean:
            image = rendering.render_background(scene, (side, side))
            coverage = self.cache.paste(scene, image)
        else:
            is_noisy = rng.random() < NOISY
            image = _noisy_background(rng, side) if is_noisy else rendering.render_background(scene, (side, side))
            image = _frame_as_window(image, rng) if rng.random() < FRAMED else image
            coverage = self.cache.paste(scene, image)
            image = rendering.shift_tones(image, rng)
        final = image if clean else rendering.distort(image, rng)
        return np.asarray(final), np.asarray(coverage)


def load_renderer(folder: Path, styles: Sequence[str], *, photos: tuple[str, ...] = TRAINING_FILES) -> SceneRenderer:
    """A renderer with the sprites of `styles`; missing packages are downloaded into `folder`."""
    characters = names.characters(sources.fetch(sources.ANNOTATIONS, folder))
    return SceneRenderer(SpriteCache(sprites.load_sprites(folder, concepts(), characters, tuple(styles))), photos)


def _noisy_background(rng: random.Random, side: int) -> Image.Image:
    """A background of blurred patches or of fine noise, bright or dark."""
    cells = rng.choice((2, 3, 5, 8, 24))
    spread, mean = rng.uniform(6, 45), rng.choice((235, 200, 128, 60, 25))
    numpy_rng = np.random.default_rng(rng.getrandbits(32))
    patches = np.clip(numpy_rng.normal(mean, spread, (cells, cells, 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(patches).resize((side, side), Image.Resampling.BICUBIC)


def _frame_as_window(image: Image.Image, rng: random.Random) -> Image.Image:
    """Draw a window around the image: a title bar with buttons and a field, and a line of text at the top or bottom."""
    side = image.width
    canvas, bar_height = ImageDraw.Draw(image), rng.uniform(0.07, 0.16) * side
    tone = rng.choice((rng.randint(190, 245), rng.randint(20, 90)))
    canvas.rectangle((0, 0, side, bar_height), fill=jittered((tone, tone, tone), rng, amount=10))
    for button in range(rng.randint(0, 4)):
        left = (button + 0.5) * bar_height * 0.8
        bounds = (left, bar_height * 0.35, left + bar_height * 0.4, bar_height * 0.75)
        canvas.ellipse(bounds, fill=tuple(rng.randint(0, 255) for _ in range(3)))
    if rng.random() < 0.7:
        field = (side * rng.uniform(0.25, 0.5), bar_height * 0.2, side * rng.uniform(0.7, 0.98), bar_height * 0.8)
        canvas.rectangle(field, fill=(rng.choice((255, 240, 60)),) * 3)
    if rng.random() < 0.7:
        text = " ".join("".join(rng.choices(LETTERS, k=rng.randint(2, 8))) for _ in range(4))
        position = (rng.uniform(0, side / 3), rng.choice((bar_height * 0.1, side - bar_height)))
        colour = (rng.choice((60, 100, 140)),) * 3
        canvas.text(position, text, colour, font=ImageFont.load_default(max(5, bar_height * 0.6)))
    return image
