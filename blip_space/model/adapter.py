"""A LoRA adapter of the language model, on top of a loaded checkpoint.

Knows peft, and the folders that it writes: `adapter_config.json` and `adapter_model.safetensors`. An adapter that was
trained on the whole BLIP-2 names its language model; one that was trained on the language model alone does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from blip_space.errors import ModelError
from blip_space.model.precision import Precision

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def put_on(network: Any, folder: Path, *, name: str, precision: Precision) -> None:
    """Put the adapter of that folder onto the network of the model `name`; `ModelError` where it does not fit.

    Whole numbers take it up, so that it costs nothing afterwards; beside quantised layers it stays what it is.
    """
    keys = _stored(folder)
    peft = _peft()
    whole = any("language_model." in key for key in keys)
    try:
        adapted = peft.PeftModel.from_pretrained(network if whole else network.language_model, folder)
    except (ValueError, RuntimeError, KeyError, TypeError, OSError) as error:
        raise ModelError(_misfit(folder, name)) from error
    unmet = [key for key in keys if not _met(key, adapted)]
    if unmet:
        raise ModelError(_misfit(folder, name))
    if not precision.quantised:
        adapted.merge_and_unload()
    network.eval()


def _stored(folder: Path) -> list[str]:
    """The names of the adapter's weights."""
    if not (folder / CONFIG).is_file():
        raise ModelError(f"The folder {folder.name!r} holds no adapter ({CONFIG}). Name one that peft has saved.")
    if not (folder / WEIGHTS).is_file():
        raise ModelError(
            f"The adapter {folder.name!r} has no {WEIGHTS}; weights as a pickle are not read, since they may run code. "
            "Save it again with peft, which writes safetensors."
        )
    try:
        with safe_open(folder / WEIGHTS, "pt") as opened:
            return list(opened.keys())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{WEIGHTS} of the adapter {folder.name!r} is damaged. Copy it again.") from error


def _met(key: str, adapted: Any) -> bool:
    """Whether a stored weight has its place; peft keeps each under a name with `default` in it."""
    place = ".".join(key.split(".")[:-2])  # without "lora_A.weight"
    return any(name.startswith(place) for name, _ in adapted.named_parameters())


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise ModelError("Adapters need peft, which is not installed: pip install 'peft>=0.17,<1'.") from None
    return peft


def _misfit(folder: Path, name: str) -> str:
    return f"The adapter {folder.name!r} does not fit {name}. Name the model that it was trained on with --model."
