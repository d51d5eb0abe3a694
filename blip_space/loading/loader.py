"""From a name's row to a model that is known to see.

One path for every checkpoint: find its files, choose the precision, read configuration, tokenizer and weights, refuse
what does not fit together, and test the sight. Whatever goes wrong is a `ModelError`. Knows nothing of who wants the
model.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch

from blip_space.catalogue import ModelSpec
from blip_space.catalogue.folder import inspect_checkpoint
from blip_space.catalogue.headers import read_headers
from blip_space.catalogue.storage import BITS, StoredWeights
from blip_space.catalogue.validation import ADAPTER_CONFIG
from blip_space.loading.adapter import apply_lora, changes_lm_head
from blip_space.loading.adapter_files import find_adapter
from blip_space.loading.device import Device, find_device, free_bytes
from blip_space.loading.download import download_checkpoint, find_weight_files
from blip_space.loading.library_logging import drop_repeated_lines, silenced
from blip_space.loading.memory import check_memory, reraise_out_of_memory
from blip_space.loading.precision import select_precision
from blip_space.loading.preparation import as_model_error, read_config
from blip_space.loading.progress import OnProgress, ignore_progress, report_weight_loading
from blip_space.loading.selftest import check_image_is_used, check_image_token, check_lm_head, check_tokenizer
from blip_space.loading.weights import load_hf_model
from blip_space.models import families
from blip_space.models.cpu_kernels import use_cpu_kernels
from blip_space.models.interface import Precision, VisionLanguageModel

log = logging.getLogger(__name__)


def load_model(
    spec: ModelSpec, precision: str = "auto", *, on_progress: OnProgress = ignore_progress
) -> VisionLanguageModel:
    """The model of a catalogue's row or folder, in that precision (one of PRECISIONS, or `auto`), ready to answer.

    Downloads what is missing, and tells how far it is. Raises `ModelError` with a sentence when the precision cannot be
    had, when files are missing, incomplete, unreadable or do not fit together, when disk or memory do not suffice, when
    the model is blind, or when anything else goes wrong.
    """
    with as_model_error(spec):
        return _load(spec, precision, on_progress)


def _load(spec: ModelSpec, precision: str, tell: OnProgress) -> VisionLanguageModel:
    device = find_device()
    decided = _decide(spec, precision, device)
    folder = download_checkpoint(spec, on_progress=tell)
    weights = find_weight_files(folder, name=spec.name)
    stored = inspect_checkpoint(folder, read_headers(folder), name=spec.name)
    if stored.precision != spec.stored_precision:  # which the row of a repository cannot know
        spec = replace(spec, stored_precision=stored.precision, stored_bytes=stored.loaded_bytes)
        decided = _decide(spec, precision, device)
    _log_what_was_found(spec, folder, stored)
    adapter = find_adapter(spec.adapter) if spec.adapter.strip() else None
    drop_repeated_lines()
    with silenced(), report_weight_loading(tell), reraise_out_of_memory(spec, decided):
        config, family = read_config(folder, spec), families.load_family(spec.family)
        preparation = family.load_preparation(spec, folder, config)
        check_image_token(config, name=spec.name)
        check_tokenizer(preparation)
        network = load_hf_model(folder, config, stored, family, name=spec.name, precision=decided)
        check_lm_head(network, weights, family, name=spec.name, names=stored.names)
        if adapter:
            apply_lora(network, adapter, family, spec.family_spec, name=spec.name, precision=decided)
            if not changes_lm_head(adapter):
                check_lm_head(network, weights, family, name=spec.name, names=stored.names)
        if device.has_bf16 and decided.device == "cpu" and decided.dtype == torch.bfloat16:
            use_cpu_kernels(network, family)
        model = family.build(network, preparation, decided)
        torch.set_num_threads(model.threads)
        check_image_is_used(model)
    return model


def _decide(spec: ModelSpec, precision: str, device: Device) -> Precision:
    free = free_bytes(device.name)
    decided = select_precision(precision, spec, device, free=free)
    check_memory(spec, decided, free=free, device=device)
    return decided


def _log_what_was_found(spec: ModelSpec, folder: Path, stored: StoredWeights) -> None:
    """What a person would not expect of the folder, or could take for done."""
    # as warnings, since the command line shows nothing below
    if stored.precision:
        log.warning("%s is stored in %d bits, so it answers in %s", spec.name, BITS[stored.precision], stored.precision)
    if stored.stale_quantization:
        log.warning(
            "%s: its config.json speaks of a quantisation (%s), which is passed over, since the weights are whole",
            spec.name,
            stored.stale_quantization,
        )
    if (folder / ADAPTER_CONFIG).is_file() and not spec.adapter:
        log.warning(
            "an adapter lies beside the weights of %s and is not put on; name its folder with --adapter to put it on",
            spec.name,
        )
