"""Variants of small checkpoints as users save them: quantized, under a wrapper's prefix, with an adapter."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load_file, save_file
from transformers import BitsAndBytesConfig, Blip2ForConditionalGeneration

from blip_space.loading.library_logging import silenced

INT8 = {"load_in_8bit": True}
NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
FP4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}
DOUBLE_NF4 = {**NF4, "bnb_4bit_use_double_quant": True}


class FullyQuantized(Blip2ForConditionalGeneration):  # type: ignore[misc]  # transformers has no types here
    """As transformers quantized it in 2023, without a list of modules that keep their precision."""

    _keep_in_fp32_modules = None


def copy_checkpoint(source: Path, folder: Path) -> Path:
    """A copy for the caller to change."""
    shutil.copytree(source, folder)
    return folder


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Path:
    """Rewrite the weights."""
    weights = change(load_file(folder / "model.safetensors"))
    save_file(
        {key: value.contiguous() for key, value in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    return folder


def change_config(folder: Path, **changes: Any) -> Path:
    """Overwrite fields of `config.json`."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | changes), "utf-8")
    return folder


def quantize(source: Path, folder: Path, model_class: Any = Blip2ForConditionalGeneration, **settings: Any) -> Path:
    """The checkpoint of `source`, quantized and saved by transformers itself."""
    copy_checkpoint(source, folder)
    (folder / "model.safetensors").unlink()
    hf_model = load_as_stored(source, model_class, quantization_config=BitsAndBytesConfig(**settings))
    with silenced():
        hf_model.save_pretrained(folder)
    return folder


def load_as_stored(folder: Path, model_class: Any = Blip2ForConditionalGeneration, **arguments: Any) -> Any:
    """What transformers alone makes of a folder, in bf16."""
    with silenced():
        return model_class.from_pretrained(folder, device_map={"": "cpu"}, dtype=torch.bfloat16, **arguments).eval()


def rename_weights(folder: Path, name: Callable[[str], str]) -> Path:
    """Rename every weight."""
    return change_weights(folder, lambda weights: {name(key): value for key, value in weights.items()})


def write_adapter(source: Path, folder: Path, *, part: str = "", **settings: Any) -> Path:
    """A LoRA with random weights as peft saves it, of the full model or of one part of it."""
    with silenced():
        hf_model = Blip2ForConditionalGeneration.from_pretrained(source)
        torch.manual_seed(1)
        adapted = peft.get_peft_model(getattr(hf_model, part) if part else hf_model, peft.LoraConfig(r=4, **settings))
        for weight in adapted.parameters():
            if weight.requires_grad:
                torch.nn.init.normal_(weight, std=0.3)
        adapted.save_pretrained(folder)
    return folder


def load_with_adapter(source: Path, adapter: Path) -> Any:
    """What transformers and peft alone make of a checkpoint and an adapter of the full model."""
    with silenced():
        hf_model = Blip2ForConditionalGeneration.from_pretrained(source)
        return peft.PeftModel.from_pretrained(hf_model, adapter).base_model.model.eval()
