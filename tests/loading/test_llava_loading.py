"""Loading a LLaVA: wrapped, quantized, with adapters, and its error messages."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM, LlavaForConditionalGeneration

from blip_space.catalogue import read_folder
from blip_space.catalogue.folder import inspect_checkpoint
from blip_space.catalogue.headers import read_headers
from blip_space.errors import ModelError
from blip_space.loading.library_logging import silenced
from blip_space.loading.loader import load_model
from blip_space.loading.quantization import disable_avx512_packing
from blip_space.loading.selftest import check_lm_head, first_logits, make_test_images
from blip_space.models import families
from blip_space.models.interface import VisionLanguageModel
from blip_space.models.preparation import ImageInfo
from blip_space.options import GenerationOptions
from tests.checkpoints import llava, stored

FAMILY = families.load_family("llava")
LORA = {"r": 4, "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llava.write(tmp_path_factory.mktemp("llava") / "small")


def logits(model: VisionLanguageModel) -> torch.Tensor:
    """Of the first token after a question about each of two images."""
    options, preparation = GenerationOptions(max_new_tokens=1), model.preparation
    features = model.encode_images([preparation.pixels(image, options) for image in make_test_images()])
    prompt = preparation.prepare([ImageInfo()], (), "What is this?", language="en", options=options)
    return torch.cat([first_logits(model.decoder, model.embed(prompt, [item])) for item in features])


def with_hf_model(model: VisionLanguageModel, hf_model: Any) -> VisionLanguageModel:
    """The same model around another `hf_model`."""
    return FAMILY.build(hf_model, model.preparation, model.precision)


@pytest.mark.parametrize(
    "name",
    [
        lambda key: f"_orig_mod.module.{key}",
        lambda key: f"net.{key}",
        lambda key: f"module.{name_in_memory(key)}",
        lambda key: name_in_memory(key),
        lambda key: f"net.{name_in_memory(key)}",
    ],
    ids=["wrapped", "under a prefix", "wrapped as in memory", "as in memory", "as in memory under a prefix"],
)
def test_weights_do_not_depend_on_their_stored_names(name: Callable[[str], str], folder: Path, tmp_path: Path) -> None:
    renamed = stored.rename_weights(stored.copy_checkpoint(folder, tmp_path / "renamed"), name)
    ours, plain = (load_model(read_folder(path))._hf_model.state_dict() for path in (renamed, folder))
    assert ours.keys() == plain.keys()
    assert all(torch.equal(ours[key], weight) for key, weight in plain.items())
    assert read_folder(renamed).quantized_parameters == read_folder(folder).quantized_parameters


def name_in_memory(key: str) -> str:
    """The name in memory of a stored weight."""
    if key.startswith("language_model.lm_head"):
        return key.removeprefix("language_model.")
    return f"model.{key.replace('language_model.model.', 'language_model.')}"


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_only_the_language_model_is_quantized(precision: str, folder: Path) -> None:
    spec = read_folder(folder)
    model = load_model(spec, precision)
    layers = {name: layer for name, layer in model._hf_model.named_modules() if hasattr(layer, "in_features")}
    quantized = quantized_layers(model._hf_model)
    assert quantized == {name for name in layers if name.startswith("model.language_model.layers.")}
    assert sum(layers[name].in_features * layers[name].out_features for name in quantized) == spec.quantized_parameters


def quantized_layers(hf_model: Any) -> set[str]:
    return {name for name, layer in hf_model.named_modules() if "bit" in type(layer).__name__}


@pytest.mark.parametrize(
    ("settings", "precision"), [(stored.INT8, "int8"), (stored.NF4, "int4"), (stored.DOUBLE_NF4, "int4")]
)
def test_quantized_llava_is_loaded_as_it_is_stored(
    settings: dict[str, Any], precision: str, folder: Path, tmp_path: Path
) -> None:
    path = stored.copy_checkpoint(folder, tmp_path / "small")
    (path / "model.safetensors").unlink()
    with silenced():
        hf_model = stored.load_as_stored(
            folder, LlavaForConditionalGeneration, quantization_config=BitsAndBytesConfig(**settings)
        )
        hf_model.save_pretrained(path)
    model = load_model(read_folder(path))
    assert (model.spec.stored_precision, model.precision.name) == (precision, precision)
    hf_model = stored.load_as_stored(path, LlavaForConditionalGeneration)
    disable_avx512_packing(hf_model)
    ours, theirs = logits(model), logits(with_hf_model(model, hf_model))
    assert torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1] > 0.95
    assert quantized_layers(model._hf_model) == quantized_layers(hf_model)


def train(hf_model: Any, path: Path, **settings: Any) -> Path:
    """A LoRA with random weights, as peft saves it."""
    torch.manual_seed(1)
    adapted = peft.get_peft_model(hf_model, peft.LoraConfig(**LORA | settings))
    for weight in adapted.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.3)
    adapted.save_pretrained(path)
    return path


def load_reference(folder: Path) -> Any:
    with silenced():
        return LlavaForConditionalGeneration.from_pretrained(folder)


def in_transformers_4(key: str) -> str:
    """The name of an adapter's weight of the full model in transformers 4."""
    moved = key.replace(".model.model.language_model.", ".model.language_model.model.")
    return re.sub(r"\.model\.model\.(vision_tower|multi_modal_projector)\.", r".model.\1.", moved)


