"""Weights that a wrapper renamed are loaded; unmerged adapters and weights that do not fit are refused."""

import json
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Blip2ForConditionalGeneration

from blip_space.catalogue import read_folder
from blip_space.catalogue.families.blip2 import FAMILY as BLIP2
from blip_space.catalogue.weight_names import WeightNames
from blip_space.errors import ModelError
from blip_space.loading.loader import load_model
from blip_space.models.families.blip2 import Blip2
from tests.checkpoints import blip2, stored
from tests.checkpoints.generation import first_logits, image_features


def compiled_parts(key: str) -> str:
    """As `torch.compile` of the language model and of its blocks names it."""
    key = key.replace("language_model.", "language_model._orig_mod.")
    return key.replace("layers.0.", "layers.0._orig_mod.").replace("block.0.", "block.0._orig_mod.")


WRAPPERS: dict[str, Callable[[str], str]] = {
    "module": lambda key: f"module.{key}",
    "compiled": lambda key: f"_orig_mod.{key}",
    "trainer": lambda key: f"model.{key}",
    "peft": lambda key: f"base_model.model.{key}",
    "nested": lambda key: f"module._orig_mod.model.{key}",
    "twice": lambda key: f"module.module.{key}",
    "own": lambda key: f"captioner.blip2.{key}",
    "fsdp": lambda key: f"_fsdp_wrapped_module.{key}".replace("qformer.", "qformer._fsdp_wrapped_module."),
    "parts": compiled_parts,
    "model-and-parts": lambda key: f"_orig_mod.{compiled_parts(key)}",
}


@pytest.mark.parametrize(
    ("wrapper", "family"), [*((name, "opt") for name in WRAPPERS), ("nested", "t5"), ("parts", "mt5")]
)
def test_prefix_of_all_weights_is_removed(
    wrapper: str, family: str, folders: dict[str, Path], tmp_path: Path, two_images: list[Image.Image],
    loaded: Callable[[str], Blip2],
) -> None:  # fmt: skip
    """The case weights-under-a-prefix: the error said "Download the checkpoint again", which could not help."""
    folder = stored.rename_weights(stored.copy_checkpoint(folders[family], tmp_path / "wrapped"), WRAPPERS[wrapper])
    before = (folder / "model.safetensors").read_bytes()
    spec = read_folder(folder)
    expected = read_folder(folders[family])
    assert (spec.parameters, spec.quantized_parameters) == (expected.parameters, expected.quantized_parameters)
    model = load_model(spec)
    features, plain = image_features(model, two_images[:1]), loaded(family)
    assert torch.allclose(features, image_features(plain, two_images[:1]), atol=1e-4)
    ours, expected_logits = (first_logits(item, features[0], "a") for item in (model, plain))
    assert torch.allclose(ours, expected_logits, atol=1e-4)
    assert (folder / "model.safetensors").read_bytes() == before


def test_prefix_is_removed_in_shards_and_with_quantization(
    folders: dict[str, Path], tmp_path: Path, two_images: list[Image.Image]
) -> None:
    folder = blip2.write(tmp_path / "sharded", "opt", max_shard_size="50KB")
    for file in folder.glob("*.safetensors"):
        save_file({f"module.{key}": value for key, value in load_file(file).items()}, file, {"format": "pt"})
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"] = {f"module.{key}": file for key, file in content["weight_map"].items()}
    index.write_text(json.dumps(content))
    assert image_features(load_model(read_folder(folder)), two_images).isfinite().all()
    assert load_model(read_folder(folder), "int8").precision.name == "int8"
    small = stored.rename_weights(
        stored.quantize(folders["opt"], tmp_path / "small", **stored.INT8), WRAPPERS["nested"]
    )
    assert load_model(read_folder(small)).precision.name == "int8"


def test_error_for_a_prefix_of_some_weights_names_one(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = stored.copy_checkpoint(folders["opt"], tmp_path / "half")
    stored.rename_weights(folder, lambda key: f"left.{key}" if key.startswith("qformer") else key)
    spec = read_folder(folder)
    with pytest.raises(
        ModelError, match=r"qformer\S+ and \d+ more are missing; the weights contain left\.qformer"
    ) as caught:
        load_model(spec)
    assert "Download" not in str(caught.value)


def test_unmerged_lora_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = stored.copy_checkpoint(folders["opt"], tmp_path / "unmerged")
    hf_model = peft.get_peft_model(
        Blip2ForConditionalGeneration.from_pretrained(folder), peft.LoraConfig(target_modules=["q_proj"])
    )
    save_file(
        {key: value.clone() for key, value in hf_model.state_dict().items() if "lm_head" not in key},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(ModelError, match=r"not merged \(\S+\)\. Load it where it was trained, call merge_and_unload"):
        read_folder(folder)


def test_names_of_layers_that_resemble_wrappers_are_kept() -> None:
    names = WeightNames(["model.query_tokens", "model.language_model.model.decoder.embed_tokens.weight"], BLIP2)
    assert names.parameter_name("model.language_model.model.decoder.embed_tokens.weight").startswith(
        "language_model.model."
    )
    assert WeightNames(["query_tokens", "model.x"], BLIP2).parameter_name("model.x") == "model.x"
    assert WeightNames([], BLIP2).key_mapping == {}


@pytest.mark.parametrize(
    "wrapper",
    [
        "module",
        "_orig_mod",
        "_forward_module",
        "_fsdp_wrapped_module",
        "_checkpoint_wrapped_module",
        "base_model.model",
    ],
)
def test_names_of_wrappers_are_removed_at_any_depth(wrapper: str) -> None:
    stored_names = [f"{wrapper}.query_tokens", f"{wrapper}.language_model.{wrapper}.x"]
    names = WeightNames(stored_names, BLIP2)
    assert [names.parameter_name(name) for name in stored_names] == ["query_tokens", "language_model.x"]


def test_beginning_of_some_names_only_is_not_a_prefix() -> None:
    assert WeightNames(["net.query_tokens", "net.qformer.x"], BLIP2).prefix == "net."
    assert WeightNames(["net.query_tokens", "optimizer.state.query"], BLIP2).prefix == ""


def test_adapter_in_the_models_folder_is_not_applied(
    folders: dict[str, Path], tmp_path: Path, two_images: list[Image.Image], loaded: Callable[[str], Blip2],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The case adapter-beside-the-weights: transformers would apply it silently."""
    folder = stored.copy_checkpoint(folders["opt"], tmp_path / "both")
    stored.write_adapter(folder, folder, target_modules=["q_proj", "k_proj"])
    spec = read_folder(folder)
    assert spec.parameters == read_folder(folders["opt"]).parameters
    model = load_model(spec)
    (features,) = image_features(model, two_images[:1])
    ours, plain = (first_logits(item, features, "a") for item in (model, loaded("opt")))
    assert torch.allclose(ours, plain, atol=1e-4)
    assert "is not applied; pass the folder with --adapter" in caplog.text
