"""Every family in every layout and precision through the front door, against plain transformers.

The tokens of fp32 are those of `generate`; those of another precision, the ones that today's layout gives in it.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import Blip2ForConditionalGeneration

from blip_space.catalogue import read_folder
from blip_space.languages import LANGUAGES
from blip_space.loading.loader import load_model
from blip_space.models.interface import VisionLanguageModel
from blip_space.options import GenerationOptions
from blip_space.prompts import STYLES, compose
from tests.checkpoints import layouts
from tests.checkpoints.generation import blip2_preparation, image_positions, new_tokens

OPTIONS = GenerationOptions(max_new_tokens=10)
PROMPT = "a photo of"
Written = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def written(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Written:
    root = tmp_path_factory.mktemp("layouts")

    @cache
    def of(family: str, layout: str) -> Path:
        return layouts.write(root / f"{family}-{layout.replace(' ', '-')}", folders[family], family, layout)

    return of


def tokens(model: VisionLanguageModel, picture: Image.Image) -> list[int]:
    return new_tokens(model, picture, PROMPT, OPTIONS)


def reference(folder: Path, model: VisionLanguageModel, picture: Image.Image) -> list[int]:
    """What transformers generates from the weights in fp32, told where the picture is."""
    network = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    network.config.image_token_index = network.config.text_config.vocab_size - 1
    pixels, slots = model.preparation.pixels(picture, OPTIONS), image_positions(model.preparation)
    read = [network.config.image_token_index] * slots + model.preparation.encode(PROMPT)
    ids = torch.tensor([read])
    said: list[int] = network.generate(
        pixel_values=pixels, input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, min_new_tokens=1
    )[0].tolist()
    new = said[1:] if network.config.is_encoder_decoder else said[len(read) :]
    stop = network.language_model.generation_config.eos_token_id
    return new[: new.index(stop)] if stop in new else new


@pytest.mark.parametrize(("kind", "layout"), layouts.MATRIX)
def test_whatever_the_layout_the_tokens_are_transformers_own(
    kind: str, layout: str, written: Written, two_images: list[Image.Image]
) -> None:
    model = load_model(read_folder(written(kind, layout)), "fp32")
    for picture in two_images:
        assert tokens(model, picture) == reference(written(kind, layout), model, picture)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8", "int4"])
@pytest.mark.parametrize("layout", ["2023", "sharded"])
def test_whatever_the_layout_a_precision_says_the_same(
    family: str, layout: str, precision: str, written: Written, two_images: list[Image.Image]
) -> None:
    today = read_folder(written(family, "2024"))
    precision = precision if precision in today.precisions else "bf16"  # fp16 is refused for T5 and mT5
    assert tokens(load_model(read_folder(written(family, layout)), precision), two_images[0]) == tokens(
        load_model(today, precision), two_images[0]
    )


def test_a_coco_fine_tune_takes_its_size_and_its_prompt(written: Written) -> None:
    folder = written("opt", "larger images")
    (folder / "blip_space.json").write_text(json.dumps({"style": "blip2-coco"}))
    model = load_model(read_folder(folder))
    assert blip2_preparation(model.preparation).image_processor.size == 42
    asked = compose(
        [], "", style=STYLES[model.spec.prompt_style], language=LANGUAGES["en"], budget_tokens=100, tokenize=str.encode
    )
    assert asked.text == "a photo of"
