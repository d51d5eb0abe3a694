"""Every language model in every precision: dtypes of its weights, memory, and that it still uses the image."""

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
QUANTIZED = [(family, precision) for family in blip2.LANGUAGE_MODELS for precision in ("int8", "int4")]
HALF = [(family, "fp16") for family in ("opt", "bloom")]


@pytest.mark.parametrize(("kind", "precision"), [*HALF, *QUANTIZED])
def test_quantized_model_loads_silently_and_uses_the_image(
    kind: str,
    precision: str,
    folders: dict[str, Path],
    two_images: list[Image.Image],
    capfd: pytest.CaptureFixture[str],
) -> None:
    model = load_model(read_folder(folders[kind]), precision)
    features = image_features(model, two_images)
    assert features.isfinite().all()
    assert not torch.equal(features[0], features[1])
    assert any(new_tokens(model, image, "a photo of", OPTIONS) for image in two_images)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("kind", "precision"), QUANTIZED)
def test_only_the_language_models_layers_are_quantized(kind: str, precision: str, folders: dict[str, Path]) -> None:
    hf_model = load_model(read_folder(folders[kind]), precision)._hf_model
    quantized = {name for name, weight in hf_model.named_parameters() if not weight.dtype.is_floating_point}
    assert quantized
    assert all("language_model" in name for name in quantized)
    assert not any(part in name for name in quantized for part in ("lm_head", "embed", "shared", ".wo."))
    others = {weight.dtype for name, weight in hf_model.named_parameters() if name not in quantized}
    assert others == {torch.bfloat16}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "int4"])
def test_estimate_of_memory_is_that_of_the_embedded_model(precision: str) -> None:
    spec = read_folder(TINY_FOLDER)
    used_gb = load_model(spec, precision).nbytes / 1e9
    assert spec.memory_gb[precision] == pytest.approx(used_gb, rel=0.1)


@pytest.mark.parametrize(("precision", "share"), [("int8", 4 / 96), ("int4", 0.06)])
def test_scales_are_counted_with_the_weights(precision: str, share: float, folders: dict[str, Path]) -> None:
    """They are 12 % of the memory of nf4 layers, and not parameters of the model."""
    model = load_model(read_folder(folders["opt"]), precision)
    hf_model = model._hf_model
    quantized = sum(weight.numel() for weight in hf_model.parameters() if not weight.dtype.is_floating_point)
    assert model.nbytes - hf_model.get_memory_footprint() > quantized * share / 2


def test_quantized_answers_are_those_of_fp32(two_images: list[Image.Image]) -> None:
    """Those of the embedded model, whose logits are clear."""
    spec = read_folder(TINY_FOLDER)
    answers = []
    for precision in ("fp32", "int8", "int4"):
        model = load_model(spec, precision)
        prompt = "Question: What is this? Short answer in English:"
        answers.append(model.decode(new_tokens(model, two_images[0], prompt, OPTIONS)))
    assert answers[0] == answers[1] == answers[2]


def test_overflow_is_detected_at_load_time(folders: dict[str, Path], tmp_path: Path) -> None:
    """Weights above 65 504 are infinite in fp16."""
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "large"
    shutil.copytree(folders["bloom"], folder)
    weights = load_file(folder / "model.safetensors")
    weights["language_projection.weight"] *= 1e6
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="not finite in fp16"):
        load_model(read_folder(folder), "fp16")


def test_int4_is_nf4_and_computes_in_the_dtype_of_the_other_weights() -> None:
    config = quantization_config(Precision("int4", "cpu", "as requested", torch.bfloat16), FAMILY)
    assert (config.bnb_4bit_quant_type, config.bnb_4bit_compute_dtype) == ("nf4", torch.bfloat16)
    assert quantization_config(Precision("bf16", "cpu", "as requested", torch.bfloat16), FAMILY) is None


@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
@pytest.mark.parametrize(
    ("stored_type", "storage_dtype"), [("U8", "uint8"), ("BF16", "bfloat16"), ("F32", "float32"), ("I8", "uint8")]
)
@pytest.mark.parametrize("nested", [False, True])
def test_stored_int4_is_described_to_transformers(
    quant_type: str, stored_type: str, storage_dtype: str, nested: bool
) -> None:
    layer = "language_model.layers.0.fc1"
    tensors = {
        f"{layer}.weight": TensorInfo(stored_type, (8,), 8),
        "vision_model.fc1.weight": TensorInfo("F32", (8,), 32),
    }
    if nested:
        tensors[f"{layer}.weight.nested_absmax"] = TensorInfo("F32", (1,), 4)
    stored = StoredWeights(WeightNames(tensors, families.ALL["blip2"]), tensors, "int4", quant_type, frozenset({layer}))
    config = stored_quantization_config(stored, Precision("int4", "cpu", "as requested", torch.bfloat16), FAMILY)
    assert (config["bnb_4bit_quant_type"], config["bnb_4bit_quant_storage"]) == (quant_type, storage_dtype)
    assert (config["bnb_4bit_use_double_quant"], config["bnb_4bit_compute_dtype"]) == (nested, "bfloat16")
    (unquantized,) = config["llm_int8_skip_modules"]
    names = (layer, "vision_model.fc1", "language_model.lm_head")
    assert [bool(re.match(unquantized, name)) for name in names] == [False, True, True]


@pytest.mark.parametrize(
    ("inputs", "outputs", "packed"), [(64, 32, True), (128, 64, True), (32, 32, False), (64, 48, False)]
)
def test_layers_of_unsupported_shapes_are_not_packed(inputs: int, outputs: int, packed: bool) -> None:
    layer = torch.nn.Linear(inputs, outputs)
    layer.support_avx512bf16_for_cpu = True  # type: ignore[assignment]
    disable_avx512_packing(torch.nn.Sequential(layer, torch.nn.Linear(3, 3)))
    assert bool(layer.support_avx512bf16_for_cpu) == packed


def test_threshold_of_stored_int8_is_kept() -> None:
    stored = StoredWeights(WeightNames((), families.ALL["blip2"]), {}, "int8", "int8", threshold=0.0)
    config = stored_quantization_config(stored, Precision("int8", "cpu", "as requested"), FAMILY)
    assert (config["load_in_8bit"], config["llm_int8_threshold"]) == (True, 0.0)
