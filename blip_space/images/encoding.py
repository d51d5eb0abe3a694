"""Encodes an image for another server: upright, of a bounded size, and without the metadata of its file.

Depends on decoded images only; must not connect to anything.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from blip_space.images import ImageFile, SafeImage

MAX_SIDE = 1_024
"""The longest side in pixels of an image that is sent."""

MAX_PNG_PIXELS = 65_536
"""Up to this size an image is sent as a PNG, without any loss; a larger one as a JPEG."""

JPEG_QUALITY = 90


@dataclass(frozen=True)
class EncodedImage:
    """An image as a data URL, as OpenAI's protocol takes it."""

    url: str

    @property
    def nbytes(self) -> int:
        """The size of the URL, in bytes."""
        return len(self.url)


def encode_for_sending(image: SafeImage | ImageFile) -> EncodedImage:
    """The image with sides of at most `MAX_SIDE` pixels, as a PNG or a JPEG. Raises `ImageError` if it is no image."""
    with image.open() as opened:
        pixels = opened.pixels
        share = MAX_SIDE / max(pixels.size)
        if share < 1:
            width, height = (max(1, round(side * share)) for side in pixels.size)
            pixels = pixels.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
        kind = "PNG" if pixels.width * pixels.height <= MAX_PNG_PIXELS else "JPEG"
        buffer = io.BytesIO()
        pixels.save(buffer, kind, **({"quality": JPEG_QUALITY} if kind == "JPEG" else {}))
    return EncodedImage(f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}")
