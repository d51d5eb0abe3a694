"""Every family in every precision: what is kept in which numbers, what it takes, and that it still sees and answers."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from blip_space.catalogue import TINY_FOLDER, families, read_folder
from blip_space.catalogue.headers import TensorInfo
from blip_space.catalogue.storage import StoredWeights
from blip_space.catalogue.weight_names import WeightNames
from blip_space.errors import ModelError
from blip_space.loading.loader import load_model
from blip_space.loading.quantization import disable_avx512_packing, quantization_config, stored_quantization_config
from blip_space.models.families.blip2 import FAMILY
from blip_space.models.interface import Precision
from blip_space.options import GenerationOptions
from tests.checkpoints import blip2
from tests.checkpoints.generation import image_features, new_tokens

OPTIONS = GenerationOptions(max_new_tokens=6)


SMALLER = [(family, precision) for family in blip2.LANGUAGE_MODELS for precision in ("int8", "int4")]
HALVED = [(family, "fp16") for family in ("opt", "bloom")]


@pytest.mark.parametrize(("kind", "precision"), [*HALVED, *SMALLER])
def test_it_loads_silently_sees_and_answers(
    kind: str,
    precision: str,
    folders: dict[str, Path],
    two_images: list[Image.Image],
    capfd: pytest.CaptureFixture[str],
) -> None:
    model = load_model(read_folder(folders[kind]), precision)
    prefixes = image_features(model, two_images)
    assert prefixes.isfinite().all()
    assert not torch.equal(prefixes[0], prefixes[1])
    assert any(new_tokens(model, picture, "a photo of", OPTIONS) for picture in two_images)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("kind", "precision"), SMALLER)
def test_only_the_language_models_layers_are_quantised(kind: str, precision: str, folders: dict[str, Path]) -> None:
    network = load_model(read_folder(folders[kind]), precision)._hf_model
    small = {name for name, one in network.named_parameters() if not one.dtype.is_floating_point}
    assert small
    assert all("language_model" in name for name in small)
    assert not any(part in name for name in small for part in ("lm_head", "embed", "shared", ".wo."))
    others = {one.dtype for name, one in network.named_parameters() if name not in small}
    assert others == {torch.bfloat16}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "int4"])
def test_the_estimate_is_what_the_embedded_model_takes(precision: str) -> None:
    spec = read_folder(TINY_FOLDER)
    taken = load_model(spec, precision).nbytes / 1e9
    assert spec.memory_gb[precision] == pytest.approx(taken, rel=0.1)


@pytest.mark.parametrize(("precision", "share"), [("int8", 4 / 96), ("int4", 0.06)])
def test_the_scales_are_counted_with_the_weights(precision: str, share: float, folders: dict[str, Path]) -> None:
    """They are 12 % of what nf4's layers take, and no parameters of their own."""
    model = load_model(read_folder(folders["opt"]), precision)
    network = model._hf_model
    quantised = sum(one.numel() for one in network.parameters() if not one.dtype.is_floating_point)
    assert model.nbytes - network.get_memory_footprint() > quantised * share / 2


def test_int8_answers_as_the_whole_numbers_do(two_images: list[Image.Image]) -> None:
    """Of the embedded model, whose answers are sure, quantised layers change nothing that a visitor would see."""
    spec = read_folder(TINY_FOLDER)
    said = []
    for precision in ("fp32", "int8", "int4"):
        model = load_model(spec, precision)
        asked = "Question: What is this? Short answer in English:"
        said.append(model.decode(new_tokens(model, two_images[0], asked, OPTIONS)))
    assert said[0] == said[1] == said[2]


def test_an_overflow_is_noticed_at_load(folders: dict[str, Path], tmp_path: Path) -> None:
    """fp16 ends at 65 504; weights beyond it are infinite, and a visitor must not be the one to find out."""
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "large"
    shutil.copytree(folders["bloom"], folder)
    weights = load_file(folder / "model.safetensors")
    weights["language_projection.weight"] *= 1e6
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="not finite in fp16"):
        load_model(read_folder(folder), "fp16")


def test_four_bits_are_nf4_and_computed_in_what_the_others_are() -> None:
    told = quantization_config(Precision("int4", "cpu", "as asked", torch.bfloat16), FAMILY)
    assert (told.bnb_4bit_quant_type, told.bnb_4bit_compute_dtype) == ("nf4", torch.bfloat16)
    assert quantization_config(Precision("bf16", "cpu", "as asked", torch.bfloat16), FAMILY) is None


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize(
    ("packed", "named"), [("U8", "uint8"), ("BF16", "bfloat16"), ("F32", "float32"), ("I8", "uint8")]
)
@pytest.mark.parametrize("nested", [False, True])
def test_transformers_is_told_how_four_bits_are_stored(kind: str, packed: str, named: str, nested: bool) -> None:
    layer = "language_model.layers.0.fc1"
    tensors = {f"{layer}.weight": TensorInfo(packed, (8,), 8), "vision_model.fc1.weight": TensorInfo("F32", (8,), 32)}
    if nested:
        tensors[f"{layer}.weight.nested_absmax"] = TensorInfo("F32", (1,), 4)
    as_it_is = StoredWeights(WeightNames(tensors, families.find("blip2")), tensors, "int4", kind, frozenset({layer}))
    told = stored_quantization_config(as_it_is, Precision("int4", "cpu", "as asked", torch.bfloat16), FAMILY)
    assert (told["bnb_4bit_quant_type"], told["bnb_4bit_quant_storage"]) == (kind, named)
    assert (told["bnb_4bit_use_double_quant"], told["bnb_4bit_compute_dtype"]) == (nested, "bfloat16")
    (whole,) = told["llm_int8_skip_modules"]
    names = (layer, "vision_model.fc1", "language_model.lm_head")
    assert [bool(re.match(whole, name)) for name in names] == [False, True, True]


@pytest.mark.parametrize(
    ("inputs", "outputs", "packed"), [(64, 32, True), (128, 64, True), (32, 32, False), (64, 48, False)]
)
def test_layers_that_a_processors_packing_cannot_hold_are_not_packed(inputs: int, outputs: int, packed: bool) -> None:
    layer = torch.nn.Linear(inputs, outputs)
    layer.support_avx512bf16_for_cpu = True  # type: ignore[assignment]
    disable_avx512_packing(torch.nn.Sequential(layer, torch.nn.Linear(3, 3)))
    assert bool(layer.support_avx512bf16_for_cpu) == packed


def test_transformers_is_told_the_threshold_that_eight_bits_were_stored_with() -> None:
    as_it_is = StoredWeights(WeightNames((), families.find("blip2")), {}, "int8", "int8", threshold=0.0)
    told = stored_quantization_config(as_it_is, Precision("int8", "cpu", "as asked"), FAMILY)
    assert (told["load_in_8bit"], told["llm_int8_threshold"]) == (True, 0.0)
