"""Loads a model: from its spec to a `VisionLanguageModel` that has been tested to use the image.

The steps are the same for every checkpoint: select the precision, find the files, load configuration, tokenizer and
weights, check that they match, and test that the model uses the image. Every error is a `ModelError`.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path

import torch

from blip_space.catalogue import ModelSpec
from blip_space.catalogue.folder import inspect_checkpoint
from blip_space.catalogue.headers import read_headers
from blip_space.catalogue.storage import BITS, StoredWeights
from blip_space.catalogue.validation import ADAPTER_CONFIG
from blip_space.errors import ModelError
from blip_space.loading.adapter import apply_lora, changes_lm_head
from blip_space.loading.adapter_files import find_adapter
from blip_space.loading.device import Device, configure_cuda, find_device, free_bytes, on_device
from blip_space.loading.download import download_checkpoint, find_weight_files
from blip_space.loading.library_logging import drop_repeated_lines, silenced
from blip_space.loading.memory import check_memory, reraise_out_of_memory
from blip_space.loading.photo_encoder import load_photo_encoder
from blip_space.loading.precision import select_precision
from blip_space.loading.preparation import as_model_error, read_config
from blip_space.loading.progress import OnProgress, ignore_progress, report_weight_loading
from blip_space.loading.selftest import check_image_is_used, check_image_token, check_lm_head, check_tokenizer
from blip_space.loading.weights import load_hf_model
from blip_space.models import families
from blip_space.models.cpu_kernels import use_cpu_kernels
from blip_space.models.int8_linear import dequantize_in_products
from blip_space.models.interface import Precision, VisionLanguageModel

log = logging.getLogger(__name__)

_ONE_LOAD = threading.Lock()
"""A server with several GPUs loads on a thread for each; transformers changes torch's default dtype meanwhile."""


def load_model(
    spec: ModelSpec, precision: str = "auto", *, device: str = "auto", on_progress: OnProgress = ignore_progress
) -> VisionLanguageModel:
    """Load the model of a spec in that precision (one of PRECISIONS, or `auto`) on that device (see `find_device`);
    missing files are downloaded first.

    Raises `ModelError`, with a message for the user, when there is no such device, when the precision is not supported,
    when files are missing, incomplete, unreadable or do not match, when disk or memory are too small, when the model
    ignores the image, or on any other error; `DeviceError` when the device fails.
    """
    if spec.server:
        raise ModelError(f"{spec.name} is computed by {spec.server_host}. Choose a model of this machine.")
    with as_model_error(spec), _ONE_LOAD:
        found = find_device(device)
        with on_device(found.name):
            return _load_and_test(spec, precision, found, on_progress)


def _load_and_test(spec: ModelSpec, precision: str, device: Device, on_progress: OnProgress) -> VisionLanguageModel:
    selected = _select_fitting_precision(spec, precision, device)
    folder = download_checkpoint(spec, on_progress=on_progress)
    weights = find_weight_files(folder, name=spec.name)
    stored = inspect_checkpoint(folder, read_headers(folder), name=spec.name)
    if stored.precision != spec.stored_precision:  # unknown for a repository before its download
        spec = replace(spec, stored_precision=stored.precision, stored_bytes=stored.loaded_bytes)
        selected = _select_fitting_precision(spec, precision, device)
    _log_surprises(spec, folder, stored)
    adapter = find_adapter(spec.adapter) if spec.adapter else None
    drop_repeated_lines()
    if device.kind == "cuda":
        configure_cuda(selected.dtype)
    with silenced(), report_weight_loading(on_progress), reraise_out_of_memory(spec, selected):
        config, family = read_config(folder, spec), families.load_family(spec.family)
        preparation = family.load_preparation(spec, folder, config)
        check_image_token(config, name=spec.name)
        check_tokenizer(preparation)
        hf_model = load_hf_model(folder, config, stored, family, name=spec.name, precision=selected)
        check_lm_head(hf_model, weights, family, name=spec.name, names=stored.names)
        if adapter:
            apply_lora(hf_model, adapter, family, spec.family_spec, name=spec.name, precision=selected)
            if not changes_lm_head(adapter):
                check_lm_head(hf_model, weights, family, name=spec.name, names=stored.names)
        if device.has_bf16 and selected.device == "cpu" and selected.dtype == torch.bfloat16:
            use_cpu_kernels(hf_model, family)
        if selected.name == "int8" and device.kind == "cuda":
            dequantize_in_products(hf_model)
        model = family.build(hf_model, preparation, selected)
        if spec.photo_encoder:
            shape = model.features_shape
            model.photo_encoder = load_photo_encoder(folder, shape, name=spec.name, device=selected.device)
        torch.set_num_threads(model.threads)
        check_image_is_used(model)
    return model


def _select_fitting_precision(spec: ModelSpec, precision: str, device: Device) -> Precision:
    free = free_bytes(device.name)
    selected = select_precision(precision, spec, device, free=free)
    check_memory(spec, selected, free=free, device=device)
    return selected


def _log_surprises(spec: ModelSpec, folder: Path, stored: StoredWeights) -> None:
    """Log what users may not expect of this folder, as warnings, since the command line hides lower levels."""
    if stored.precision:
        log.warning("%s is stored in %d bits, so it answers in %s", spec.name, BITS[stored.precision], stored.precision)
    if stored.stale_quantization:
        log.warning(
            "%s: the quantization in its config.json (%s) is ignored, since its weights are not quantized",
            spec.name,
            stored.stale_quantization,
        )
    if (folder / ADAPTER_CONFIG).is_file() and not spec.adapter:
        log.warning(
            "the adapter in the folder of %s is not applied; pass the folder with --adapter to apply it",
            spec.name,
        )
