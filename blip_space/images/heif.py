"""Open HEIC and HEIF with the optional package pillow-heif, which is imported only here."""

from __future__ import annotations

import importlib.util
import io

from PIL import Image


def is_installed() -> bool:
    """Whether pillow-heif is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def open_heif(data: bytes) -> Image.Image:
    """An image of a HEIC or HEIF file, not decoded yet; its `load` decodes upright pixels of 8 bits per channel.

    The plugin is not registered with Pillow, so other formats are opened as before. Raises any exception for damaged
    bytes, and `ImportError` without pillow-heif.
    """
    from pillow_heif import HeifImageFile

    image: Image.Image = HeifImageFile(io.BytesIO(data))  # type: ignore[no-untyped-call]
    return image
