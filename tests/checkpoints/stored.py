"""Checkpoints as people save them: quantised, under a wrapper's name, with an adapter; made from small ones."""

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
    """As the transformers of 2023 quantised it, which knew no list of parts that stay whole."""

    _keep_in_fp32_modules = None


def copy_checkpoint(source: Path, folder: Path) -> Path:
    """A checkpoint of the caller's own."""
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
    """Overwrite fields of config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | changes), "utf-8")
    return folder


def quantize(source: Path, folder: Path, kind: Any = Blip2ForConditionalGeneration, **settings: Any) -> Path:
    """The checkpoint of `source`, saved in fewer bits by transformers itself."""
    copy_checkpoint(source, folder)
    (folder / "model.safetensors").unlink()
    network = load_as_stored(source, kind, quantization_config=BitsAndBytesConfig(**settings))
    with silenced():
        network.save_pretrained(folder)
    return folder


def load_as_stored(folder: Path, kind: Any = Blip2ForConditionalGeneration, **arguments: Any) -> Any:
    """What transformers alone makes of a folder, in bf16."""
    with silenced():
        return kind.from_pretrained(folder, device_map={"": "cpu"}, dtype=torch.bfloat16, **arguments).eval()


def rename_weights(folder: Path, name: Callable[[str], str]) -> Path:
    """Call every weight otherwise."""
    return change_weights(folder, lambda weights: {name(key): value for key, value in weights.items()})


def write_adapter(source: Path, folder: Path, *, part: str = "", **settings: Any) -> Path:
    """A LoRA with random weights, of the whole model or of one part of it, as peft saves it."""
    with silenced():
        network = Blip2ForConditionalGeneration.from_pretrained(source)
        torch.manual_seed(1)
        adapted = peft.get_peft_model(getattr(network, part) if part else network, peft.LoraConfig(r=4, **settings))
        for weight in adapted.parameters():
            if weight.requires_grad:
                torch.nn.init.normal_(weight, std=0.3)
        adapted.save_pretrained(folder)
    return folder


def load_with_adapter(source: Path, adapter: Path) -> Any:
    """What transformers and peft alone make of a checkpoint and an adapter of the whole model."""
    with silenced():
        network = Blip2ForConditionalGeneration.from_pretrained(source)
        return peft.PeftModel.from_pretrained(network, adapter).base_model.model.eval()
