"""Models of random weights: made on the device that is asked for, in the sizes of the checkpoints."""

from __future__ import annotations

import pytest
import torch

from benchmarks import random_weights
from benchmarks.baseline import compose_prompt, make_image, process
from benchmarks.gpu.setup import ids_of, words_of
from benchmarks.gpu.steps import step_bytes
from blip_space.models.interface import VisionLanguageModel
from blip_space.options import GenerationOptions

BLIP2 = tuple(random_weights.LANGUAGE_MODELS)


@pytest.mark.parametrize("name", random_weights.NAMES)
def test_all_of_a_model_is_on_its_device(name: str) -> None:
    hf_model, _, model = random_weights.build(name, dtype=torch.bfloat16, device="meta")
    tensors = [*hf_model.named_parameters(), *hf_model.named_buffers()]
    assert [name for name, tensor in tensors if not tensor.is_meta] == []
    assert str(model.decoder.device) == model.precision.device == "meta"


@pytest.mark.parametrize(("name", "gigabytes"), [
    ("opt-2.7b-random", 5.30), ("mt0-xl-random", 4.15), ("bloomz-7b-random", 14.14),
])  # fmt: skip
def test_a_step_reads_the_layers_and_the_head(name: str, gigabytes: float) -> None:
    hf_model, _, _ = random_weights.build(name, dtype=torch.bfloat16, device="meta")
    assert step_bytes(hf_model) / 1e9 == pytest.approx(gigabytes, abs=0.005)


@pytest.fixture(scope="module", params=BLIP2)
def small(request: pytest.FixtureRequest) -> tuple[object, VisionLanguageModel]:
    hf_model, _, model = random_weights.build(request.param, dtype=torch.float32, small=True)
    return hf_model, model


def test_small_answers_depend_on_the_image(small: tuple[object, VisionLanguageModel]) -> None:
    _, model = small
    pixels = [model.preparation.pixels(make_image(user).pixels, GenerationOptions()) for user in range(2)]
    first, second = model.encode_images(pixels)
    assert float((first - second).abs().max()) > 0.01


def test_an_answer_is_the_same_ids_in_a_later_prompt(small: tuple[object, VisionLanguageModel]) -> None:
    _, model = small
    ids = (7, 4095, 1, 7)
    prompt = compose_prompt(model, "w1", [("w2", words_of(ids))], GenerationOptions())
    assert " ".join(map(str, ids)) in " ".join(map(str, prompt.ids))
    assert ids_of(words_of(ids)) == list(ids)


def test_inputs_are_on_the_models_device() -> None:
    hf_model, _, model = random_weights.build("opt-2.7b-random", dtype=torch.bfloat16, device="meta", small=True)
    inputs = process(hf_model, model, make_image(0), compose_prompt(model, "w1", (), GenerationOptions()))
    assert {name: tensor.is_meta for name, tensor in inputs.items()} == dict.fromkeys(inputs, True)
    assert inputs["pixel_values"].dtype == torch.bfloat16
