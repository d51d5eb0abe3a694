"""Every language model in every layout and precision through the public API, against plain transformers.

The tokens of fp32 are those of `generate`; those of another precision are those that today's layout gives in it.
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
WriteLayout = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def write_layout(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> WriteLayout:
    root = tmp_path_factory.mktemp("layouts")

    @cache
    def write(family: str, layout: str) -> Path:
        return layouts.write(root / f"{family}-{layout.replace(' ', '-')}", folders[family], family, layout)

    return write


def tokens(model: VisionLanguageModel, image: Image.Image) -> list[int]:
    return new_tokens(model, image, PROMPT, OPTIONS)


def reference(folder: Path, model: VisionLanguageModel, image: Image.Image) -> list[int]:
    """What transformers generates from the weights in fp32 with the image positions in the prompt."""
    hf_model = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    hf_model.config.image_token_index = hf_model.config.text_config.vocab_size - 1
    pixels = model.preparation.normalize(model.preparation.pixels(image, OPTIONS), torch.float32)
    slots = image_positions(model.preparation)
    prompt = [hf_model.config.image_token_index] * slots + model.preparation.encode(PROMPT)
    ids = torch.tensor([prompt])
    generated: list[int] = hf_model.generate(
        pixel_values=pixels, input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, min_new_tokens=1
    )[0].tolist()
    new = generated[1:] if hf_model.config.is_encoder_decoder else generated[len(prompt) :]
    stop = hf_model.language_model.generation_config.eos_token_id
    return new[: new.index(stop)] if stop in new else new


@pytest.mark.parametrize(("kind", "layout"), layouts.MATRIX)
def test_tokens_are_those_of_transformers_in_every_layout(
    kind: str, layout: str, write_layout: WriteLayout, two_images: list[Image.Image]
) -> None:
    model = load_model(read_folder(write_layout(kind, layout)), "fp32")
    for image in two_images:
        assert tokens(model, image) == reference(write_layout(kind, layout), model, image)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8", "int4"])
@pytest.mark.parametrize("layout", ["2023", "sharded"])
def test_tokens_of_a_precision_do_not_depend_on_the_layout(
    family: str, layout: str, precision: str, write_layout: WriteLayout, two_images: list[Image.Image]
) -> None:
    today = read_folder(write_layout(family, "2024"))
    precision = precision if precision in today.precisions else "bf16"  # fp16 is refused for T5 and mT5
    assert tokens(load_model(read_folder(write_layout(family, layout)), precision), two_images[0]) == tokens(
        load_model(today, precision), two_images[0]
    )


def test_coco_fine_tune_has_its_own_size_and_prompt(write_layout: WriteLayout) -> None:
    folder = write_layout("opt", "larger images")
    (folder / "blip_space.json").write_text(json.dumps({"style": "blip2-coco"}))
    model = load_model(read_folder(folder))
    assert blip2_preparation(model.preparation).image_processor.size == 42
    composed = compose(
        [], "", style=STYLES[model.spec.prompt_style], language=LANGUAGES["en"], budget_tokens=100, tokenize=str.encode
    )
    assert composed.text == "a photo of"
