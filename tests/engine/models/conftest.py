"""The small checkpoints of all language models that the tests of loading use, and prompts for them."""

import random

import pytest
from PIL import Image

from blip_space.engine import model_runner
from blip_space.models.families.blip2 import Blip2
from blip_space.models.interface import Embedded
from tests.checkpoints.fixtures import family, folders, loaded, model, two_images
from tests.checkpoints.generation import embed_text, image_features

__all__ = ["family", "folders", "loaded", "model", "two_images"]

WORDS = ("Question:", "how", "many", "cats", "are", "there?", "Answer:", "two", "blau", "赤い丸", "a photo of", "دائرة")


@pytest.fixture
def recorded(model: Blip2, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that `RecordingBackend` can record: on a GPU too they are transformers', without Triton's kernels."""
    monkeypatch.setattr(model_runner, "fuse", lambda *_, **__: None)
    monkeypatch.setattr(model.decoder, "fused", None, raising=False)


@pytest.fixture(scope="module")
def prompts(model: Blip2, two_images: list[Image.Image]) -> list[Embedded]:
    """Prompts of many lengths, one longer than the smallest capacity."""
    rng, features = random.Random(3), image_features(model, two_images)
    lengths = (1, 1, 2, 3, 4, 5, 7, 9, 24)
    prompts = [
        embed_text(model, features[number % 2], " ".join(rng.choices(WORDS, k=k))) for number, k in enumerate(lengths)
    ]
    third = prompts[2]  # with a next position beyond its length, as where positions of an image are not counted by one
    prompts[2] = Embedded(third.embeddings, third.positions, third.next_position + 3, third.start)
    return prompts
