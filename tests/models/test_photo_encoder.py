"""Photographs: the embedded model names them, and answers to drawings as plain BLIP-2 does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import blip_space
from blip_space.catalogue import TINY_FOLDER, find_model, read_folder
from blip_space.catalogue.fingerprint import fingerprint
from blip_space.engine.pixel_cache import PixelCache
from blip_space.engine.request import Request, prepare
from blip_space.errors import ModelError, UserError
from blip_space.images import ImageFile
from blip_space.images.uploaded import UploadedImageFile
from blip_space.loading.loader import load_model
from blip_space.models.interface import VisionLanguageModel
from blip_space.models.photo_encoder import RESIZE
from blip_space.options import GenerationOptions
from tests.photographs import photograph

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = GenerationOptions()
DRAWINGS = [ROOT / "assets" / "examples" / f"{name}.png" for name in ("octopus", "dog-and-two-cats", "yellow-heart")]
UNKNOWN = {"en": "I don't know this picture.", "de": "Dieses Bild kenne ich nicht.", "ja": "この絵はわかりません。"}


@pytest.fixture(scope="module")
def model() -> VisionLanguageModel:
    return load_model(find_model("tiny"), "fp32")


@pytest.fixture(scope="module")
def plain() -> VisionLanguageModel:
    return load_model(replace(find_model("tiny"), photo_encoder=False), "fp32")


@pytest.fixture(scope="module")
def engine(model: VisionLanguageModel) -> Iterator[blip_space.Engine]:
    with blip_space.Engine(model) as engine:
        yield engine


def features(model: VisionLanguageModel, *files: Path) -> torch.Tensor:
    pixels = []
    for file in files:
        with Image.open(file) as image:
            pixels.append(model.preparation.pixels(image, OPTIONS))
    return torch.stack(model.encode_images(pixels))


@pytest.mark.parametrize(("name", "language", "answer"), [
    ("chelsea.png", "en", "cat"), ("chelsea.png", "ja", "ネコ"), ("coffee.png", "de", "Heißgetränk"),
    ("rocket.jpg", "en", "rocket"), ("rocket.jpg", "fr", "fusée"),
])  # fmt: skip
def test_a_photograph_of_one_thing_is_named(engine: blip_space.Engine, name: str, language: str, answer: str) -> None:
    assert engine.ask(photograph(name), "What is this?", language=language) == answer
    assert engine.ask(photograph(name), language=language) == answer


def test_a_photograph_of_something_else_is_not_known_in_any_language(engine: blip_space.Engine) -> None:
    for language, reply in UNKNOWN.items():
        assert engine.ask(photograph("camera.png"), "What is this?", language=language) == reply


def test_a_photograph_has_what_it_shows_and_nothing_else(engine: blip_space.Engine) -> None:
    assert engine.ask(photograph("chelsea.png"), "Is there a cat?") == "yes"
    assert engine.ask(photograph("chelsea.png"), "Is there an airplane?") == "no"
    history = [{"role": "user", "content": "What is this?"}, {"role": "assistant", "content": "rocket"}]
    assert engine.ask(photograph("rocket.jpg"), "Is there a rocket?", history=history) == "yes"


def test_drawings_have_exactly_the_features_of_plain_blip2(
    model: VisionLanguageModel, plain: VisionLanguageModel
) -> None:
    files = [DRAWINGS[0], photograph("chelsea.png"), *DRAWINGS[1:]]
    mixed, expected = features(model, *files), features(plain, *files)
    assert [torch.equal(own, other) for own, other in zip(mixed, expected, strict=True)] == [True, False, True, True]
    alone = features(model, photograph("chelsea.png"))
    torch.testing.assert_close(mixed[1], alone[0])


def test_without_its_photo_encoder_it_is_plain_blip2(plain: VisionLanguageModel) -> None:
    from transformers import Blip2ForConditionalGeneration

    hf_model = Blip2ForConditionalGeneration.from_pretrained(TINY_FOLDER, dtype=torch.float32).eval()
    with Image.open(photograph("chelsea.png")) as image:
        pixels = plain.preparation.pixels(image, OPTIONS)
    assert pixels.shape == (1, 3, 96, 96)
    with torch.inference_mode():
        queries = hf_model.get_image_features(pixel_values=plain.preparation.normalize(pixels, torch.float32))
    torch.testing.assert_close(plain.encode_images([pixels])[0], queries.pooler_output[0])


def test_an_upload_is_resized_for_both_encoders_by_another_process(model: VisionLanguageModel) -> None:
    """A decoder process sends two small images instead of the entire one, which must be the same pixel values."""
    data = photograph("chelsea.png").read_bytes()
    sent, own = (
        prepare(Request(image), model.preparation, PixelCache(10**6)).pixels[0]
        for image in (UploadedImageFile(data), ImageFile(data))
    )
    assert sent.shape == (1, 3 * (96**2 + 224**2))
    assert torch.equal(sent, own)


def test_the_middle_of_a_photograph_is_classified() -> None:
    image = Image.new("RGB", (600, 300), "blue")
    image.paste("red", (300 - 134, 150 - 134, 300 + 134, 150 + 134))
    assert RESIZE.apply(image).getcolors() == [(224 * 224, (255, 0, 0))]


def test_a_setting_turns_the_photo_encoder_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLIP_SPACE_PHOTO_ENCODER", "0")
    spec = find_model("tiny")
    assert not spec.photo_encoder
    assert "hotograph" not in spec.description
    monkeypatch.setenv("BLIP_SPACE_PHOTO_ENCODER", "yes")
    with pytest.raises(UserError, match="BLIP_SPACE_PHOTO_ENCODER is 'yes'; it must be 0 or 1"):
        find_model("tiny")
    monkeypatch.delenv("BLIP_SPACE_PHOTO_ENCODER")
    assert find_model("tiny").photo_encoder
    assert "photographs" in find_model("tiny").description


def test_the_photo_encoder_is_part_of_the_fingerprint() -> None:
    spec = find_model("tiny")
    assert fingerprint(spec) != fingerprint(replace(spec, photo_encoder=False))


@pytest.mark.parametrize("damage", ["missing", "cut", "another model's", "a class twice"])
def test_a_damaged_photo_encoder_is_a_sentence(tmp_path: Path, damage: str) -> None:
    folder = shutil.copytree(TINY_FOLDER, tmp_path / "tiny")
    network, reports, classes = (
        folder / f"photo_{name}" for name in ("encoder.safetensors", "reports.safetensors", "encoder.json")
    )
    if damage == "missing":
        reports.unlink()
    elif damage == "cut":
        network.write_bytes(network.read_bytes()[:1_000_000])
    elif damage == "another model's":
        from safetensors.torch import load_file, save_file

        save_file({name: part[..., :80].contiguous() if "report" in name else part
                   for name, part in load_file(reports).items()}, reports)  # fmt: skip
    else:
        content = json.loads(classes.read_text("utf-8"))
        content["concepts"]["dog"].append(281)
        classes.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ModelError, match=r"photo encoder of tiny .* cannot be loaded.* set photo_encoder to false"):
        load_model(read_folder(folder), "fp32")
    own = json.loads((folder / "blip_space.json").read_text("utf-8"))
    (folder / "blip_space.json").write_text(json.dumps(own | {"photo_encoder": False}), "utf-8")
    if damage == "missing":
        load_model(read_folder(folder), "fp32").close()
