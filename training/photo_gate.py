"""The gate of the photo encoder: a linear classifier on its features that separates photographs from drawings.

Photographs are those of `scenes.out_of_distribution` and eight of the Getty's open collection, in random crops, and cut
out in the shapes of drawings. Drawings are rendered scenes, emoji, noise, text and blank pages.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from blip_space.models.image_processor import to_bytes
from blip_space.models.photo_encoder import HALF_RANGE, RESIZE, Network
from training.recipe import STYLES
from training.scenes import names, out_of_distribution, sources, sprites
from training.scenes.concepts import concepts
from training.scenes.mixture import load_renderer, sample_scene

SEED = 1
CROPS, CUT_OUTS, SCENES, EMOJI, OTHERS = 900, 500, 900, 700, 200
"""How many images of each kind the gate is trained on."""

REGULARIZATION, MARGIN = 0.003, 0.7
"""The inverse strength of the L2 penalty, and what a photograph's logit must be above: rather a photograph that is read
as a drawing than a drawing that is read as a photograph."""

BATCH, SIDE = 16, 224
PHOTO_SIDE = 1024
NOT_PHOTOGRAPHS = ("text.png",)


def train_gate(network: dict[str, Tensor], sources_folder: Path) -> dict[str, Tensor]:
    """The gate's weight (1, features) and bias (1,), for a network of these weights."""
    from sklearn.linear_model import LogisticRegression

    examples = _Examples(sources_folder)
    photographs = examples.crops(CROPS) + examples.cut_outs(CUT_OUTS)
    drawings = examples.scenes(SCENES) + examples.emoji(EMOJI) + examples.others(OTHERS)
    features = _features(network, [*photographs, *drawings])
    labels = [1] * len(photographs) + [0] * len(drawings)
    fitted = LogisticRegression(C=REGULARIZATION, max_iter=500, class_weight="balanced").fit(features, labels)
    bias = torch.tensor(fitted.intercept_) - MARGIN
    return {"gate.weight": torch.tensor(fitted.coef_), "gate.bias": bias}


@torch.inference_mode()
def _features(weights: dict[str, Tensor], images: Sequence[Image.Image]) -> np.ndarray:
    network = Network(weights)
    batches = [to_bytes([RESIZE.apply(image) for image in images[i : i + BATCH]]) for i in range(0, len(images), BATCH)]
    return torch.cat([network(batch.float() / HALF_RANGE - 1) for batch in batches]).numpy()


@dataclass
class _Examples:
    """Makes the images of each kind, from one random generator."""

    folder: Path
    rng: random.Random = field(default_factory=lambda: random.Random(SEED))

    def __post_init__(self) -> None:
        self.photographs = [_open(path) for path in _photograph_files(self.folder)]
        self.characters = names.characters(sources.fetch(sources.ANNOTATIONS, self.folder))

    def crops(self, count: int) -> list[Image.Image]:
        return [self._crop() for _ in range(count)]

    def cut_outs(self, count: int) -> list[Image.Image]:
        """Photographs in the silhouettes of emoji, on a plain background."""
        images = []
        for _ in range(count):
            canvas, silhouette = self._canvas(300, 500), self._emoji(300).getchannel("A")
            corner = (canvas.width - 300) // 2, (canvas.height - 300) // 2
            canvas.paste(self._crop().resize((300, 300)), corner, silhouette)
            images.append(canvas)
        return images

    def scenes(self, count: int) -> list[Image.Image]:
        """The training distribution without photographs, half of it without distortions."""
        renderer, images = load_renderer(self.folder, STYLES), list[Image.Image]()
        index = 0
        while len(images) < count:
            scene, index = sample_scene(SEED, index, split="gate"), index + 1
            if not scene.ood_kind:
                seed, clean = f"gate/{index}", self.rng.random() < 0.5
                images.append(Image.fromarray(renderer.render(scene, side=SIDE, seed=seed, clean=clean)[0]))
        return images

    def emoji(self, count: int) -> list[Image.Image]:
        """One to three emoji at a size at which their edges are sharp."""
        images = []
        for _ in range(count):
            canvas = self._canvas(300, 600)
            for _ in range(self.rng.choice((1, 1, 1, 2, 3))):
                side = self.rng.randint(120, 300)
                drawing = self._emoji(side)
                corner = self.rng.randint(0, canvas.width - side), self.rng.randint(0, canvas.height - side)
                canvas.paste(drawing, corner, drawing)
            images.append(canvas)
        return images

    def others(self, count: int) -> list[Image.Image]:
        kinds = [kind for kind in out_of_distribution.KINDS if kind != "photo"]
        return [
            out_of_distribution.sample_image(self.rng.choice(kinds), self.rng, files=(), side=SIDE)
            for _ in range(count)
        ]

    def _crop(self) -> Image.Image:
        """A random part of a photograph, in changed colours and, at times, small."""
        rng, image = self.rng, self.rng.choice(self.photographs)
        shorter = min(image.size) * rng.uniform(0.35, 1)
        sides = [shorter, shorter * rng.uniform(1, 1.5)]
        rng.shuffle(sides)
        width, height = min(sides[0], image.width), min(sides[1], image.height)
        left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
        part = image.crop((int(left), int(top), int(left + width), int(top + height)))
        part = ImageOps.mirror(part) if rng.random() < 0.5 else part
        for enhance, low, high in (
            (ImageEnhance.Color, 0, 2), (ImageEnhance.Brightness, 0.6, 1.4), (ImageEnhance.Contrast, 0.6, 1.4)
        ):  # fmt: skip
            part = enhance(part).enhance(rng.uniform(low, high)) if rng.random() < 0.5 else part
        if rng.random() < 0.3:
            side = rng.randint(96, 200)
            part.thumbnail((side, side))
        return part

    def _emoji(self, side: int) -> Image.Image:
        while True:
            name, style = self.rng.choice(self.rng.choice(concepts()).emoji), self.rng.choice(STYLES)
            try:
                return sprites.render_emoji(name, style, self.folder, self.characters, side=side)
            except KeyError:  # the style lacks it
                continue

    def _canvas(self, low: int, high: int) -> Image.Image:
        rng = self.rng
        colour = (255,) * 3 if rng.random() < 0.6 else tuple(rng.randint(0, 255) for _ in range(3))
        return Image.new("RGB", (rng.randint(low, high), rng.randint(low, high)), colour)


def _photograph_files(folder: Path) -> list[Path]:
    own = [name for name in out_of_distribution.TRAINING_FILES if name not in NOT_PHOTOGRAPHS]
    packages = [sources.fetch(package, folder) for package in sources.PHOTOGRAPHS]
    return [*map(out_of_distribution.find_photo, own), *(package / "data" / "image.jpg" for package in packages)]


def _open(path: Path) -> Image.Image:
    image = Image.open(path).convert("RGB")
    image.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    return image
