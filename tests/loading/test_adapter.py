"""A LoRA adapter changes what is answered, exactly as peft has it, and one that does not fit is told."""

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


def adapted(folder: Path, family: str, place: Path, *, whole: bool) -> tuple[ModelSpec, Any]:
    """A spec with a new adapter, trained on the whole model or on its language model alone, and peft's own network."""
    network = Blip2ForConditionalGeneration.from_pretrained(folder)
    settings = peft.LoraConfig(r=4, target_modules=TARGETS[family])
    torch.manual_seed(1)
    part = peft.get_peft_model(network if whole else network.language_model, settings)
    for name, weight in part.named_parameters():
        if "lora_B" in name and "language_model" in (name if whole else "language_model"):
            torch.nn.init.normal_(weight, std=0.5)
    part.save_pretrained(place)
    return replace(read_folder(folder), adapter=str(place)), network.eval()


def logits(model: VisionLanguageModel, picture: Image.Image) -> torch.Tensor:
    return first_logits(model, image_features(model, [picture])[0], "a photo of")


@pytest.mark.parametrize("whole", [False, True])
def test_an_adapter_answers_as_peft_has_it(
    folders: dict[str, Path], family: str, model: Blip2, tmp_path: Path, two_images: list[Image.Image], whole: bool
) -> None:
    spec, network = adapted(folders[family], family, tmp_path / "lora", whole=whole)
    ours = load_model(spec)
    reference = with_hf_model(model, network, spec)
    assert torch.allclose(logits(ours, two_images[0]), logits(reference, two_images[0]), atol=1e-4)
    assert not torch.allclose(logits(ours, two_images[0]), logits(model, two_images[0]), atol=1e-2)
    answers = [new_tokens(one, two_images[0], "a photo of", OPTIONS) for one in (ours, reference)]
    assert answers[0] == answers[1]


def test_beside_quantised_layers_an_adapter_still_counts(
    folders: dict[str, Path], tmp_path: Path, two_images: list[Image.Image]
) -> None:
    spec, _ = adapted(folders["mt5"], "mt5", tmp_path / "lora", whole=False)
    with_it, without = load_model(spec, "int8"), load_model(replace(spec, adapter=""), "int8")
    assert not torch.allclose(logits(with_it, two_images[0]), logits(without, two_images[0]), atol=1e-2)


def test_an_adapter_of_another_model_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    spec, _ = adapted(folders["opt"], "opt", tmp_path / "lora", whole=False)
    with pytest.raises(ModelError, match="'lora' does not fit mt5"):
        load_model(replace(read_folder(folders["mt5"]), adapter=spec.adapter))


@pytest.mark.parametrize(
    ("lost", "sentence"),
    [("adapter_config.json", "holds no adapter"), ("adapter_model.safetensors", "weights as a pickle are not read")],
)
def test_half_an_adapter_is_told(folders: dict[str, Path], tmp_path: Path, lost: str, sentence: str) -> None:
    spec, _ = adapted(folders["opt"], "opt", tmp_path / "lora", whole=False)
    (tmp_path / "lora" / lost).unlink()
    with pytest.raises(ModelError, match=sentence) as caught:
        load_model(spec)
    assert str(tmp_path) not in str(caught.value)
    shutil.rmtree(tmp_path / "lora")
    with pytest.raises(ModelError, match="There is no folder 'lora' for the adapter"):
        load_model(spec)


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
def test_an_adapter_of_any_part_answers_as_peft_has_it(
    part: str, folders: dict[str, Path], loaded: Callable[[str], Blip2], tmp_path: Path, two_images: list[Image.Image]
) -> None:
    """adapter-of-the-eyes: "Name the model that it was trained on", which it was."""
    place = stored.write_adapter(folders["opt"], tmp_path / "lora", **PARTS[part])
    spec, plain = replace(read_folder(folders["opt"]), adapter=str(place)), loaded("opt")
    reference = with_hf_model(plain, stored.load_with_adapter(folders["opt"], place), spec)
    ours = logits(load_model(spec), two_images[0])
    assert torch.allclose(ours, logits(reference, two_images[0]), atol=1e-3)
    assert not torch.allclose(ours, logits(plain, two_images[0]), atol=1e-2)
    assert torch.corrcoef(torch.cat([ours, logits(load_model(spec, "bf16"), two_images[0])]))[0, 1] > 0.95


@pytest.mark.parametrize("settings", [PARTS["all-linear"], PARTS["dora"]], ids=["all-linear", "dora"])
def test_on_a_checkpoint_that_is_stored_in_4_bits_an_adapter_counts(
    settings: dict[str, Any], folders: dict[str, Path], tmp_path: Path, two_images: list[Image.Image]
) -> None:
    place = stored.write_adapter(folders["opt"], tmp_path / "lora", **settings)
    spec = read_folder(stored.quantize(folders["opt"], tmp_path / "small", **stored.NF4))
    with_it, without = load_model(replace(spec, adapter=str(place))), load_model(spec)
    assert not torch.allclose(logits(with_it, two_images[0]), logits(without, two_images[0]), atol=1e-2)


def test_dora_beside_int8_is_told_before_it_fails(folders: dict[str, Path], tmp_path: Path) -> None:
    place = stored.write_adapter(folders["opt"], tmp_path / "dora", **PARTS["dora"])
    with pytest.raises(ModelError, match=r"'dora' is a DoRA.*Choose bf16 or int4"):
        load_model(replace(read_folder(folders["opt"]), adapter=str(place)), "int8")


