"""Checkpoints that are stored quantized, or whose configuration claims it: loaded as stored, or refused."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import Blip2ForConditionalGeneration

from blip_space.catalogue import ModelSpec, read_folder
from blip_space.errors import ModelError
from blip_space.loading.device import Device
from blip_space.loading.loader import load_model
from blip_space.loading.precision import select_precision, supported_precisions
from blip_space.loading.quantization import disable_avx512_packing
from blip_space.models.families.blip2 import Blip2
from blip_space.models.interface import VisionLanguageModel
from blip_space.options import GenerationOptions
from tests.checkpoints import stored
from tests.checkpoints.generation import first_logits, image_features, new_tokens, with_hf_model

FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "int8": (stored.INT8, "int8"),
    "nf4": (stored.NF4, "int4"),
    "fp4": (stored.FP4, "int4"),
    "nf4-double": (stored.DOUBLE_NF4, "int4"),
}


def logits(model: VisionLanguageModel, two_images: list[Image.Image]) -> torch.Tensor:
    features = [image_features(model, [image])[0] for image in two_images]
    return torch.cat([first_logits(model, item, "a photo of") for item in features])


@pytest.mark.parametrize("family", ["opt", "mt5"])
@pytest.mark.parametrize("form", FORMS)
def test_answers_of_a_quantized_checkpoint_are_those_of_transformers(
    form: str, family: str, folders: dict[str, Path], tmp_path: Path, two_images: list[Image.Image]
) -> None:
    """The case quantised-checkpoint-8-bit: every precision ended in a traceback."""
    settings, precision = FORMS[form]
    folder = stored.quantize(folders[family], tmp_path / "small", **settings)
    spec = read_folder(folder)
    model = load_model(spec)
    assert (model.precision.name, "stored in" in model.precision.reason) == (precision, True)
    hf_model = stored.load_as_stored(folder)
    disable_avx512_packing(hf_model)  # such narrow layers raise with it on AVX512-BF16
    reference = with_hf_model(model, hf_model, spec)
    ours, theirs = logits(model, two_images), logits(reference, two_images)
    assert (
        torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1] > 0.95
    )  # the reference multiplies in fp32
    assert new_tokens(model, two_images[0], "a photo of", GenerationOptions())


@pytest.mark.parametrize("form", FORMS)
def test_spec_of_a_quantized_checkpoint_has_only_the_stored_precision(
    form: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    settings, precision = FORMS[form]
    spec = read_folder(stored.quantize(folders["bloom"], tmp_path / "small", **settings))
    assert spec.parameters == read_folder(folders["bloom"]).parameters
    assert spec.precisions == (precision,)
    assert list(spec.memory_gb) == [precision]
    assert load_model(spec, precision).nbytes / 1e9 == pytest.approx(spec.memory_gb[precision], rel=0.5)


@pytest.mark.parametrize("requested", ["fp32", "bf16", "fp16", "int4"])
def test_another_precision_than_the_stored_one_is_refused(
    requested: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    spec = read_folder(stored.quantize(folders["opt"], tmp_path / "small", **stored.INT8))
    with pytest.raises(ModelError, match=r"small is stored in 8 bits.*Choose int8 \(or auto\), or the original"):
        load_model(spec, requested)


def test_repository_whose_weights_are_quantized_is_loaded_as_stored(folders: dict[str, Path], tmp_path: Path) -> None:
    """The spec of a repository is read before its weights are downloaded."""
    spec = read_folder(stored.quantize(folders["opt"], tmp_path / "small", **stored.INT8))
    repository_spec = replace(spec, stored_precision="", stored_bytes=0)
    assert load_model(repository_spec).precision.name == "int8"
    with pytest.raises(ModelError, match="stored in 8 bits"):
        load_model(repository_spec, "bf16")


def without(ending: str) -> Any:
    return lambda weights: {key: value for key, value in weights.items() if not key.endswith(ending)}


@pytest.mark.parametrize("family", ["opt", "t5"])
@pytest.mark.parametrize(
    ("model_class", "settings", "removed"),
    [
        (stored.FullyQuantized, {}, ""),
        (stored.FullyQuantized, {}, "weight_format"),
        (Blip2ForConditionalGeneration, {"llm_int8_skip_modules": []}, ""),
        (Blip2ForConditionalGeneration, {"llm_int8_skip_modules": ["vision_model", "language_projection"]}, ""),
    ],
    ids=["of-2023", "of-early-2023", "nothing-skipped", "own-list"],
)
def test_exactly_the_stored_layers_are_quantized(
    model_class: Any, settings: Any, removed: str, family: str, folders: dict[str, Path], tmp_path: Path,
    two_images: list[Image.Image],
) -> None:  # fmt: skip
    """Which layers are not quantized differs between versions and users; transformers uses its own list."""
    settings = {**stored.INT8, **settings}
    folder = stored.quantize(folders[family], tmp_path / "small", model_class, **settings)
    if removed:
        stored.change_weights(folder, without(removed))
    model = load_model(read_folder(folder))
    unquantized = load_model(read_folder(folders[family]), "bf16")
    ours, expected = logits(model, two_images), logits(unquantized, two_images)
    assert torch.corrcoef(torch.stack([ours.flatten(), expected.flatten()]))[0, 1] > (0.99 if family == "opt" else 0.3)


ENTRIES = {
    "bitsandbytes": {"quant_method": "bitsandbytes", "load_in_8bit": True, "llm_int8_threshold": 6.0},
    "bitsandbytes-4": {"load_in_4bit": True},
    "empty": {},
    "gptq": {"quant_method": "gptq", "bits": 4},
    "fp8": {"quant_method": "fp8"},
    "unheard-of": {"quant_method": "vaporware"},
}


@pytest.mark.parametrize(
    ("entry", "where"), [*((entry, "model") for entry in ENTRIES), ("bitsandbytes", "text"), ("gptq", "text")]
)
def test_quantization_entry_of_unquantized_weights_is_ignored(
    entry: str, where: str, folders: dict[str, Path], tmp_path: Path, two_images: list[Image.Image],
    loaded: Callable[[str], Blip2], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The case quantisation-that-was-undone: AttributeError: 'Parameter' object has no attribute 'CB'."""
    folder = stored.copy_checkpoint(folders["opt"], tmp_path / "undone")
    text = json.loads((folder / "config.json").read_text())["text_config"]
    change = {"quantization_config": ENTRIES[entry]}
    stored.change_config(folder, **(change if where == "model" else {"text_config": text | change}))
    with caplog.at_level(logging.INFO, "blip_space"):
        model = load_model(read_folder(folder), "fp32")
    assert sum("is ignored, since its weights are not quantized" in line for line in caplog.messages) == 1
    assert torch.allclose(logits(model, two_images), logits(loaded("opt"), two_images), atol=1e-4)


