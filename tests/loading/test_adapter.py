"""LoRA adapters: answers equal those of peft, and adapters that do not fit are refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Blip2ForConditionalGeneration

from blip_space.catalogue import ModelSpec, find_model, read_folder
from blip_space.errors import ModelError
from blip_space.loading.loader import load_model
from blip_space.models.families.blip2 import Blip2
from blip_space.models.interface import VisionLanguageModel
from blip_space.options import GenerationOptions
from tests.checkpoints import stored
from tests.checkpoints.generation import first_logits, image_features, new_tokens, with_hf_model

OPTIONS = GenerationOptions(max_new_tokens=8)
TARGETS = {"opt": ["q_proj", "v_proj"], "t5": ["q", "v"], "mt5": ["q", "v"], "bloom": ["query_key_value"]}


def adapted(folder: Path, family: str, path: Path, *, full_model: bool) -> tuple[ModelSpec, Any]:
    """A spec with a new adapter, of the full model or of its language model alone, and the model that peft adapted."""
    hf_model = Blip2ForConditionalGeneration.from_pretrained(folder)
    settings = peft.LoraConfig(r=4, target_modules=TARGETS[family])
    torch.manual_seed(1)
    part = peft.get_peft_model(hf_model if full_model else hf_model.language_model, settings)
    for name, weight in part.named_parameters():
        if "lora_B" in name and "language_model" in (name if full_model else "language_model"):
            torch.nn.init.normal_(weight, std=0.5)
    part.save_pretrained(path)
    return replace(read_folder(folder), adapter=str(path)), hf_model.eval()


def logits(model: VisionLanguageModel, image: Image.Image) -> torch.Tensor:
    return first_logits(model, image_features(model, [image])[0], "a photo of")


@pytest.mark.parametrize("full_model", [False, True])
def test_answers_with_an_adapter_are_those_of_peft(
    folders: dict[str, Path], family: str, model: Blip2, tmp_path: Path, two_images: list[Image.Image], full_model: bool
) -> None:
    spec, hf_model = adapted(folders[family], family, tmp_path / "lora", full_model=full_model)
    ours = load_model(spec)
    reference = with_hf_model(model, hf_model, spec)
    assert torch.allclose(logits(ours, two_images[0]), logits(reference, two_images[0]), atol=1e-4)
    assert not torch.allclose(logits(ours, two_images[0]), logits(model, two_images[0]), atol=1e-2)
    answers = [new_tokens(item, two_images[0], "a photo of", OPTIONS) for item in (ours, reference)]
    assert answers[0] == answers[1]


def test_adapter_has_an_effect_on_quantized_layers(
    folders: dict[str, Path], tmp_path: Path, two_images: list[Image.Image]
) -> None:
    spec, _ = adapted(folders["mt5"], "mt5", tmp_path / "lora", full_model=False)
    with_it, without = load_model(spec, "int8"), load_model(replace(spec, adapter=""), "int8")
    assert not torch.allclose(logits(with_it, two_images[0]), logits(without, two_images[0]), atol=1e-2)


def test_adapter_of_another_model_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    spec, _ = adapted(folders["opt"], "opt", tmp_path / "lora", full_model=False)
    with pytest.raises(ModelError, match="'lora' does not fit mt5"):
        load_model(replace(read_folder(folders["mt5"]), adapter=spec.adapter))


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [("adapter_config.json", "holds no adapter"), ("adapter_model.safetensors", "pickled weights are not supported")],
)
def test_incomplete_adapter_is_refused(folders: dict[str, Path], tmp_path: Path, missing: str, sentence: str) -> None:
    spec, _ = adapted(folders["opt"], "opt", tmp_path / "lora", full_model=False)
    (tmp_path / "lora" / missing).unlink()
    with pytest.raises(ModelError, match=sentence) as caught:
        load_model(spec)
    assert str(tmp_path) not in str(caught.value)
    shutil.rmtree(tmp_path / "lora")
    with pytest.raises(ModelError, match="There is no folder 'lora' for the adapter"):
        load_model(spec)


def test_blank_adapter_is_not_the_current_directory(folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="The adapter's name is empty"):
        load_model(replace(read_folder(folders["opt"]), adapter="  "))


PARTS: dict[str, dict[str, Any]] = {
    "vision-encoder": {"target_modules": ["qkv"]},
    "patches": {"target_modules": ["patch_embedding"]},
    "qformer": {"target_modules": ["query", "value"]},
    "projection": {"target_modules": ["language_projection"]},
    "vision-and-language": {"target_modules": ["qkv", "q_proj"]},
    "all-linear": {"target_modules": "all-linear"},
    "rslora": {"target_modules": ["q_proj"], "use_rslora": True},
    "dora": {"target_modules": ["q_proj"], "use_dora": True},
    "bias": {"target_modules": ["q_proj"], "bias": "all"},
    "saved-projection": {"target_modules": ["q_proj"], "modules_to_save": ["language_projection"]},
    "shared-embedding": {"target_modules": ["q_proj", "embed_tokens"]},
}


@pytest.mark.parametrize("part", PARTS)
def test_answers_with_an_adapter_of_any_part_are_those_of_peft(
    part: str, folders: dict[str, Path], loaded: Callable[[str], Blip2], tmp_path: Path, two_images: list[Image.Image]
) -> None:
    """The case adapter-of-the-eyes: adapters of the vision encoder were refused."""
    path = stored.write_adapter(folders["opt"], tmp_path / "lora", **PARTS[part])
    spec, plain = replace(read_folder(folders["opt"]), adapter=str(path)), loaded("opt")
    reference = with_hf_model(plain, stored.load_with_adapter(folders["opt"], path), spec)
    ours = logits(load_model(spec), two_images[0])
    assert torch.allclose(ours, logits(reference, two_images[0]), atol=1e-3)
    assert not torch.allclose(ours, logits(plain, two_images[0]), atol=1e-2)
    assert torch.corrcoef(torch.cat([ours, logits(load_model(spec, "bf16"), two_images[0])]))[0, 1] > 0.95


@pytest.mark.parametrize("settings", [PARTS["all-linear"], PARTS["dora"]], ids=["all-linear", "dora"])
def test_adapter_has_an_effect_on_a_checkpoint_stored_in_4_bits(
    settings: dict[str, Any], folders: dict[str, Path], tmp_path: Path, two_images: list[Image.Image]
) -> None:
    path = stored.write_adapter(folders["opt"], tmp_path / "lora", **settings)
    spec = read_folder(stored.quantize(folders["opt"], tmp_path / "small", **stored.NF4))
    with_it, without = load_model(replace(spec, adapter=str(path))), load_model(spec)
    assert not torch.allclose(logits(with_it, two_images[0]), logits(without, two_images[0]), atol=1e-2)


def test_dora_with_int8_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    path = stored.write_adapter(folders["opt"], tmp_path / "dora", **PARTS["dora"])
    with pytest.raises(ModelError, match=r"'dora' is a DoRA.*Choose bf16 or int4"):
        load_model(replace(read_folder(folders["opt"]), adapter=str(path)), "int8")


@pytest.mark.parametrize("part", ["", "language_model"])
def test_adapter_without_some_of_its_layers_is_refused(part: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """peft would apply the others without an error."""
    path = stored.write_adapter(folders["opt"], tmp_path / "half", part=part, target_modules=["q_proj", "v_proj"])
    weights = load_file(path / "adapter_model.safetensors")
    save_file(
        {key: value for key, value in weights.items() if "layers.1." not in key}, path / "adapter_model.safetensors"
    )
    with pytest.raises(
        ModelError, match=r"'half' does not fit opt: 4 of its tensors match and 4 are missing \(first: \S+\)\."
    ):
        load_model(replace(read_folder(folders["opt"]), adapter=str(path)))


@pytest.mark.parametrize("part", ["", "language_model"])
def test_wrapper_names_are_removed_from_an_adapter_of_a_compiled_model(
    part: str, folders: dict[str, Path], tmp_path: Path, two_images: list[Image.Image]
) -> None:
    path = stored.write_adapter(folders["opt"], tmp_path / "lora", part=part, target_modules=["q_proj"])
    spec = replace(read_folder(folders["opt"]), adapter=str(path))
    expected = logits(load_model(spec), two_images[0])
    file = path / "adapter_model.safetensors"
    prefix = "base_model.model."
    renamed = {key.replace(prefix, f"{prefix}_orig_mod.module."): value for key, value in load_file(file).items()}
    save_file(renamed, file)
    assert torch.allclose(logits(load_model(spec), two_images[0]), expected, atol=1e-4)


def test_adapter_with_more_weights_than_its_configuration_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    path = stored.write_adapter(folders["opt"], tmp_path / "more", target_modules=["q_proj", "v_proj"])
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["q_proj"]}))
    with pytest.raises(ModelError, match="'more' does not fit opt"):
        load_model(replace(read_folder(folders["opt"]), adapter=str(path)))


@pytest.mark.parametrize(
    "change",
    [
        {"r": "4"},
        {"target_modules": 7},
        {"r": 9},
        {"peft_type": "IA3"},
        {"peft_type": []},
        {"alora_invocation_tokens": [1]},
    ],
)
def test_unsupported_adapter_configuration_is_refused(
    change: dict[str, Any], folders: dict[str, Path], tmp_path: Path
) -> None:
    path = stored.write_adapter(folders["opt"], tmp_path / "odd", target_modules=["q_proj"])
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps(config | change))
    with pytest.raises(
        ModelError, match=r"'odd' (does not fit opt|is of the type|is an activated LoRA|lacks what peft)"
    ) as caught:
        load_model(replace(read_folder(folders["opt"]), adapter=str(path)))
    assert str(tmp_path) not in str(caught.value)


def test_error_for_an_adapter_of_other_shapes_names_its_base_model(folders: dict[str, Path], tmp_path: Path) -> None:
    path = stored.write_adapter(folders["opt"], tmp_path / "odd", target_modules=["q_proj"])
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps(config | {"r": 9, "base_model_name_or_path": "x/y"}))
    with pytest.raises(
        ModelError, match=r"'odd' does not fit opt.*trained on \(its configuration names 'x/y'\) with --model"
    ):
        load_model(replace(read_folder(folders["opt"]), adapter=str(path)))


def test_adapter_of_the_output_layer_is_applied(
    folders: dict[str, Path], loaded: Callable[[str], Blip2], tmp_path: Path, two_images: list[Image.Image]
) -> None:
    """The output layer then differs from the stored one."""
    path = stored.write_adapter(folders["t5"], tmp_path / "lora", target_modules=["lm_head"])
    spec, plain = replace(read_folder(folders["t5"]), adapter=str(path)), loaded("t5")
    reference = with_hf_model(plain, stored.load_with_adapter(folders["t5"], path), spec)
    ours = logits(load_model(spec), two_images[0])
    assert torch.allclose(ours, logits(reference, two_images[0]), atol=1e-3)
    assert not torch.allclose(ours, logits(plain, two_images[0]), atol=1e-2)


def test_head_that_merging_ties_is_refused(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint stores a head of its own."""
    path = stored.write_adapter(folders["t5"], tmp_path / "lora", target_modules=["q"])

    def tie(self: Any) -> Any:
        self.model.language_model.lm_head.weight = self.model.language_model.shared.weight
        return self.model

    monkeypatch.setattr(peft.LoraModel, "merge_and_unload", tie)
    with pytest.raises(ModelError, match="replaced the output layer of "):
        load_model(replace(read_folder(folders["t5"]), adapter=str(path)))