@pytest.mark.parametrize("naming", ["of today", "of transformers 4"])
@pytest.mark.parametrize(
    "modules", [["q_proj", "v_proj"], r".*language_model.*\.(q_proj|v_proj)", ["linear_1", "fc1"]],
    ids=["every attention", "the language model's", "the image's"],
)  # fmt: skip
def test_answers_with_an_adapter_of_the_full_model_are_those_of_peft(
    modules: Any, naming: str, folder: Path, tmp_path: Path
) -> None:
    path = train(load_reference(folder), tmp_path / "lora", target_modules=modules)
    with silenced():
        theirs = peft.PeftModel.from_pretrained(load_reference(folder), path).base_model.model.eval()
    if naming == "of transformers 4":
        file = path / "adapter_model.safetensors"
        old = {in_transformers_4(key): value for key, value in load_file(file).items()}
        save_file(old, file, {"format": "pt"})
    model = load_model(replace(read_folder(folder), adapter=str(path)))
    expected = logits(with_hf_model(model, theirs))
    assert torch.allclose(logits(model), expected, atol=1e-4)
    assert not torch.allclose(expected, logits(load_model(read_folder(folder))), atol=1e-2)


@pytest.mark.parametrize("kind", ["the body", "with its output layer"])
def test_adapter_of_the_language_model_alone_is_applied(kind: str, folder: Path, tmp_path: Path) -> None:
    """The vision encoder has layers of the same names."""
    hf_model = load_reference(folder)
    body = hf_model.model.language_model
    if kind == "with its output layer":
        outer = LlamaForCausalLM(LlamaConfig(**body.config.to_dict()))
        outer.model = body
        path = train(outer, tmp_path / "lora", task_type="CAUSAL_LM")
    else:
        path = train(body, tmp_path / "lora")
    model = load_model(replace(read_folder(folder), adapter=str(path)))
    assert torch.allclose(
        logits(model), logits(with_hf_model(model, hf_model)), atol=1e-4
    )  # whose layers peft has changed
    assert not torch.allclose(logits(model), logits(load_model(read_folder(folder))), atol=1e-2)


def test_adapter_that_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    deeper = llava.write(tmp_path / "other")
    path = train(load_reference(deeper), tmp_path / "lora", target_modules=r".*language_model.*q_proj")
    file = path / "adapter_model.safetensors"
    remaining = {key: value for key, value in load_file(file).items() if ".layers.1." not in key}
    save_file(remaining, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"does not fit small: .* and 2 are missing"):
        load_model(replace(read_folder(folder), adapter=str(path)))


def test_stop_tokens_are_those_of_the_folder_or_else_of_the_configuration(folder: Path, tmp_path: Path) -> None:
    """The language model in a LLaVA has no generation config of its own."""
    path = stored.copy_checkpoint(folder, tmp_path / "stops")
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 5]}), "utf-8")
    assert load_model(read_folder(path)).stop_token_ids >= {2, 5}
    (path / "generation_config.json").unlink()
    config = json.loads((path / "config.json").read_text("utf-8"))
    config["text_config"]["eos_token_id"] = [7, 9]
    (path / "config.json").write_text(json.dumps(config), "utf-8")
    assert load_model(read_folder(path)).stop_token_ids >= {7, 9}


def test_head_that_is_not_the_stored_one_is_refused(folder: Path) -> None:
    model = load_model(read_folder(folder))
    hf_model, weights = model._hf_model, [folder / "model.safetensors"]
    names = inspect_checkpoint(folder, read_headers(folder), name="tied").names
    check_lm_head(hf_model, weights, FAMILY, name="tied", names=names)
    hf_model.lm_head.weight = hf_model.get_input_embeddings().weight
    with pytest.raises(ModelError, match="replaced the output layer of tied by its input embedding"):
        check_lm_head(hf_model, weights, FAMILY, name="tied", names=names)


def test_error_for_an_invalid_configuration_names_the_family(folder: Path, tmp_path: Path) -> None:
    path = shutil.copytree(folder, tmp_path / "odd")
    config = json.loads((path / "config.json").read_text("utf-8"))
    (path / "config.json").write_text(json.dumps(config | {"vision_config": "clip"}), "utf-8")
    with pytest.raises(ModelError, match="odd cannot be read as that of a LLaVA model"):
        load_model(read_folder(path))
    config["text_config"]["num_hidden_layers"] = 4
    (path / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(
        ModelError, match=r"The weights of odd do not fit: model\.language_model\.layers\.3\..* missing"
    ):
        load_model(read_folder(path))


def test_window_without_space_for_a_question_is_refused(folder: Path, tmp_path: Path) -> None:
    path = shutil.copytree(folder, tmp_path / "short")
    config = json.loads((path / "config.json").read_text("utf-8"))
    config["text_config"]["max_position_embeddings"] = 20
    (path / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(
        ModelError, match=r"short has a window of 20 tokens, of which an image takes 16: .*Correct max_pos"
    ):
        load_model(read_folder(path))
