"""Which images the second image encoder takes for photographs: drawings, flat shapes, and photographs.

Must not import the lexicon; the encoder is the one that serving loads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from blip_space.loading.photo_encoder import CLASS_MAP, load_photo_encoder
from blip_space.models.photo_encoder import RESIZE, PhotoEncoder
from training.evaluation import unseen_style
from training.evaluation.everyday_objects import everyday_scenes
from training.evaluation.flat_shapes import SEED
from training.evaluation.photographs import listed_photographs
from training.evaluation.tables import EvaluatedModel, render_scenes
from training.scenes.sources import STYLES

SIDE, BATCH = 224, 32


def load_gate(model: EvaluatedModel) -> PhotoEncoder | None:
    """The photo encoder in the model's folder, or None if there is none."""
    if not (model.folder / CLASS_MAP).exists():
        return None
    config = model.model.config
    features = config.num_query_tokens, config.text_config.hidden_size
    return load_photo_encoder(model.folder, features, name=model.folder.name, device="cpu")


@torch.no_grad()
def photograph_share(encoder: PhotoEncoder, images: Sequence[Image.Image]) -> float:
    """The share of the images that the encoder takes for photographs."""
    count = 0
    for start in range(0, len(images), BATCH):
        resized = [np.asarray(RESIZE.apply(image)) for image in images[start : start + BATCH]]
        pixels = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float()
        count += int(encoder.classify(pixels)[0].sum())
    return count / len(images)


def taken_for_photographs(model: EvaluatedModel, encoder: PhotoEncoder, *, count: int) -> dict[str, float]:
    """The share taken for photographs: of `count` scenes in each drawing style, of `count` images of flat shapes,
    and of the listed photographs."""
    scenes, shares = everyday_scenes((1, 2, 3, 4), count), {}
    for style in STYLES:
        renderer = model.renderer((style,))
        drawn = [scene for scene in scenes if all(renderer.cache.has_sprite(obj.kind) for obj in scene.objects)]
        images = [Image.fromarray(pixels) for pixels in render_scenes(drawn, renderer, SIDE).numpy()]
        shares[f"drawings, {style}"] = photograph_share(encoder, images)
    flat = [unseen_style.draw_image(SEED, index)[0] for index in range(count)]
    shares["shapes, plain Pillow"] = photograph_share(encoder, flat)
    for is_cut_out, name in ((False, "whole photographs"), (True, "cut-out photographs")):
        photographs = [one.open(model.sources) for one in listed_photographs() if one.is_cut_out == is_cut_out]
        shares[name] = photograph_share(encoder, photographs)
    return shares