@pytest.mark.parametrize(
    ("owner", "step"),
    [
        (peft, "PeftModel"),
        (peft, "load_peft_weights"),
        (peft, "set_peft_model_state_dict"),
        (peft.PeftConfig, "from_pretrained"),
        (peft.LoraModel, "merge_and_unload"),
    ],
)
def test_out_of_memory_is_reported_as_such(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str
) -> None:
    path = stored.write_adapter(folders["opt"], tmp_path / "lora", target_modules=["q_proj"])

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(owner, step, fail)
    with pytest.raises(ModelError, match="does not fit into this machine's memory"):
        load_model(replace(read_folder(folders["opt"]), adapter=str(path)))


def test_only_adapter_in_a_trainers_output_is_used(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer = tmp_path / "out"
    stored.write_adapter(folders["opt"], outer / "checkpoint-100", target_modules=["q_proj"])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_model(replace(read_folder(folders["opt"]), adapter="~/out")).spec.adapter == "~/out"
    shutil.copytree(outer / "checkpoint-100", outer / "checkpoint-200")
    with pytest.raises(ModelError, match=r"holds 2 adapters \(checkpoint-100, checkpoint-200\)\. Name one of them"):
        load_model(replace(read_folder(folders["opt"]), adapter=str(outer)))
    with pytest.raises(ModelError, match="is a file, and an adapter is a folder"):
        load_model(replace(read_folder(folders["opt"]), adapter=str(outer / "checkpoint-100" / "adapter_config.json")))


def test_error_for_an_adapter_as_model_says_how_to_use_it(folders: dict[str, Path], tmp_path: Path) -> None:
    path = stored.write_adapter(folders["opt"], tmp_path / "lora", target_modules=["q_proj"])
    config = json.loads((path / "adapter_config.json").read_text())
    for base, description in (
        ("some/blip2", "for some/blip2,"),
        ("/home/me/blip2", "for blip2,"),
        (None, "for the model that"),
    ):
        config["base_model_name_or_path"] = base
        (path / "adapter_config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match=rf"lora is an adapter {description}.*--model.*--adapter"):
            find_model(str(path), folders=True)
