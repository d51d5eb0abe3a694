"""Loads what requests are prepared with, without the model: tokenizer, image processor and an image's position count.

Depends on the small files of a checkpoint (tokenizer, image processor, `config.json`). Must not import `weights`, or
build a model.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blip_space.catalogue import ModelSpec
from blip_space.catalogue.folder import inspect_checkpoint
from blip_space.catalogue.headers import read_headers
from blip_space.catalogue.parsing import read_json
from blip_space.errors import ModelError
from blip_space.loading.device_errors import as_device_error, is_device_lost
from blip_space.loading.download import download_small_files
from blip_space.loading.library_logging import silenced
from blip_space.loading.memory import is_out_of_memory
from blip_space.models import families
from blip_space.models.preparation import Preparation

log = logging.getLogger(__name__)

COPY_AGAIN = "Copy it again from where the checkpoint came from"


def load_preparation(spec: ModelSpec) -> Preparation:
    """Load the preparation for a spec. The small files of a hub repository are downloaded unless they are cached.

    The preparation is immutable, so any thread may use it. Raises `ModelError`, with the messages of
    `loader.load_model`, if files are missing or unreadable, or cannot be downloaded.
    """
    with as_model_error(spec):
        folder = download_small_files(spec)
        inspect_checkpoint(folder, read_headers(folder), name=spec.name)  # raises if the model is not supported
        with silenced():
            return families.load_family(spec.family).load_preparation(spec, folder, read_config(folder, spec))


def read_config(folder: Path, spec: ModelSpec) -> Any:
    """The configuration in `config.json`, without its quantization entries, which transformers would apply by itself.

    Raises `ModelError` if it is not a valid configuration of the model's family.
    """
    content = read_json(folder / "config.json", name=spec.name)
    for part in (content, *content.values()):
        if isinstance(part, dict):
            part.pop("quantization_config", None)
    try:
        return families.load_family(spec.family).config_class.from_dict(content)
    except Exception as error:  # transformers' checks raise any type
        raise ModelError(
            f"config.json of {spec.name} cannot be read as that of {spec.family_spec.noun}. {COPY_AGAIN}."
        ) from error


@contextmanager
def as_model_error(spec: ModelSpec) -> Iterator[None]:
    """Turn every error within the context into a `ModelError`, or a `DeviceError` where it is one of a failed GPU;
    raise one at once for a spec with a `load_error`."""
    if spec.load_error:
        raise ModelError(spec.load_error)
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        if is_device_lost(error):
            raise as_device_error(error) from error
        log.debug("%s could not be loaded", spec.name, exc_info=True)
        raise ModelError(_unexpected_error_message(spec, error)) from error


def _unexpected_error_message(spec: ModelSpec, error: Exception) -> str:
    if is_out_of_memory(error):
        way_out = "Choose a smaller model or precision, or free some memory."
        return f"The memory ran out while {spec.name} was loaded. {way_out}"
    adapter = " with its adapter" if spec.adapter else ""
    return (
        f"{spec.name} could not be loaded{adapter}: {type(error).__name__} while {spec.family_spec.noun} with "
        f"{spec.language_model_type} as its language model was loaded. Save it again with transformers' "
        "save_pretrained() on a machine where it works, or choose another model."
    )
