"""HEIC and HEIF through the optional package pillow-heif, which is imported here and nowhere else."""

from __future__ import annotations

import importlib.util
import io

from PIL import Image


def is_installed() -> bool:
    """Whether pillow-heif is there."""
    return importlib.util.find_spec("pillow_heif") is not None


def open_heif(data: bytes) -> Image.Image:
    """A lazy image of the bytes of a HEIC or HEIF; its pixels come with `load`, 8 bits each and upright.

    The class is used as it is and not registered with Pillow, so no other format is opened in another way.
    Raises whatever libheif finds, and `ImportError` without pillow-heif.
    """
    from pillow_heif import HeifImageFile

    opened: Image.Image = HeifImageFile(io.BytesIO(data))  # type: ignore[no-untyped-call]
    return opened
