"""From a name's row to a model that is known to see.

One path for every checkpoint: find its files, choose the precision, read configuration, weights and tokenizer, refuse
what does not fit together, and test the sight. Whatever a person can do something about is a `ModelError`. Knows
nothing of who wants the model.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import Blip2Config, Blip2ForConditionalGeneration

from blip_space.catalogue import ModelSpec
from blip_space.errors import ModelError
from blip_space.model.adapter import put_on
from blip_space.model.blip2 import Blip2
from blip_space.model.checkpoint import AGAIN, find_weights, locate
from blip_space.model.cpu import hasten
from blip_space.model.device import ALL_THREADS, find_device, free_bytes
from blip_space.model.frame import Frame, read_frame
from blip_space.model.memory import check_room, enough_memory, ran_out
from blip_space.model.precision import Precision, choose
from blip_space.model.quantisation import quantisation, settle
from blip_space.model.quiet import quiet
from blip_space.model.selftest import check_head, check_image_token, check_sight, check_words
from blip_space.model.steps import Tell, silent, told_of_weights
from blip_space.model.tokens import read_tokens

log = logging.getLogger(__name__)

LEAST_PARAMETERS = 50_000_000
"""Below that, and for few rows, threads wait for each other longer than they compute."""

UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, KeyError, SafetensorError)


def load(spec: ModelSpec, precision: str = "auto", *, tell: Tell = silent) -> Blip2:
    """The model of a catalogue's row or folder, in that precision (one of PRECISIONS, or `auto`), ready to answer.

    Downloads what is missing, and tells how far it is. Raises `ModelError` with a sentence when the precision cannot be
    had, when files are missing, incomplete, unreadable or do not fit together, when disk or memory do not suffice, or
    when the model is blind.
    """
    if spec.fault:
        raise ModelError(spec.fault)
    device = find_device()
    free = free_bytes(device.name)
    decided = choose(precision, spec, device, free=free)
    check_room(spec, decided, free=free)
    folder = locate(spec, tell=tell)
    weights = find_weights(folder, name=spec.name)
    tokens = read_tokens(folder, name=spec.name)
    with quiet(), told_of_weights(tell), enough_memory(spec, decided):
        config = _read_config(folder, name=spec.name)
        check_image_token(config, name=spec.name)
        frame = _read_frame(folder, config, name=spec.name)
        network = _read_network(folder, config, spec=spec, precision=decided)
        check_head(network, weights, name=spec.name)
        if spec.adapter:
            put_on(network, Path(spec.adapter), name=spec.name, precision=decided)
        if device.has_bf16 and decided.device == "cpu" and decided.dtype == torch.bfloat16:
            hasten(network)
        model = Blip2(network, tokens, frame=frame, spec=spec, precision=decided)
        torch.set_num_threads(1 if spec.parameters < LEAST_PARAMETERS else ALL_THREADS)
        check_words(model)
        check_sight(model)
    return model


def _read_config(folder: Path, *, name: str) -> Any:
    try:
        config = Blip2Config.from_pretrained(folder)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, StrictDataclassError) as error:
        raise ModelError(f"config.json of {name} cannot be read as a BLIP-2's. {AGAIN}.") from error
    return config


def _read_frame(folder: Path, config: Any, *, name: str) -> Frame:
    try:
        return read_frame(folder, size=int(config.vision_config.image_size))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"How {name} wants its pictures (preprocessor_config.json) cannot be read. {AGAIN}."
        ) from error


def _read_network(folder: Path, config: Any, *, spec: ModelSpec, precision: Precision) -> Any:
    """The network on its one device, in evaluation mode, every number of it from the checkpoint."""
    try:
        network, found = Blip2ForConditionalGeneration.from_pretrained(
            folder,
            config=config,
            dtype=precision.dtype,
            quantization_config=quantisation(precision),
            device_map={"": precision.device},  # "auto" would part the query tokens from the rest on several GPUs
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # so that they are listed, and refused below
            output_loading_info=True,
        )
    except UNREADABLE as error:
        if ran_out(error):
            raise
        raise ModelError(f"The weights of {spec.name} cannot be read. {AGAIN}.") from error
    _refuse_misfits(network, found, name=spec.name)
    settle(network)
    return network


def _refuse_misfits(network: Any, found: dict[str, Any], *, name: str) -> None:
    """Raise `ModelError` when a part would be newly initialised, or when weights hold more layers than the config."""
    parts = {_pattern(key) for key in network.state_dict()}
    beyond = sorted(key for key in found["unexpected_keys"] if _pattern(key) in parts)
    mismatched = sorted(row[0] for row in found["mismatched_keys"])
    for kind, keys in (
        ("are missing", sorted(found["missing_keys"])),
        ("have another shape than its config.json says", mismatched),
        ("have no place in the model that its config.json describes", beyond),
    ):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise ModelError(f"The weights of {name} do not fit: {keys[0]}{more} {kind}. {AGAIN}.")
    if found["unexpected_keys"]:
        log.info("%s: %d stored tensors are of no use here", name, len(found["unexpected_keys"]))


def _pattern(key: str) -> str:
    return re.sub(r"\d+", "*", key)
