"""A LoRA adapter changes what is answered, exactly as peft has it, and one that does not fit is told."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from PIL import Image
from transformers import Blip2ForConditionalGeneration

from blip_space.catalogue import ModelSpec, read_folder
from blip_space.errors import ModelError
from blip_space.model.blip2 import Blip2
from blip_space.model.loader import load
from blip_space.options import GenerationOptions

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


def logits(model: Blip2, picture: Image.Image) -> torch.Tensor:
    return model.first_logits(model.encode([picture]), "a photo of")


@pytest.mark.parametrize("whole", [False, True])
def test_an_adapter_answers_as_peft_has_it(
    folders: dict[str, Path], family: str, model: Blip2, tmp_path: Path, pictures: list[Image.Image], whole: bool
) -> None:
    spec, network = adapted(folders[family], family, tmp_path / "lora", whole=whole)
    ours = load(spec)
    reference = Blip2(network, model._tokens, frame=model._frame, spec=spec, precision=model.precision)
    assert torch.allclose(logits(ours, pictures[0]), logits(reference, pictures[0]), atol=1e-4)
    assert not torch.allclose(logits(ours, pictures[0]), logits(model, pictures[0]), atol=1e-2)
    prompt = ours.prompt(ours.encode(pictures[:1]), "a photo of", OPTIONS)
    assert list(ours.stream(prompt)) == list(reference.stream(prompt))


def test_beside_quantised_layers_an_adapter_still_counts(
    folders: dict[str, Path], tmp_path: Path, pictures: list[Image.Image]
) -> None:
    spec, _ = adapted(folders["mt5"], "mt5", tmp_path / "lora", whole=False)
    with_it, without = load(spec, "int8"), load(replace(spec, adapter=""), "int8")
    assert not torch.allclose(logits(with_it, pictures[0]), logits(without, pictures[0]), atol=1e-2)


def test_an_adapter_of_another_model_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    spec, _ = adapted(folders["opt"], "opt", tmp_path / "lora", whole=False)
    with pytest.raises(ModelError, match="'lora' does not fit mt5"):
        load(replace(read_folder(folders["mt5"]), adapter=spec.adapter))


@pytest.mark.parametrize(
    ("lost", "sentence"),
    [("adapter_config.json", "holds no adapter"), ("adapter_model.safetensors", "weights as a pickle are not read")],
)
def test_half_an_adapter_is_told(folders: dict[str, Path], tmp_path: Path, lost: str, sentence: str) -> None:
    spec, _ = adapted(folders["opt"], "opt", tmp_path / "lora", whole=False)
    (tmp_path / "lora" / lost).unlink()
    with pytest.raises(ModelError, match=sentence) as caught:
        load(spec)
    assert str(tmp_path) not in str(caught.value)
    shutil.rmtree(tmp_path / "lora")
    with pytest.raises(ModelError, match="There is no folder 'lora' for the adapter"):
        load(spec)