@pytest.mark.parametrize("part", ["", "language_model"])
def test_an_adapter_that_fills_only_some_of_its_layers_is_refused(
    part: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    """peft applies the rest without an error."""
    place = stored.write_adapter(folders["opt"], tmp_path / "half", part=part, target_modules=["q_proj", "v_proj"])
    weights = load_file(place / "adapter_model.safetensors")
    save_file(
        {key: value for key, value in weights.items() if "layers.1." not in key}, place / "adapter_model.safetensors"
    )
    with pytest.raises(ModelError, match=r"'half' does not fit opt: it fills 4 of its weights and lacks 4 \(\S+\)"):
        load_model(replace(read_folder(folders["opt"]), adapter=str(place)))


@pytest.mark.parametrize("part", ["", "language_model"])
def test_an_adapter_that_was_saved_from_a_compiled_model_loses_the_wrappers_name(
    part: str, folders: dict[str, Path], tmp_path: Path, two_images: list[Image.Image]
) -> None:
    place = stored.write_adapter(folders["opt"], tmp_path / "lora", part=part, target_modules=["q_proj"])
    spec = replace(read_folder(folders["opt"]), adapter=str(place))
    expected = logits(load_model(spec), two_images[0])
    file = place / "adapter_model.safetensors"
    prefix = "base_model.model."
    renamed = {key.replace(prefix, f"{prefix}_orig_mod.module."): value for key, value in load_file(file).items()}
    save_file(renamed, file)
    assert torch.allclose(logits(load_model(spec), two_images[0]), expected, atol=1e-4)


def test_an_adapter_with_weights_beyond_its_configuration_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    place = stored.write_adapter(folders["opt"], tmp_path / "more", target_modules=["q_proj", "v_proj"])
    config = json.loads((place / "adapter_config.json").read_text())
    (place / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["q_proj"]}))
    with pytest.raises(ModelError, match="'more' does not fit opt"):
        load_model(replace(read_folder(folders["opt"]), adapter=str(place)))


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
def test_a_configuration_of_another_kind_is_told(
    change: dict[str, Any], folders: dict[str, Path], tmp_path: Path
) -> None:
    place = stored.write_adapter(folders["opt"], tmp_path / "odd", target_modules=["q_proj"])
    config = json.loads((place / "adapter_config.json").read_text())
    (place / "adapter_config.json").write_text(json.dumps(config | change))
    with pytest.raises(
        ModelError, match=r"'odd' (does not fit opt|is of the type|is an activated LoRA|does not say what peft)"
    ) as caught:
        load_model(replace(read_folder(folders["opt"]), adapter=str(place)))
    assert str(tmp_path) not in str(caught.value)


def test_an_adapter_of_other_shapes_is_told_with_the_model_that_it_names(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    place = stored.write_adapter(folders["opt"], tmp_path / "odd", target_modules=["q_proj"])
    config = json.loads((place / "adapter_config.json").read_text())
    (place / "adapter_config.json").write_text(json.dumps(config | {"r": 9, "base_model_name_or_path": "x/y"}))
    with pytest.raises(ModelError, match=r"'odd' does not fit opt.*trained on, 'x/y' as it says, with --model"):
        load_model(replace(read_folder(folders["opt"]), adapter=str(place)))


def test_an_adapter_of_the_output_layer_is_put_onto_it(
    folders: dict[str, Path], loaded: Callable[[str], Blip2], tmp_path: Path, two_images: list[Image.Image]
) -> None:
    """Which then differs from the stored one."""
    place = stored.write_adapter(folders["t5"], tmp_path / "lora", target_modules=["lm_head"])
    spec, plain = replace(read_folder(folders["t5"]), adapter=str(place)), loaded("t5")
    reference = with_hf_model(plain, stored.load_with_adapter(folders["t5"], place), spec)
    ours = logits(load_model(spec), two_images[0])
    assert torch.allclose(ours, logits(reference, two_images[0]), atol=1e-3)
    assert not torch.allclose(ours, logits(plain, two_images[0]), atol=1e-2)


def test_an_adapter_keeps_the_language_models_own_head(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merging must not tie what the checkpoint stores apart."""
    place = stored.write_adapter(folders["t5"], tmp_path / "lora", target_modules=["q"])

    def tie(self: Any) -> Any:
        self.model.language_model.lm_head.weight = self.model.language_model.shared.weight
        return self.model

    monkeypatch.setattr(peft.LoraModel, "merge_and_unload", tie)
    with pytest.raises(ModelError, match="its embedding in the place of its own head"):
        load_model(replace(read_folder(folders["t5"]), adapter=str(place)))


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
def test_memory_that_runs_out_is_told_as_memory(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str
) -> None:
    place = stored.write_adapter(folders["opt"], tmp_path / "lora", target_modules=["q_proj"])

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(owner, step, fail)
    with pytest.raises(ModelError, match="does not fit into this machine's memory"):
        load_model(replace(read_folder(folders["opt"]), adapter=str(place)))


def test_a_trainers_output_with_one_checkpoint_is_that_checkpoint(
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


def test_an_adapters_folder_named_as_a_model_says_how_it_is_used(folders: dict[str, Path], tmp_path: Path) -> None:
    place = stored.write_adapter(folders["opt"], tmp_path / "lora", target_modules=["q_proj"])
    config = json.loads((place / "adapter_config.json").read_text())
    for base, told in (
        ("some/blip2", "for some/blip2,"),
        ("/home/me/blip2", "for blip2,"),
        (None, "for the model that"),
    ):
        config["base_model_name_or_path"] = base
        (place / "adapter_config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match=rf"lora is an adapter {told}.*--model.*--adapter"):
            find_model(str(place), folders=True)