def test_stale_quantization_entry_does_not_prevent_quantization(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = stored.copy_checkpoint(folders["opt"], tmp_path / "undone")
    stored.change_config(folder, quantization_config=ENTRIES["bitsandbytes"])
    assert load_model(read_folder(folder), "int4").precision.name == "int4"


UNSUPPORTED = {
    "gptq": ({"q_proj.qweight": torch.int32, "q_proj.qzeros": torch.int32, "q_proj.scales": torch.float16}, "GPTQ"),
    "awq": ({"q_proj.qweight": torch.int32}, "AWQ"),
    "auto-round": ({"q_proj.qweight": torch.int32}, "AutoRound"),
    "hqq": ({"q_proj.W_q": torch.uint8}, "HQQ"),
    "compressed-tensors": ({"q_proj.weight_packed": torch.int32}, "compressed-tensors"),
    "fp8": ({"q_proj.weight": torch.float8_e4m3fn, "q_proj.weight_scale_inv": torch.float32}, "FP8"),
    "": ({"q_proj.weight": torch.int8}, "an unknown format"),
    "vaporware": ({"q_proj.mystery": torch.uint8}, "vaporware"),
}


@pytest.mark.parametrize("method", UNSUPPORTED)
def test_error_names_an_unsupported_format(method: str, folders: dict[str, Path], tmp_path: Path) -> None:
    dtypes, format_name = UNSUPPORTED[method]
    folder = stored.copy_checkpoint(folders["opt"], tmp_path / "unsupported")
    layer = "language_model.model.decoder.layers.0.self_attn."
    added = {layer + key: torch.zeros(4, 4).to(dtype) for key, dtype in dtypes.items()}
    stored.change_weights(folder, lambda weights: without("0.self_attn.q_proj.weight")(weights) | added)
    stored.change_config(folder, **({"quantization_config": {"quant_method": method}} if method else {}))
    with pytest.raises(
        ModelError, match=rf"{format_name}.*not supported.*the original checkpoint, with --precision int8"
    ):
        read_folder(folder)


def test_quantized_weights_without_a_configuration_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = stored.quantize(folders["opt"], tmp_path / "small", **stored.NF4)
    stored.change_config(folder, quantization_config=None)
    with pytest.raises(ModelError, match=r"stored in 4 bits by bitsandbytes.*no quantization_config\. Copy config"):
        read_folder(folder)


def test_scales_that_were_reordered_before_saving_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    """bitsandbytes saves them reordered after a forward pass on AVX512-BF16, and loads them in the usual order."""
    folder = stored.quantize(folders["opt"], tmp_path / "late", **stored.NF4)
    stored.change_weights(
        folder,
        lambda weights: {
            key: value.to(torch.bfloat16) if key.endswith(".absmax") else value for key, value in weights.items()
        },
    )
    with pytest.raises(ModelError, match=r"is damaged: .+\. Save it again right after quantizing"):
        read_folder(folder)


def test_stored_int8_is_refused_on_apples_gpu() -> None:
    spec = ModelSpec("small", "x", "blip2", "opt", "blip2", 1, ("en",), stored_precision="int8", stored_bytes=1)
    apple = Device("mps", "", has_bf16=True)
    assert supported_precisions(spec, apple) == ()
    with pytest.raises(ModelError, match=r"Apple's GPU does not support\. Choose the original checkpoint"):
        select_precision("auto", spec, apple, free=None)


@pytest.mark.parametrize("entry", [[], "bitsandbytes", 7, True, {"quant_method": []}, {"load_in_8bit": "yes"}])
def test_quantization_entry_of_another_type_is_ignored(entry: Any, folders: dict[str, Path], tmp_path: Path) -> None:
    folder = stored.change_config(stored.copy_checkpoint(folders["opt"], tmp_path / "odd"), quantization_config=entry)
    assert load_model(read_folder(folder), "fp32").precision.name == "fp32"
