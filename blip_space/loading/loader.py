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
from blip_space.catalogue.kinds import ADAPTER_CONFIG
from blip_space.catalogue.stored import BITS, Stored
from blip_space.loading.adapter import changes_head, put_on
from blip_space.loading.adapter_files import find_adapter
from blip_space.loading.device import Device, find_device, free_bytes
from blip_space.loading.download import find_weights, locate
from blip_space.loading.library_logging import drop_repeated_lines, quiet
from blip_space.loading.memory import check_room, enough_memory
from blip_space.loading.precision import choose
from blip_space.loading.preparation import explained, read_config
from blip_space.loading.progress import Tell, silent, told_of_weights
from blip_space.loading.selftest import check_head, check_image_token, check_sight, check_words
from blip_space.loading.weights import read_network
from blip_space.models import families
from blip_space.models.cpu_kernels import hasten
from blip_space.models.interface import Precision, VisionLanguageModel

log = logging.getLogger(__name__)


def load(spec: ModelSpec, precision: str = "auto", *, tell: Tell = silent) -> VisionLanguageModel:
    """The model of a catalogue's row or folder, in that precision (one of PRECISIONS, or `auto`), ready to answer.

    Downloads what is missing, and tells how far it is. Raises `ModelError` with a sentence when the precision cannot be
    had, when files are missing, incomplete, unreadable or do not fit together, when disk or memory do not suffice, when
    the model is blind, or when anything else goes wrong.
    """
    with explained(spec):
        return _load(spec, precision, tell)


def _load(spec: ModelSpec, precision: str, tell: Tell) -> VisionLanguageModel:
    device = find_device()
    decided = _decide(spec, precision, device)
    folder = locate(spec, tell=tell)
    weights = find_weights(folder, name=spec.name)
    stored = inspect_checkpoint(folder, read_headers(folder), name=spec.name)
    if stored.precision != spec.stored:  # which the row of a repository cannot know
        spec = replace(spec, stored=stored.precision, stored_bytes=stored.loaded_bytes)
        decided = _decide(spec, precision, device)
    _log_what_was_found(spec, folder, stored)
    adapter = find_adapter(spec.adapter) if spec.adapter.strip() else None
    drop_repeated_lines()
    with quiet(), told_of_weights(tell), enough_memory(spec, decided):
        config, family = read_config(folder, spec), families.find(spec.family)
        preparation = family.read_preparation(spec, folder, config)
        check_image_token(config, name=spec.name)
        check_words(preparation)
        network = read_network(folder, config, stored, family, name=spec.name, precision=decided)
        check_head(network, weights, family, name=spec.name, names=stored.names)
        if adapter:
            put_on(network, adapter, family, spec.row, name=spec.name, precision=decided)
            if not changes_head(adapter):
                check_head(network, weights, family, name=spec.name, names=stored.names)
        if device.has_bf16 and decided.device == "cpu" and decided.dtype == torch.bfloat16:
            hasten(network, family)
        model = family.build(network, preparation, decided)
        torch.set_num_threads(model.threads)
        check_sight(model)
    return model


def _decide(spec: ModelSpec, precision: str, device: Device) -> Precision:
    free = free_bytes(device.name)
    decided = choose(precision, spec, device, free=free)
    check_room(spec, decided, free=free, device=device)
    return decided


def _log_what_was_found(spec: ModelSpec, folder: Path, stored: Stored) -> None:
    """What a person would not expect of the folder, or could take for done."""
    # as warnings, since the command line shows nothing below
    if stored.precision:
        log.warning("%s is stored in %d bits, so it answers in %s", spec.name, BITS[stored.precision], stored.precision)
    if stored.left_over:
        log.warning(
            "%s: its config.json speaks of a quantisation (%s), which is passed over, since the weights are whole",
            spec.name,
            stored.left_over,
        )
    if (folder / ADAPTER_CONFIG).is_file() and not spec.adapter:
        log.warning(
            "an adapter lies beside the weights of %s and is not put on; name its folder with --adapter to put it on",
            spec.name,
        )
