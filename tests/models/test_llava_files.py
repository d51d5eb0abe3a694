"""The files of a LLaVA folder: what is read of each, and which of them do not fit together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import LlavaConfig

from blip_space.catalogue import read_folder
from blip_space.errors import ModelError
from blip_space.loading.loader import load_model
from blip_space.loading.preparation import load_preparation
from blip_space.models.families.llava import LlavaPreparation, _image_positions
from blip_space.models.preparation import ImageInfo
from blip_space.options import GenerationOptions
from tests.checkpoints import llava, stored

SQUARE = {"size": {"height": 28, "width": 28}, "do_center_crop": True}


@pytest.fixture(scope="module", params=llava.VISION_ENCODERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of each vision encoder. Read only."""
    return llava.write(tmp_path_factory.mktemp("llava") / str(request.param), str(request.param))


def edit_copy(source: Path, folder: Path, name: str, edit: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy of the checkpoint with one file of JSON changed."""
    stored.copy_checkpoint(source, folder)
    content = json.loads((folder / name).read_text())
    edit(content)
    (folder / name).write_text(json.dumps(content))
    return folder


def test_the_tokenizers_eos_token_ends_an_answer_too(folder: Path, tmp_path: Path) -> None:
    """Even if the generation settings name another."""
    copied = edit_copy(
        folder, tmp_path / "m", "generation_config.json", lambda content: content.update(eos_token_id=[9])
    )
    assert load_model(read_folder(copied), "fp32").stop_token_ids == {2, 9}


def test_pixels_are_floats_of_three_channels_even_if_the_processor_converts_nothing(
    folder: Path, tmp_path: Path
) -> None:
    changes = {"do_convert_rgb": False, "do_rescale": False, "do_normalize": False}
    copied = edit_copy(
        folder, tmp_path / "m", "processor_config.json", lambda content: content["image_processor"].update(changes)
    )
    preparation = load_preparation(read_folder(copied))
    image = preparation.pixels(Image.new("L", (50, 31), 7), GenerationOptions())
    pixels = preparation.normalize(image, torch.float32)
    assert (pixels.shape, pixels.dtype, set(pixels.flatten().tolist())) == ((1, 3, 28, 28), torch.float32, {7.0})


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("tokenizer_config.json", lambda content: content.update(eos_token=None)),
        ("config.json", lambda content: content["text_config"].update(vocab_size=2)),
    ],
    ids=["none", "outside the vocabulary"],
)
def test_an_eos_token_that_the_model_cannot_generate_is_ignored(
    folder: Path, tmp_path: Path, name: str, edit: Callable[[dict[str, Any]], Any]
) -> None:
    plain, changed = (
        load_preparation(read_folder(path)) for path in (folder, edit_copy(folder, tmp_path / "m", name, edit))
    )
    assert isinstance(plain, LlavaPreparation)
    assert isinstance(changed, LlavaPreparation)
    assert plain.eos_token_ids == {2}
    assert not changed.eos_token_ids


def test_the_checkpoints_template_precedes_the_styles(tmp_path: Path) -> None:
    own = llava.TEMPLATE.replace("ASSISTANT:'", "ROBOT:'")
    texts = []
    for name, template in (("own", own), ("none", "")):
        preparation = load_preparation(read_folder(llava.write(tmp_path / name, template=template)))
        prompt = preparation.prepare([ImageInfo()], (), "?", language="en", options=GenerationOptions())
        texts.append(prompt.text)
    assert texts == ["USER: <image>\n? ROBOT:", "USER: <image>\n? ASSISTANT:"]


WRONG: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "other size": (
        "processor_config.json",
        lambda content: content["image_processor"].update(
            size={"height": 14, "width": 14}, crop_size={"height": 14, "width": 14}
        ),
        "makes images of 14 x 14 pixels, and its vision encoder takes 28 x 28",
    ),
    "other width": (
        "processor_config.json",
        lambda content: content["image_processor"].update(crop_size={"height": 28, "width": 14}, **SQUARE),
        "makes images of 28 x 14 pixels",
    ),
    "other height": (
        "processor_config.json",
        lambda content: content["image_processor"].update(crop_size={"height": 14, "width": 28}, **SQUARE),
        "makes images of 14 x 28 pixels",
    ),
    "not square": (
        "processor_config.json",
        lambda content: content["image_processor"].update(
            image_processor_type="CLIPImageProcessor", do_center_crop=False, size={"shortest_edge": 28}
        ),
        "makes images of 28 x 42 pixels",
    ),
    "no image processor": (
        "processor_config.json",
        lambda content: content["image_processor"].update(image_processor_type="NoProcessor"),
        "The image processor of .* cannot be read",
    ),
    "tokenizer": ("tokenizer.json", lambda content: content.pop("model"), "The tokenizer of .* cannot be read"),
    "image token": ("config.json", lambda content: content.update(image_token_index=5), "cannot render"),
    "no such token": (
        "config.json",
        lambda content: content.update(image_token_index=5_000),
        "its tokenizer has no such token",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_files_that_do_not_fit_together_are_reported(folder: Path, tmp_path: Path, kind: str) -> None:
    name, edit, message = WRONG[kind]
    with pytest.raises(ModelError, match=message):
        load_preparation(read_folder(edit_copy(folder, tmp_path / "m", name, edit)))


def test_an_unsupported_vision_encoder_is_reported() -> None:
    config = LlavaConfig(vision_config={"model_type": "pixtral"})
    with pytest.raises(ModelError, match="vision encoder 'pixtral'"):
        _image_positions(config, name="tiny")
