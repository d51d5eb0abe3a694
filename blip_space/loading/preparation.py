"""What a request needs of a model before the model is needed: token ids, pixel values and how many positions an image
takes.

Depends on the small files of a checkpoint (tokenizer, image processor, `config.json`); reads no weights and builds no
network, and must not import what does. Nothing is changed after construction, so any thread may use it.
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
from blip_space.loading.download import download_small_files
from blip_space.loading.library_logging import silenced
from blip_space.loading.memory import is_out_of_memory
from blip_space.models import families
from blip_space.models.preparation import Preparation

log = logging.getLogger(__name__)

COPY_AGAIN = "Copy it again from where the checkpoint came from"


def load_preparation(spec: ModelSpec) -> Preparation:
    """The preparation of a catalogue's row or folder; of a repository of the hub the small files are downloaded first,
    and found again offline.

    Raises `ModelError`, with the sentences of `loader.load`, when they cannot be had, or are missing or unreadable.
    """
    with as_model_error(spec):
        folder = download_small_files(spec)
        inspect_checkpoint(folder, read_headers(folder), name=spec.name)  # which refuses what is of no family
        with silenced():
            return families.load_family(spec.family).load_preparation(spec, folder, read_config(folder, spec))


def read_config(folder: Path, spec: ModelSpec) -> Any:
    """The configuration without what it says of a quantisation, of which transformers would act by itself.

    Raises `ModelError` where it cannot be read as one of the model's family.
    """
    content = read_json(folder / "config.json", name=spec.name)
    for part in (content, *content.values()):
        if isinstance(part, dict):
            part.pop("quantization_config", None)
    try:
        return families.load_family(spec.family).config_class.from_dict(content)
    except Exception as error:  # the file is not ours, and its checks raise what they like
        raise ModelError(
            f"config.json of {spec.name} cannot be read as that of {spec.family_spec.noun}. {COPY_AGAIN}."
        ) from error


@contextmanager
def as_model_error(spec: ModelSpec) -> Iterator[None]:
    """Whatever goes wrong inside is a `ModelError`; a model that is known to have a fault is refused at once."""
    if spec.load_error:
        raise ModelError(spec.load_error)
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        log.debug("%s cannot be had", spec.name, exc_info=True)
        raise ModelError(_unexpected(spec, error)) from error


def _unexpected(spec: ModelSpec, error: Exception) -> str:
    """What is said of an error that no check foresaw."""
    if is_out_of_memory(error):
        way_out = "Choose a smaller model or precision, or free some memory."
        return f"The memory ran out while {spec.name} was loaded. {way_out}"
    adapter = " with its adapter" if spec.adapter else ""
    return (
        f"{spec.name} could not be loaded{adapter}: {type(error).__name__} where {spec.family_spec.noun} with "
        f"{spec.language_model_type} as its language model was read. Save it again with transformers' "
        "save_pretrained() where it works, or choose another model."
    )
